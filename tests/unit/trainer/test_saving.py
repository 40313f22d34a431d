"""Checkpoints that are written in the background, while training goes on."""

import threading

import pytest
import torch

from eflib.errors import CheckpointError, UsageError
from eflib.trainer import timeouts
from eflib.trainer.state import checkpoint
from eflib.trainer.state.saving import CheckpointWriter
from tests.unit.trainer.builders import a_state, a_trainer


@pytest.fixture
def state():
    return a_state()


class Gate:
    """Holds the writing thread at its first file until the test lets it go on."""

    def __init__(self, monkeypatch):
        self.reached, self.go = threading.Event(), threading.Event()
        real = checkpoint.write_pieces

        def write_pieces(*args):
            self.reached.set()
            assert self.go.wait(60)
            return real(*args)

        monkeypatch.setattr(checkpoint, "write_pieces", write_pieces)


@pytest.fixture
def gate(monkeypatch):
    gate = Gate(monkeypatch)
    yield gate
    gate.go.set()


def test_what_is_written_is_the_state_of_the_boundary_although_training_goes_on(
    tmp_path, state, gate
):
    writer = CheckpointWriter(tmp_path, keep=2)
    before = state.model_tensors()["0.weight"].clone()
    assert writer.start(state.snapshot())
    assert gate.reached.wait(60)
    state.model_tensors()["0.weight"].add_(1)
    assert checkpoint.newest(tmp_path) is None
    gate.go.set()
    writer.close()
    assert torch.equal(checkpoint.load(tmp_path / "step-0000000005")["model"]["0.weight"], before)
    assert writer.last[0] == 5


def test_there_is_at_most_one_in_flight_and_the_next_comes_when_it_is_whole(tmp_path, state, gate):
    writer = CheckpointWriter(tmp_path, keep=2)
    assert writer.start(state.snapshot())
    state.global_step = 6
    assert not writer.start(state.snapshot())
    gate.go.set()
    assert writer.save(state.snapshot()) == tmp_path / "step-0000000006"
    assert [one.name for one in sorted(tmp_path.iterdir())] == [
        "step-0000000005", "step-0000000006",
    ]  # fmt: skip


def test_an_error_in_the_background_is_told_once_and_training_goes_on(tmp_path, state, capsys):
    (tmp_path / "file").write_text("")
    writer = CheckpointWriter(tmp_path / "file", keep=2)
    assert writer.start(state.snapshot())
    writer.close()
    said = capsys.readouterr().err
    assert f"[eflib] a checkpoint could not be written to {tmp_path / 'file'}: " in said
    assert said.endswith("training continues\n")
    writer.close()
    assert capsys.readouterr().err == ""


def test_a_save_that_fails_says_so_to_its_caller(tmp_path):
    (tmp_path / "file").write_text("")
    trainer = a_trainer(checkpoint_dir=tmp_path / "file", max_steps=1)
    with pytest.raises(CheckpointError, match=r"the checkpoint of step 0 could not be written"):
        trainer.save_checkpoint()


def test_who_leaves_waits_for_what_it_writes_within_a_bound(
    tmp_path, state, gate, monkeypatch, capsys
):
    monkeypatch.setattr(timeouts, "CHECKPOINT_LEAVE", 0.05)
    writer = CheckpointWriter(tmp_path, keep=2)
    writer.start(state.snapshot())
    writer.close()
    assert "still being written" in capsys.readouterr().err
    gate.go.set()
    assert writer.save(state.snapshot())


@pytest.mark.parametrize("keep", [0, -1, None, 1.5])
def test_a_number_to_keep_below_one_is_refused(keep):
    with pytest.raises(UsageError, match=f"keep_checkpoints is {keep}"):
        a_trainer(keep_checkpoints=keep)
