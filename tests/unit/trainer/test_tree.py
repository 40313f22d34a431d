"""State as a JSON skeleton and tensors: what goes in comes out, types included."""

import json
import math
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler as lrs

from eflib.errors import UsageError
from eflib.trainer.state.tree import flatten, unflatten


def through(tree):
    """Send a tree through text and tensors of their own, as a broadcast does."""
    skeleton, tensors = flatten(tree)
    assert skeleton.isascii()
    return unflatten(skeleton, [tensor.clone() for tensor in tensors])


def assert_same(one, other):
    """Compare trees with their types, bit by bit."""
    if isinstance(one, torch.Tensor):
        assert isinstance(other, torch.Tensor)
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert torch.equal(one, other) or (one.isnan() & other.isnan()).any()
    elif isinstance(one, np.ndarray):
        assert type(other) is np.ndarray
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)
    elif isinstance(one, dict):
        assert isinstance(other, dict)
        assert list(one) == list(other)
        assert [type(key) for key in one] == [type(key) for key in other]
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert type(one) is type(other)
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            assert_same(mine, theirs)
    elif isinstance(one, float) and math.isnan(one):
        assert math.isnan(other)
    else:
        assert type(one) is type(other)
        assert one == other


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -(2**70),
        0.1,
        -0.0,
        5e-324,
        math.inf,
        -math.inf,
        math.nan,
        "grün\n\0",
        b"\x00\xff",
        (),
        (1, (2.0, [None])),
        [],
        {},
        {"%": "tensor", "n": 0},
        {1: "whole", "1": "text", None: 2, (3, "a"): 4, 0.5: 5},
        Counter({3: 2}),
        torch.bfloat16,
        np.arange(6, dtype=np.int16).reshape(2, 3)[:, ::-1],
        np.float32(0.1),
        np.int64(7),
        np.array(True),
    ],
    ids=repr,
)
def test_a_value_comes_back_with_its_type(value):
    assert_same(value, through({"value": value})["value"])


def test_negative_zero_keeps_its_sign():
    assert math.copysign(1, through([-0.0])[0]) == -1


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(3.5),
        torch.zeros(0, 4),
        torch.arange(6).reshape(2, 3).t(),
        torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        torch.tensor([True, False]),
        torch.tensor([1 + 2j]),
        torch.tensor([math.nan, 1.0]),
    ],
    ids=["0-d", "empty", "transposed", "bfloat16", "bool", "complex", "nan"],
)
def test_a_tensor_comes_back_with_dtype_shape_and_value(tensor):
    assert_same(tensor, through([tensor])[0])


def test_tensors_are_taken_without_a_copy_and_in_order():
    first, second = torch.ones(3), torch.zeros(2)
    _, tensors = flatten({"b": [first], "a": {"x": second}})
    assert [one.data_ptr() for one in tensors] == [first.data_ptr(), second.data_ptr()]


def test_equal_trees_have_equal_skeletons():
    tree = {"a": torch.ones(2), "b": [1, 2.5], "c": (None,)}
    assert flatten(tree)[0] == flatten(dict(tree))[0]


def test_an_ordered_dict_keeps_its_order():
    assert list(through(OrderedDict(b=1, a=2))) == ["b", "a"]


@pytest.mark.parametrize(
    ("tree", "where", "kind"),
    [
        ({"a": {1, 2}}, "state\\['a'\\]", "set"),
        ([0, lambda: 0], "state\\[1\\]", "function"),
        ({"a": [{"b": object()}]}, "state\\['a'\\]\\[0\\]\\['b'\\]", "object"),
        ({"a": np.array(["text"])}, "state\\['a'\\]", "ndarray"),
        ({"a": np.array([None])}, "state\\['a'\\]", "ndarray"),
        ({"a": np.datetime64("2026-01-01")}, "state\\['a'\\]", "datetime64"),
    ],
    ids=["set", "function", "object", "array of text", "array of objects", "date"],
)
def test_what_cannot_travel_is_refused_by_its_place_and_type(tree, where, kind):
    with pytest.raises(UsageError, match=f"^{where} holds a {kind}, which cannot travel") as caught:
        flatten(tree)
    assert "state_dict()" in caught.value.hint


def trained(make_optimizer, make_scheduler=None, num_steps=3):
    """Return a model, optimizer and scheduler after a few steps."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = make_optimizer(model.parameters())
    scheduler = make_scheduler(optimizer) if make_scheduler else None
    for step in range(num_steps):
        optimizer.zero_grad()
        model(torch.randn(5, 3)).square().sum().backward()
        optimizer.step()
        if isinstance(scheduler, lrs.ReduceLROnPlateau):
            scheduler.step(1.0 + step)
        elif scheduler is not None:
            scheduler.step()
    return model, optimizer, scheduler


OPTIMIZERS = {
    "sgd with momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.8, 0.99)),
    "groups": lambda p: torch.optim.Adam([{"params": list(p), "lr": 0.5, "betas": (0.1, 0.2)}]),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_goes_on_as_if_it_had_not_travelled(name):
    _, optimizer, _ = trained(OPTIMIZERS[name])
    _, fresh, _ = trained(OPTIMIZERS[name], num_steps=0)
    travelled = through(optimizer.state_dict())
    assert_same(optimizer.state_dict(), travelled)
    fresh.load_state_dict(travelled)
    assert_same(optimizer.state_dict(), fresh.state_dict())


def chained(optimizer):
    warm = lrs.LinearLR(optimizer, 0.1, total_iters=2)
    return lrs.SequentialLR(optimizer, [warm, lrs.CosineAnnealingLR(optimizer, 9)], milestones=[2])


SCHEDULERS = {
    "step": lambda o: lrs.StepLR(o, 2),
    "multi-step": lambda o: lrs.MultiStepLR(o, [1, 2, 2, 6]),
    "one-cycle": lambda o: lrs.OneCycleLR(o, max_lr=0.5, total_steps=20),
    "cosine": lambda o: lrs.CosineAnnealingLR(o, 10),
    "lambda": lambda o: lrs.LambdaLR(o, lambda step: 0.9**step),
    "sequential": chained,
    "plateau": lambda o: lrs.ReduceLROnPlateau(o, patience=0),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter in:UserWarning")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_goes_on_as_if_it_had_not_travelled(name):
    model, optimizer, scheduler = trained(OPTIMIZERS["sgd with momentum"], SCHEDULERS[name])
    _, other, fresh = trained(OPTIMIZERS["sgd with momentum"], SCHEDULERS[name], num_steps=0)
    other.load_state_dict(through(optimizer.state_dict()))
    fresh.load_state_dict(through(scheduler.state_dict()))
    rates = []
    for one, schedule in ((optimizer, scheduler), (other, fresh)):
        held = []
        for _ in range(5):
            one.step()
            schedule.step(*([9.0] if name == "plateau" else []))
            held.append([group["lr"] for group in one.param_groups])
        rates.append(held)
    assert rates[0] == rates[1]
    del model


def test_a_skeleton_is_json():
    skeleton, _ = flatten({"lr": 0.1, "nan": math.nan})
    assert json.loads(skeleton)
