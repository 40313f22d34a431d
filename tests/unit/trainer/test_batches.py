"""Moving batches of any nesting to a device, and taking them apart."""

from collections import namedtuple

import pytest
import torch

from eflib.errors import UsageError
from eflib.trainer.data.batches import to_device
from eflib.trainer.step.forward import ForwardPass, split_batch

Pair = namedtuple("Pair", "x y")
META = torch.device("meta")


def test_every_tensor_moves_and_the_nesting_stays():
    batch = {"a": [torch.ones(1), "text"], "b": Pair(torch.ones(2), (torch.ones(3), 4))}
    moved = to_device(batch, META)
    assert moved["a"][0].device == moved["b"].x.device == moved["b"].y[0].device == META
    assert (moved["a"][1], moved["b"].y[1]) == ("text", 4)
    assert isinstance(moved["b"], Pair)
    assert [type(moved["a"]), type(moved["b"].y)] == [list, tuple]


def test_a_tensor_that_is_there_already_is_not_copied():
    tensor = torch.ones(2)
    assert to_device(tensor, torch.device("cpu")) is tensor


@pytest.mark.parametrize("batch", [(1, 2), [1, 2], Pair(1, 2)])
def test_a_pair_is_inputs_and_targets(batch):
    assert split_batch(batch) == (1, 2)


@pytest.mark.parametrize("batch", [(1,), (1, 2, 3), {"x": 1, "y": 2}, torch.ones(2, 3)])
def test_what_is_no_pair_is_refused(batch):
    with pytest.raises(UsageError, match=f"not a {type(batch).__name__}"):
        split_batch(batch)


@pytest.mark.parametrize(
    ("inputs", "seen"),
    [
        ({"a": 1, "b": 2}, ((), {"a": 1, "b": 2})),
        ((1, 2), ((1, 2), {})),
        ([1], ((1,), {})),
        (5, ((5,), {})),
    ],
)
def test_a_model_is_called_as_its_inputs_say(inputs, seen):
    def model(*positions, **names):
        return positions, names

    assert ForwardPass(model, None, "fp32", None).call(inputs) == seen
