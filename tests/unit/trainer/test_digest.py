"""The digest of a state sees every bit and every place."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eflib.trainer.state.digest import digest

LAWS = settings(derandomize=True, deadline=None, max_examples=60)
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8]
SIZES = st.one_of(st.integers(1, 40), st.sampled_from([8191, 8192, 3 * 8191 * 2 + 5, 40_001]))


def filled(size, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(0, 256, (size * dtype.itemsize,), generator=generator)
    return numbers.to(torch.uint8).view(dtype)


@LAWS
@given(SIZES, st.sampled_from(DTYPES), st.data())
def test_any_single_bit_changes_the_digest(size, dtype, data):
    tensor = filled(size, dtype)
    before = digest("", [tensor])
    octets = tensor.view(torch.uint8)
    place = data.draw(st.integers(0, octets.numel() - 1))
    octets[place] ^= 1 << data.draw(st.integers(0, 7))
    assert digest("", [tensor]) != before


@LAWS
@given(SIZES, st.sampled_from(DTYPES), st.data())
def test_swapping_two_different_values_changes_the_digest(size, dtype, data):
    tensor = filled(size, dtype)
    one, other = (data.draw(st.integers(0, size - 1)) for _ in range(2))
    swapped = tensor.clone()
    swapped[one], swapped[other] = tensor[other].clone(), tensor[one].clone()
    if torch.equal(swapped.view(torch.uint8), tensor.view(torch.uint8)):
        return
    assert digest("", [tensor]) != digest("", [swapped])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", [8, 100, 3 * 8191, 50_000])
def test_swapping_values_that_differ_in_sign_alone_changes_the_digest(dtype, size):
    tensor = torch.full((size,), 0.5, dtype=dtype)
    tensor[1] = -0.5
    before = digest("", [tensor])
    for place in (0, 3, 5, 7, size // 2, size - 1):
        swapped = torch.full((size,), 0.5, dtype=dtype)
        swapped[place] = -0.5
        assert digest("", [swapped]) != before, f"the sign moved from 1 to {place}"


@LAWS
@given(SIZES, st.sampled_from(DTYPES))
def test_equal_states_have_equal_digests(size, dtype):
    tensor = filled(size, dtype)
    assert digest("x", [tensor]) == digest("x", [tensor.clone()])


def test_layout_in_memory_does_not_matter():
    image = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    assert digest("", [image]) == digest("", [image.to(memory_format=torch.channels_last)])
    row = filled(101, torch.float32)
    assert digest("", [row[1:]]) == digest("", [row[1:].clone()])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([torch.zeros(2), torch.ones(2)], [torch.ones(2), torch.zeros(2)]),
        ([torch.zeros(4)], [torch.zeros(2, 2)]),
        ([torch.zeros(2)], [torch.zeros(2, dtype=torch.int32)]),
        ([torch.zeros(2)], [torch.zeros(1), torch.zeros(1)]),
        ([torch.tensor(0.0)], [torch.tensor(-0.0)]),
        ([], [torch.zeros(0)]),
    ],
    ids=["order", "shape", "dtype", "cut", "minus zero", "an empty one more"],
)
def test_what_is_not_the_same_differs(one, other):
    assert digest("", one) != digest("", other)


def test_the_skeleton_counts():
    assert digest("a", [torch.ones(2)]) != digest("b", [torch.ones(2)])


def test_a_digest_fits_into_a_signed_64_bit_number():
    for seed in range(50):
        assert 0 <= digest(str(seed), [filled(9, torch.float32, seed)]) < 2**63
