"""Checkpoints: whole or not there; a resumed run is the uninterrupted one, to the last bit."""

import json
import shutil

import pytest
import torch

from eflib.errors import StateMismatchError, UsageError
from eflib.trainer import checkpoint
from eflib.trainer.state import TrainingState
from tests.unit.trainer.builders import Recorder, a_model, a_trainer, are_equal, weights


def with_schedule(**settings):
    model = a_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=20)
    return a_trainer(model, optimizer=optimizer, lr_scheduler=schedule, **settings)


class Mean:
    """A user's running value that must travel as well."""

    def __init__(self):
        self.value = 0.0

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state_dict):
        self.value = state_dict["value"]


def train_until(trainer, step, mean):
    for inputs, targets in trainer:
        loss = torch.nn.functional.mse_loss(trainer.model(inputs), targets)
        mean.value = 0.9 * mean.value + 0.1 * float(loss.detach())
        trainer.step(loss)
        if trainer.global_step == step:
            trainer.save_checkpoint()
            return


@pytest.mark.parametrize("step", [1, 5, 9])
def test_a_run_resumed_in_the_middle_of_an_epoch_is_bit_equal_to_one_that_went_on(tmp_path, step):
    means = [Mean(), Mean(), Mean()]
    whole = with_schedule(seed=3)
    whole.register("mean", means[0])
    train_until(whole, 99, means[0])
    first = with_schedule(seed=3, checkpoint_dir=tmp_path)
    first.register("mean", means[1])
    train_until(first, step, means[1])
    recorder = Recorder()
    second = with_schedule(seed=3, checkpoint_dir=tmp_path, callbacks=[recorder])
    second.register("mean", means[2])
    train_until(second, 99, means[2])
    assert recorder.events[0] == f"step {step + 1}"
    assert are_equal(weights(whole), weights(second))
    assert means[0].value == means[2].value


def test_a_run_that_has_ended_is_not_trained_again(tmp_path):
    trainer = a_trainer(checkpoint_dir=tmp_path, max_steps=3)
    trainer.fit()
    trainer.save_checkpoint()
    recorder = Recorder()
    again = a_trainer(a_model(seed=9), checkpoint_dir=tmp_path, max_steps=3, callbacks=[recorder])
    again.fit()
    assert recorder.events == ["end"]
    assert are_equal(weights(trainer), weights(again))


def test_checkpoints_are_written_on_their_own_when_due(tmp_path):
    a_trainer(checkpoint_dir=tmp_path, checkpoint_seconds=0, max_steps=4).fit()
    names = sorted(one.name for one in tmp_path.iterdir())
    assert names == ["step-0000000003", "step-0000000004"]


def test_without_a_folder_a_save_is_refused():
    with pytest.raises(UsageError, match="there is no checkpoint folder"):
        a_trainer().save_checkpoint()


@pytest.fixture
def state():
    model = a_model()
    state = TrainingState(model, {"optimizer": torch.optim.Adam(model.parameters())})
    state.global_step = 5
    return state


def saved(folder, state, step, **settings):
    state.global_step = step
    return checkpoint.save(folder, state, **settings)


def cut(file, size):
    file.write_bytes(file.read_bytes()[:size])


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


TEARS = {
    "no state": lambda folder: (folder / "state.pt").unlink(),
    "empty state": lambda folder: cut(folder / "state.pt", 0),
    "half a state": lambda folder: cut(folder / "state.pt", 900),
    "all but a byte": lambda folder: cut(folder / "state.pt", -1),
    "one wrong bit": lambda folder: flip(folder / "state.pt"),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "empty manifest": lambda folder: cut(folder / "manifest.json", 0),
    "half a manifest": lambda folder: cut(folder / "manifest.json", 40),
    "another format": lambda folder: (folder / "manifest.json").write_text('{"format": 99}'),
    "no object": lambda folder: (folder / "manifest.json").write_text("3"),
    "bytes": lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe"),
    "a file": lambda folder: (shutil.rmtree(folder), folder.write_text("")),
}


@pytest.mark.parametrize("tear", TEARS)
def test_a_torn_checkpoint_is_named_and_the_one_before_is_taken(tmp_path, state, tear, capsys):
    older = saved(tmp_path, state, 5)
    newer = saved(tmp_path, state, 6)
    assert checkpoint.newest(tmp_path) == newer
    TEARS[tear](newer)
    assert checkpoint.newest(tmp_path) == older
    assert capsys.readouterr().err == f"[eflib] skipped the torn checkpoint {newer}\n"
    assert checkpoint.load(older)["global_step"] == 5


def test_every_length_of_a_cut_state_is_torn(tmp_path, state):
    folder = saved(tmp_path, state, 1)
    whole = (folder / "state.pt").read_bytes()
    for size in range(0, len(whole), max(1, len(whole) // 60)):
        (folder / "state.pt").write_bytes(whole[:size])
        assert not checkpoint.is_whole(folder), f"{size} of {len(whole)} bytes"
    (folder / "state.pt").write_bytes(whole)
    assert checkpoint.is_whole(folder)


def test_there_is_none_in_an_empty_or_missing_folder(tmp_path):
    assert checkpoint.newest(tmp_path) is None
    assert checkpoint.newest(tmp_path / "missing") is None


def test_only_the_newest_few_are_kept(tmp_path, state):
    for step in (1, 2, 10, 9_999_999_999):
        saved(tmp_path, state, step, keep=2)
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "step-0000000010",
        "step-9999999999",
    ]


def test_torn_newer_ones_do_not_push_out_what_was_just_saved(tmp_path, state):
    for step in (8, 9):
        cut(saved(tmp_path, state, step) / "state.pt", 10)
    again = saved(tmp_path, state, 6)
    assert checkpoint.newest(tmp_path) == again


def test_a_torn_one_of_the_same_step_is_replaced(tmp_path, state):
    folder = saved(tmp_path, state, 3)
    cut(folder / "state.pt", 10)
    assert saved(tmp_path, state, 3) == folder
    assert checkpoint.is_whole(folder)


def test_what_a_crash_left_beside_is_no_checkpoint(tmp_path, state):
    (tmp_path / ".step-0000000009.123").mkdir()
    folder = saved(tmp_path, state, 3)
    assert checkpoint.newest(tmp_path) == folder


def test_the_manifest_says_what_it_is_of(tmp_path, state):
    manifest = json.loads((saved(tmp_path, state, 3) / "manifest.json").read_text())
    assert manifest["global_step"] == 3
    assert manifest["signature"] == state.signature()


def test_a_checkpoint_of_another_model_is_refused_by_the_tensor(tmp_path):
    trainer = a_trainer(checkpoint_dir=tmp_path, max_steps=1)
    trainer.fit()
    trainer.save_checkpoint()
    other = torch.nn.Sequential(torch.nn.Linear(3, 7), torch.nn.Linear(7, 1)).double()
    with pytest.raises(
        StateMismatchError, match=r"the model differs from the saved state: '1\.bias'"
    ):
        a_trainer(other, checkpoint_dir=tmp_path).fit()
