"""What travels: the whole state, into an equal model alone."""

import pytest
import torch

from eflib.errors import StateMismatchError, UsageError
from eflib.trainer.state.digest import digest
from eflib.trainer.state.state import TrainingState
from eflib.trainer.state.tree import unflatten


class Counter:
    """A user's object with the pair of methods."""

    def __init__(self):
        self.value = 0

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state_dict):
        self.value = state_dict["value"]


def make(seed=0, width=4, **layers):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.BatchNorm1d(width))
    for name, layer in layers.items():
        model.add_module(name, layer)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    return model, optimizer, TrainingState(model, {"optimizer": optimizer})


def train(model, optimizer, num_steps=2):
    for step in range(num_steps):
        optimizer.zero_grad()
        generator = torch.Generator().manual_seed(step)
        model[1](model[0](torch.randn(5, 3, generator=generator))).square().sum().backward()
        optimizer.step()


def tree_of(state):
    skeleton, tensors = state.capture()
    return unflatten(skeleton, [tensor.clone() for tensor in tensors])


def test_a_restored_state_is_the_same_to_the_last_bit():
    model, optimizer, state = make(seed=0)
    counter = Counter()
    state.register("counter", counter)
    train(model, optimizer)
    counter.value, state.global_step, state.samples = 7, 2, 10
    _, _, other = make(seed=1)
    landed = Counter()
    other.register("counter", landed)
    assert digest(*other.capture()) != digest(*state.capture())
    other.restore(tree_of(state))
    assert digest(*other.capture()) == digest(*state.capture())
    assert (landed.value, other.global_step, other.samples) == (7, 2, 10)


def test_buffers_that_are_not_persistent_travel_too():
    class Drifting(torch.nn.Linear):
        def __init__(self):
            super().__init__(2, 2)
            self.register_buffer("running", torch.zeros(3), persistent=False)

    models = [Drifting(), Drifting()]
    models[0].running += 5
    one, other = (
        TrainingState(model, {"optimizer": torch.optim.SGD(model.parameters())}) for model in models
    )
    other.restore(tree_of(one))
    assert models[1].running.tolist() == [5, 5, 5]


def test_a_shared_parameter_travels_once():
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "b": torch.nn.Linear(2, 2)})
    model["b"].weight = model["a"].weight
    state = TrainingState(model, {})
    assert list(state.model_tensors()) == ["a.weight", "a.bias", "b.bias"]


def test_capture_takes_the_model_without_a_copy_and_first():
    model, optimizer, state = make()
    train(model, optimizer)
    _, tensors = state.capture()
    held = [one.data_ptr() for one in state.model_tensors().values()]
    assert [one.data_ptr() for one in tensors[: len(held)]] == held
    assert len(tensors) > len(held)


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        ({"width": 5}, r"0\.weight has shape \(5, 3\) here and \(4, 3\) in the saved state"),
        ({"extra": torch.nn.Linear(1, 1)}, r"the model differs .*'extra\.bias' is here only"),
    ],
    ids=["shape", "one more layer"],
)
def test_a_state_of_another_model_is_refused_by_the_tensor(other, problem):
    _, _, state = make()
    _, _, target = make(**other)
    with pytest.raises(StateMismatchError, match=problem):
        target.restore(tree_of(state))


def test_a_state_of_another_dtype_is_refused_by_the_tensor():
    _, _, state = make()
    model, _, target = make()
    model.to(torch.float64)
    with pytest.raises(
        StateMismatchError, match=r"0\.weight has dtype torch.float64 here and torch.float32"
    ):
        target.restore(tree_of(state))


def test_a_state_with_other_registered_objects_is_refused_by_name():
    _, _, state = make()
    state.register("ema", Counter())
    _, _, target = make()
    with pytest.raises(StateMismatchError, match="'ema' is in the saved state only"):
        target.restore(tree_of(state))


def test_a_name_that_is_taken_is_refused():
    _, _, state = make()
    with pytest.raises(UsageError, match="register: the name 'optimizer' is taken"):
        state.register("optimizer", Counter())


@pytest.mark.parametrize("missing", ["state_dict", "load_state_dict"])
def test_an_object_without_one_of_the_methods_is_refused(missing):
    methods = {"state_dict", "load_state_dict"} - {missing}
    half = type("Half", (), dict.fromkeys(methods, lambda self: {}))()
    _, _, state = make()
    with pytest.raises(UsageError, match=rf"register: 'half' \(Half\) has no {missing}\(\)"):
        state.register("half", half)


def test_the_signature_is_of_shapes_and_not_of_values():
    assert make(seed=0)[2].signature() == make(seed=1)[2].signature()
    assert make()[2].signature() != make(width=5)[2].signature()
    assert len(make()[2].signature()) == 16


def test_the_description_has_a_line_for_each_tensor_and_part():
    lines = make()[2].description()
    assert lines[0] == "0.weight: (4, 3) float32"
    assert lines[-1] == "optimizer: Adam"
    assert make()[2].num_parameters() == 4 * 3 + 4 + 4 + 4
