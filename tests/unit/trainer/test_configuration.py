"""What a script may give to ElasticTrainer; the rest is refused at once, by name, with a hint."""

import math
import types

import numpy as np
import pytest
import torch

from eflib import ElasticTrainer
from eflib.errors import UsageError
from eflib.trainer.callback import Callback
from eflib.trainer.configuration import TrainerSettings
from tests.unit.trainer.builders import Points, a_model, a_trainer

NOT_INTEGERS = ("8", None, 2.5, True, [], torch.ones(2, dtype=torch.int64), math.nan)
NOT_NUMBERS = ("1", True, [], math.nan, -1, -math.inf)
TOO_LARGE = 10**30
REFUSED = {
    "global_batch_size": (*NOT_INTEGERS, 0, -4, TOO_LARGE),
    "max_steps": ("8", 2.5, True, 0, -1, TOO_LARGE, math.inf),
    "seed": (*NOT_INTEGERS, -1, TOO_LARGE),
    "num_workers": (*NOT_INTEGERS, -1, TOO_LARGE),
    "max_microbatch_size": ("small", 1.5, True, 0, -1, TOO_LARGE, [], math.nan),
    "keep_checkpoints": (*NOT_INTEGERS, 0, -1, TOO_LARGE),
    "num_shards": (*NOT_INTEGERS, 0, -1, TOO_LARGE),
    "max_grad_norm": (*NOT_NUMBERS, 0, 0.0),
    "checkpoint_seconds": (*NOT_NUMBERS, None),
    "step_seconds": (*NOT_NUMBERS, 0, math.inf),
    "epoch_end": ("wrap", None, 1, []),
    "precision": ("fp8", None, 16, [], torch.float16),
    "parallel": ("tp", None, 1, []),
    "deterministic": ("false", None, 1, 0, np.True_),
    "sync_batchnorm": ("false", None, 1, 0),
    "fsdp_layers": ("blocks.*", 3, [1]),
    "loss_fn": ("mse", 1),
    "collate_fn": ("stack", 1),
    "lr_scheduler": ("cosine", 0.1, torch.nn.Linear(1, 1)),
    "callbacks": (None, Callback(), [print], ["log"]),
    "checkpoint_dir": (5, b"folder", True),
    "device": ("tpux", "cuda:x", "cuda:4096", "meta", 1.5, ["cpu"]),
    "model": ("resnet", None, torch.nn.Linear),
    "optimizer": (0.1, None, torch.optim.SGD),
    "dataset": (None, 5, iter([1]), [], torch.utils.data.DataLoader(Points(), batch_size=8)),
}


def a_script(**change):
    model = a_model()
    asked = {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "dataset": Points(),
        "global_batch_size": 4,
        "max_steps": 1,
        "device": "cpu",
        **change,
    }
    return ElasticTrainer(**asked)


CASES = [(name, value) for name, values in REFUSED.items() for value in values]


@pytest.mark.parametrize(
    ("name", "value"), CASES, ids=[f"{name}={str(value)[:20]!r}" for name, value in CASES]
)
def test_a_value_that_cannot_be_used_is_refused_by_its_name_with_a_hint(name, value):
    with pytest.raises(UsageError) as caught:
        a_script(**{name: value})
    named = "data set" if name == "dataset" else name.removesuffix("s")
    assert named in caught.value.problem or name in caught.value.problem
    assert caught.value.hint
    assert "\n" not in caught.value.problem
    assert len(caught.value.problem) < 200


ACCEPTED = {
    "global_batch_size": np.int64(4),
    "max_steps": np.int32(1),
    "seed": 2**64 - 1,
    "max_microbatch_size": np.int64(2),
    "max_grad_norm": math.inf,
    "checkpoint_seconds": 0,
    "step_seconds": None,
    "callbacks": (Callback() for _ in range(2)),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_value_at_the_edge_trains(name):
    trainer = a_trainer(**{"max_steps": 1, name: ACCEPTED[name]})
    trainer.fit()
    assert trainer.global_step == 1


def test_every_setting_is_in_the_matrix():
    names = {name for name in TrainerSettings.__dataclass_fields__ if name != "max_epochs"}
    assert names <= set(REFUSED)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"max_steps": None}, "give max_steps or max_epochs, one of the two"),
        ({"max_epochs": 2}, "give max_steps or max_epochs, one of the two"),
        ({"max_steps": None, "max_epochs": -1}, "max_epochs is -1; at least 1 is needed"),
        ({"max_steps": None, "max_epochs": 1.5}, "max_epochs is 1.5; an integer is needed"),
        (
            {"max_microbatch_size": "auto", "deterministic": True},
            "max_microbatch_size='auto' with deterministic=True",
        ),
        (
            {"sync_batchnorm": True, "deterministic": True},
            "sync_batchnorm=True with deterministic=True",
        ),
        ({"parallel": "fsdp", "precision": "fp16"}, "does not go with precision='fp16'"),
        ({"parallel": "fsdp", "deterministic": True}, "does not go with deterministic=True"),
        (
            {"epoch_end": "drop", "global_batch_size": 99},
            "epoch_end='drop' drops all 22 samples: global_batch_size is 99",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(change, problem):
    with pytest.raises(UsageError, match=problem) as caught:
        a_script(**change)
    assert caught.value.hint


def test_a_number_of_thirty_digits_is_told_in_short():
    with pytest.raises(UsageError, match=r"global_batch_size is about 1e30; at most 16777216"):
        a_script(global_batch_size=TOO_LARGE)


def test_a_data_loader_is_refused_with_the_way_out():
    loader = torch.utils.data.DataLoader(Points(), batch_size=8)
    with pytest.raises(UsageError, match="dataset is a DataLoader") as caught:
        a_script(dataset=loader)
    assert "pass loader.dataset" in caught.value.hint
    assert "batch_size is 8" in caught.value.hint


class Closing(torch.optim.SGD):
    """Evaluates the model by itself, as L-BFGS and line searches do."""

    def step(self, closure):
        return super().step(closure)


@pytest.mark.parametrize("kind", [torch.optim.LBFGS, Closing])
def test_an_optimizer_that_needs_a_closure_is_refused_by_its_name(kind):
    model = a_model()
    optimizer = kind(model.parameters(), lr=0.1)
    with pytest.raises(UsageError, match=rf"optimizer is a {kind.__name__}, whose step\(\) needs"):
        a_script(model=model, optimizer=optimizer)


def test_a_model_without_values_is_refused():
    model = torch.nn.Linear(3, 1, device="meta")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UsageError, match="weight of the model is on the meta device"):
        a_script(model=model, optimizer=optimizer)


class Endless(Points):
    def __len__(self):
        raise TypeError("it has no end")


def test_a_data_set_without_a_length_is_refused_with_what_it_says():
    with pytest.raises(UsageError, match=r"length of the data set \(Endless\) .* it has no end"):
        a_script(dataset=Endless())


def test_an_optimizer_of_another_model_is_refused():
    other = torch.optim.SGD(torch.nn.Linear(3, 1).parameters())
    with pytest.raises(UsageError, match="the optimizer holds none of the model's parameters"):
        a_script(optimizer=other)


def test_a_scheduler_that_wants_a_metric_is_refused_with_the_way_round():
    model = a_model()
    optimizer = torch.optim.SGD(model.parameters())
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    with pytest.raises(UsageError, match="ReduceLROnPlateau") as caught:
        a_trainer(model, optimizer=optimizer, lr_scheduler=plateau)
    assert "register" in caught.value.hint


def test_a_model_in_distributed_data_parallel_is_refused():
    wrapped = torch.nn.parallel.DistributedDataParallel.__new__(
        torch.nn.parallel.DistributedDataParallel
    )
    with pytest.raises(UsageError, match="wrapped in DistributedDataParallel") as caught:
        ElasticTrainer(wrapped, None, [], global_batch_size=1, max_steps=1)
    assert "pass the plain model" in caught.value.hint


def test_a_callback_of_any_class_will_do():
    told = types.SimpleNamespace(
        on_step_end=lambda trainer: None,
        on_rescale=lambda trainer: None,
        on_fit_end=lambda trainer: None,
    )
    a_trainer(callbacks=[told], max_steps=1).fit()
