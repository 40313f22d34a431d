import pytest
import torch

from eflib.models import NAMES, build

SMALL_INPUTS = {
    "char_gpt": torch.zeros(2, 5, dtype=torch.long),
    "digits": torch.zeros(2, 1, 8, 8),
}
OUTPUT_SHAPES = {"char_gpt": (2, 5, 100), "digits": (2, 10)}


@pytest.mark.parametrize("name", NAMES)
def test_every_name_builds_a_model_with_the_stated_output_shape(name):
    outputs = build(name)(SMALL_INPUTS[name])

    assert tuple(outputs.shape) == OUTPUT_SHAPES[name]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_builds_the_same_weights(name):
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(build(name).state_dict())

    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_sizes_reach_the_model():
    assert build("digits", num_classes=3)(torch.zeros(1, 1, 8, 8)).shape == (1, 3)


def test_a_misspelt_name_offers_the_closest_one():
    with pytest.raises(ValueError, match="no model named 'char-gpt': did you mean 'char_gpt'"):
        build("char-gpt")


def test_a_name_like_no_other_lists_all():
    with pytest.raises(ValueError, match=r"no model named 'zzz': \(there are char_gpt, digits\)"):
        build("zzz")


def test_an_unknown_size_is_refused():
    with pytest.raises(TypeError, match="depth"):
        build("digits", depth=3)
