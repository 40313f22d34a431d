"""Checkpoints: whole or not there; a resumed run is the uninterrupted one, to the last bit."""

import dataclasses
import json
import shutil
import time
import zlib

import pytest
import torch

from eflib.errors import CheckpointError, StateMismatchError, UsageError
from eflib.trainer.state import checkpoint
from eflib.trainer.state.manifest import read_manifest
from eflib.trainer.state.storage import Piece, read_into
from eflib.trainer.state.tree import flatten
from tests.unit.trainer.builders import Recorder, a_model, a_state, a_trainer, are_equal, weights


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
    a_trainer(checkpoint_dir=tmp_path, checkpoint_seconds=0, max_steps=40).fit()
    steps = [read_manifest(one).global_step for one in tmp_path.glob("step-*")]
    assert len(steps) == 2  # the newest ones: a step is passed over while one is being written
    assert 0 < min(steps) < max(steps) <= 40


def test_without_a_folder_a_save_is_refused():
    with pytest.raises(UsageError, match="there is no checkpoint folder"):
        a_trainer().save_checkpoint()


@pytest.fixture
def state():
    return a_state()


def saved(folder, state, step, *, keep=2):
    state.global_step = step
    return checkpoint.write(folder, state.snapshot(), keep=keep)


def cut(file, size):
    file.write_bytes(file.read_bytes()[:size])


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def rewrite(folder, change):
    """Write another manifest with a right checksum, as somebody would who means harm."""
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["crc32"]
    change(manifest)
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    manifest["crc32"] = zlib.crc32(text.encode())
    (folder / "manifest.json").write_text(json.dumps(manifest))


def rename_data(manifest):
    manifest["files"]["../rank-0.bin"] = manifest["files"].pop("rank-0.bin")


def lead_astray(manifest):
    manifest["tensors"]["model/0.bias"]["chunks"][0]["file"] = "/etc/hostname"


def reach_beyond(manifest):
    manifest["tensors"]["model/0.bias"]["chunks"][0]["at"] = 10**9


def invent_dtype(manifest):
    manifest["tensors"]["model/0.bias"]["dtype"] = "load"


TEARS = {
    "no state": (lambda folder: (folder / "rank-0.bin").unlink(), "rank-0.bin cannot be read"),
    "empty state": (lambda folder: cut(folder / "rank-0.bin", 0), "rank-0.bin has 0 bytes"),
    "half a state": (lambda folder: cut(folder / "rank-0.bin", 100), "rank-0.bin has 100 bytes"),
    "all but a byte": (lambda folder: cut(folder / "rank-0.bin", -1), "rank-0.bin has "),
    "one wrong bit": (lambda folder: flip(folder / "rank-0.bin"), "does not match its checksum"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "manifest.json cannot"),
    "empty manifest": (lambda folder: cut(folder / "manifest.json", 0), "is not JSON"),
    "half a manifest": (lambda folder: cut(folder / "manifest.json", 40), "is not JSON"),
    "changed manifest": (
        lambda folder: (folder / "manifest.json").write_text(
            (folder / "manifest.json").read_text().replace("step", "stop", 1)
        ),
        "manifest.json does not match its checksum",
    ),
    "another format": (
        lambda folder: (folder / "manifest.json").write_text('{"format": 1}'),
        "it is of format 1; this eflib reads format 2",
    ),
    "no object": (lambda folder: (folder / "manifest.json").write_text("3"), "its format"),
    "bytes": (lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe"), "not JSON"),
    "a file": (
        lambda folder: (shutil.rmtree(folder), folder.write_text("")),
        "manifest.json cannot",
    ),
    "a path": (lambda folder: rewrite(folder, rename_data), "names the file '../rank-0.bin'"),
    "another file": (lambda folder: rewrite(folder, lead_astray), "lies outside '/etc/hostname'"),
    "beyond the end": (lambda folder: rewrite(folder, reach_beyond), "lies outside 'rank-0.bin'"),
    "a function": (lambda folder: rewrite(folder, invent_dtype), "the unknown dtype 'load'"),
}


@pytest.mark.parametrize("tear", TEARS)
def test_a_torn_checkpoint_is_named_with_the_reason_and_the_one_before_is_taken(
    tmp_path, state, tear, capsys
):
    older = saved(tmp_path, state, 5)
    newer = saved(tmp_path, state, 6)
    assert checkpoint.newest(tmp_path) == newer
    act, reason = TEARS[tear]
    act(newer)
    assert checkpoint.newest(tmp_path) == older
    said = capsys.readouterr().err
    assert said.startswith(f"[eflib] skipped the checkpoint {newer}: ")
    assert reason in said
    assert checkpoint.load(older)["global_step"] == 5


def test_every_length_of_a_cut_state_is_torn(tmp_path, state):
    folder = saved(tmp_path, state, 1)
    whole = (folder / "rank-0.bin").read_bytes()
    for size in range(0, len(whole), max(1, len(whole) // 60)):
        (folder / "rank-0.bin").write_bytes(whole[:size])
        assert checkpoint.why_torn(folder), f"{size} of {len(whole)} bytes"
    (folder / "rank-0.bin").write_bytes(whole)
    assert checkpoint.why_torn(folder) is None


def test_there_is_none_in_an_empty_or_missing_folder(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        assert checkpoint.newest(folder) is None
        assert checkpoint.last(folder) is None


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_only_the_newest_few_are_kept(tmp_path, state, keep):
    steps = (1, 2, 10, 9_999_999_999)
    for step in steps:
        saved(tmp_path, state, step, keep=keep)
    wanted = [f"step-{step:010d}" for step in steps[-keep:]]
    assert sorted(one.name for one in tmp_path.iterdir()) == wanted


def test_torn_newer_ones_do_not_push_out_what_was_just_saved(tmp_path, state):
    for step in (8, 9):
        cut(saved(tmp_path, state, step) / "rank-0.bin", 10)
    again = saved(tmp_path, state, 6)
    assert checkpoint.newest(tmp_path) == again


def test_a_torn_one_of_the_same_step_is_replaced(tmp_path, state):
    folder = saved(tmp_path, state, 3)
    cut(folder / "rank-0.bin", 10)
    assert saved(tmp_path, state, 3) == folder
    assert checkpoint.why_torn(folder) is None


def test_what_a_crash_left_beside_is_no_checkpoint_and_goes_when_a_job_begins(tmp_path, state):
    (tmp_path / ".step-0000000009.7b").mkdir()
    folder = saved(tmp_path, state, 3)
    assert checkpoint.newest(tmp_path) == folder
    a_trainer(checkpoint_dir=tmp_path / "other", max_steps=1).fit()
    shutil.rmtree(tmp_path / "other")
    assert len(list(tmp_path.iterdir())) == 2
    checkpoint.clean(tmp_path)
    assert list(tmp_path.iterdir()) == [folder]


def test_the_manifest_says_what_it_is_of(tmp_path, state):
    manifest = json.loads((saved(tmp_path, state, 3) / "manifest.json").read_text())
    assert manifest["global_step"] == 3
    assert manifest["signature"] == state.signature()
    step, saved_at = checkpoint.last(tmp_path)
    assert step == 3
    assert abs(time.time() - saved_at) < 60


class Kinds:
    """Every dtype and shape that a state may hold."""

    def __init__(self, fill):
        self.state = {
            "scalar": torch.tensor(3.5) * fill,
            "empty": torch.zeros(0, 3),
            "flags": torch.tensor([True, False, True]),
            "halves": torch.arange(7).bfloat16() * fill,
            "complex": torch.arange(4).to(torch.complex64) * fill,
            "turned": (torch.arange(6.0).view(2, 3) * fill).t(),
            1: torch.arange(3) * fill,
            "1": torch.arange(4) * fill,
            "list": [torch.tensor([fill]), (fill, "text", None, b"bytes")],
        }

    def state_dict(self):
        return self.state

    def load_state_dict(self, state_dict):
        self.state = state_dict


def test_every_kind_of_value_comes_back_as_it_was(tmp_path, state):
    kinds = Kinds(2)
    state.register("kinds", kinds)
    tree = checkpoint.load(saved(tmp_path, state, 1))["parts"]["kinds"]
    assert list(tree) == list(kinds.state)
    for key, value in kinds.state.items():
        if isinstance(value, torch.Tensor):
            assert tree[key].dtype == value.dtype
            assert torch.equal(tree[key], value), key
    assert tree["list"] == kinds.state["list"]


def test_ranks_write_their_parts_and_any_number_reads_them_together(tmp_path):
    whole = torch.arange(35.0).view(7, 5)

    def snapshot(rank, rows):
        piece = Piece("model/t", whole[rows], (rows.start, 0), (7, 5))
        tree = {"model": {"t": whole}, "parts": {}, "global_step": 4, "samples": 0}
        skeleton, _ = flatten(tree)
        skeleton = skeleton if rank == 0 else ""
        return checkpoint.Snapshot(4, "s", skeleton, [piece], rank, 2, token=77)

    assert checkpoint.write(tmp_path, snapshot(1, slice(4, 7)), keep=2) is None
    assert checkpoint.newest(tmp_path) is None
    folder = checkpoint.write(tmp_path, snapshot(0, slice(0, 4)), keep=2)
    assert sorted(one.name for one in folder.iterdir()) == [
        "manifest.json", "rank-0.bin", "rank-1.bin",
    ]  # fmt: skip
    assert checkpoint.why_torn(folder) is None
    manifest = read_manifest(folder)
    target = {"model/t": torch.zeros(7, 5)}
    read_into(folder, manifest, target)
    assert torch.equal(target["model/t"], whole)


def test_a_part_that_does_not_come_is_named_and_nothing_is_taken_for_whole(tmp_path, state):
    snapshot = dataclasses.replace(state.snapshot(), num_writers=3, token=77)
    with pytest.raises(CheckpointError, match=r"the parts of ranks \[1, 2\] of .* step 5"):
        checkpoint.write(tmp_path, snapshot, keep=2, given_up=lambda: True)
    assert checkpoint.newest(tmp_path) is None


def test_a_checkpoint_of_another_model_is_refused_by_the_tensor(tmp_path):
    trainer = a_trainer(checkpoint_dir=tmp_path, max_steps=1)
    trainer.fit()
    trainer.save_checkpoint()
    other = torch.nn.Sequential(torch.nn.Linear(3, 7), torch.nn.Linear(7, 1)).double()
    with pytest.raises(
        StateMismatchError, match=r"the model differs from the saved state: '1\.bias'"
    ):
        a_trainer(other, checkpoint_dir=tmp_path).fit()
