"""Checkpoints on a full disk, beside damaged, forged and foreign ones."""

import errno
import json
import os
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eflib.errors import CheckpointError, StateMismatchError
from eflib.trainer.console import say
from eflib.trainer.state import checkpoint
from eflib.trainer.state.saving import CheckpointWriter
from eflib.trainer.state.state import TrainingState
from tests.unit.trainer.builders import a_model, a_trainer, are_equal, weights

FULL = Path("/dev/full")


@pytest.fixture
def state():
    model = a_model()
    return TrainingState(model, {"optimizer": torch.optim.Adam(model.parameters())})


def saved(folder, state, step, *, keep=2):
    state.global_step = step
    return checkpoint.write(folder, state.snapshot(), keep=keep)


def names(folder):
    return sorted(one.name for one in folder.iterdir() if not one.name.startswith(".owner"))


def sign(folder, document):
    """Write a manifest with a right checksum, as somebody would who means harm."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    crc32 = zlib.crc32(text.encode())
    (folder / "manifest.json").write_text(json.dumps({**document, "crc32": crc32}))


def manifest_of(folder):
    document = json.loads((folder / "manifest.json").read_text())
    del document["crc32"]
    return document


# A full disk -------------------------------------------------------------------------------------


class FullDisk:
    """Lets so many syncs and folders pass, and has no space left from then on."""

    def __init__(self, monkeypatch):
        self.left = None
        for module, name in (
            (os, "fsync"),
            (checkpoint.Path, "mkdir"),
            (checkpoint.Path, "rename"),
        ):
            real = getattr(module, name)
            monkeypatch.setattr(module, name, self.bounded(real))

    def bounded(self, real):
        def act(*args, **kwargs):
            if self.left is not None:
                if self.left == 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self.left -= 1
            return real(*args, **kwargs)

        return act


@pytest.fixture
def disk(monkeypatch):
    return FullDisk(monkeypatch)


@pytest.mark.parametrize("left", range(5))
def test_a_full_disk_costs_one_line_leaves_nothing_and_the_next_attempt_succeeds(
    tmp_path, state, disk, left, capsys
):
    folder = saved(tmp_path, state, 1)
    writer = CheckpointWriter(tmp_path, keep=2)
    state.global_step, disk.left = 2, left
    assert writer.start(state.snapshot())
    writer.close()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "No space left on device; training continues" in said
    assert names(tmp_path) == [folder.name]
    assert checkpoint.newest(tmp_path) == folder
    disk.left = None
    assert writer.save(state.snapshot()).name == "step-0000000002"


def test_training_ends_as_ever_where_no_checkpoint_can_be_written(tmp_path, disk, capsys):
    plain = a_trainer()
    plain.fit()
    trainer = a_trainer(checkpoint_dir=tmp_path, checkpoint_seconds=0)
    disk.left = 1  # the folder itself
    trainer.fit()
    assert trainer.global_step == 12
    assert are_equal(weights(plain), weights(trainer))
    assert "No space left on device" in capsys.readouterr().err
    assert names(tmp_path) == []


def test_a_line_that_cannot_be_written_is_lost_and_nothing_else(monkeypatch):
    with FULL.open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        say("nobody will read this")
        monkeypatch.undo()
        with suppress(OSError):
            full.close()


def test_a_closed_stderr_loses_a_line_and_nothing_else(monkeypatch):
    with Path(os.devnull).open("w") as closed:
        monkeypatch.setattr(sys, "stderr", closed)
    say("nobody will read this")
    monkeypatch.undo()


def test_a_full_disk_under_checkpoints_and_log_alike_costs_no_step(tmp_path):
    script = (
        "import resource, signal\n"
        "from tests.unit.trainer.builders import a_trainer\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"trainer = a_trainer(checkpoint_dir={str(tmp_path)!r}, checkpoint_seconds=0)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))\n"
        "trainer.fit()\n"
        "print(trainer.global_step)\n"
    )
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.stdout == "12\n"
    assert names(tmp_path) == []


def test_a_rank_whose_disk_is_full_tells_rank_0_which_gives_up_at_once(tmp_path, state, disk):
    def part(rank):
        own = checkpoint.Snapshot(3, "s", "", state.snapshot().pieces[:1], rank, 2, token=7)
        return checkpoint.write(tmp_path, own, keep=2)

    disk.left = 1
    with pytest.raises(OSError, match="No space left"):
        part(1)
    disk.left = None
    with pytest.raises(CheckpointError, match=r"the parts of ranks \[1\]"):
        part(0)
    assert names(tmp_path) == []


# Damaged and forged ones -------------------------------------------------------------------------


def replace_by_pipe(file):
    file.unlink()
    os.mkfifo(file)


def deepen(folder):
    (folder / "manifest.json").write_text("[" * 100_000 + "]" * 100_000)


def surrogate(folder):
    document = manifest_of(folder)
    document["files"]["\ud800"] = {"bytes": 0, "crc32": 0}
    sign(folder, document)


def change(folder, *way, to):
    document = manifest_of(folder)
    place = document
    for key in way[:-1]:
        place = place[key]
    place[way[-1]] = to
    sign(folder, document)


BIAS = ("tensors", "model/0.bias")
FORGED = {
    "a pipe as manifest": lambda folder: replace_by_pipe(folder / "manifest.json"),
    "a pipe as data": lambda folder: replace_by_pipe(folder / "rank-0.bin"),
    "a deep manifest": deepen,
    "a lone surrogate": surrogate,
    "tensors as a list": lambda folder: change(folder, "tensors", to=[]),
    "a tensor as a number": lambda folder: change(folder, *BIAS, to=3),
    "a chunk without a place": lambda folder: change(folder, *BIAS, "chunks", 0, to={}),
    "a negative place": lambda folder: change(folder, *BIAS, "chunks", 0, "at", to=-8),
    "a size as a text": lambda folder: change(folder, *BIAS, "size", to="5"),
    "a tensor of 10**15": lambda folder: change(folder, *BIAS, "size", to=[10**15]),
    "a chunk beside its tensor": lambda folder: change(
        folder, *BIAS, "chunks", 0, "offsets", to=[1]
    ),
    "an odd place": lambda folder: change(folder, *BIAS, "chunks", 0, "at", to=1),
    "no chunks": lambda folder: change(folder, *BIAS, "chunks", to=[]),
    "a file of text size": lambda folder: change(folder, "files", "rank-0.bin", "bytes", to="1"),
    "a step as a text": lambda folder: change(folder, "global_step", to="7"),
    "a skeleton of another kind": lambda folder: change(folder, "skeleton", to="[]"),
    "a skeleton that is no JSON": lambda folder: change(folder, "skeleton", to="{"),
    "a skeleton without a tensor": lambda folder: change(
        folder, "skeleton", to='{"%":"tensor","n":99}'
    ),
    "a deep skeleton": lambda folder: change(folder, "skeleton", to="[" * 100_000 + "]" * 100_000),
    "a skeleton with a function": lambda folder: change(
        folder, "skeleton", to='{"%":"dtype","name":"load"}'
    ),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", FORGED)
def test_a_forged_checkpoint_is_skipped_and_the_one_before_is_taken(tmp_path, state, name, capsys):
    older, newer = saved(tmp_path, state, 5), saved(tmp_path, state, 6)
    FORGED[name](newer)
    assert checkpoint.newest(tmp_path) == older
    assert f"skipped the checkpoint {newer}: " in capsys.readouterr().err
    assert checkpoint.load(older)["global_step"] == 5


WAYS = st.lists(st.integers(0, 50), min_size=1, max_size=6)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([]),
    st.just({}), st.lists(st.integers(-2, 9), max_size=3),
)  # fmt: skip


def mutate(document, way, value):
    """Put a value somewhere into a document, at the place that the numbers lead to."""
    place = document
    for number in way[:-1]:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        inner = place[keys[number % len(keys)]]
        if not isinstance(inner, (dict, list)):
            break
        place = inner
    keys = list(place) if isinstance(place, dict) else list(range(len(place)))
    if keys:
        place[keys[way[-1] % len(keys)]] = value


@settings(
    derandomize=True,
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(way=WAYS, value=VALUES)
def test_whatever_a_manifest_says_it_is_skipped_or_can_be_loaded(tmp_path, state, way, value):
    state.global_step = 1
    folder = checkpoint.path_of(tmp_path, 1)
    if not (tmp_path / "whole").exists():
        (tmp_path / "whole").write_bytes((saved(tmp_path, state, 1) / "manifest.json").read_bytes())
    document = json.loads((tmp_path / "whole").read_text())
    del document["crc32"]
    mutate(document, way, value)
    sign(folder, document)
    if checkpoint.newest(tmp_path) is None:
        return
    with suppress(StateMismatchError):  # what it holds may be of another model
        state.restore(checkpoint.load(folder))


# Of another version ------------------------------------------------------------------------------


def make_foreign(folder):
    (folder / "manifest.json").write_text('{"format": 3, "of": "a later eflib"}')


def test_what_another_version_wrote_is_never_deleted(tmp_path, state):
    foreign = [saved(tmp_path, state, step, keep=9) for step in (1, 4, 99)]
    for one in foreign:
        make_foreign(one)
    for step in (5, 6, 7):
        saved(tmp_path, state, step, keep=1)
    checkpoint.clean(tmp_path)
    assert names(tmp_path) == [
        "step-0000000001", "step-0000000004", "step-0000000007", "step-0000000099",
    ]  # fmt: skip


def test_the_step_of_one_that_another_version_wrote_is_not_written_over(tmp_path, state):
    make_foreign(saved(tmp_path, state, 3))
    with pytest.raises(CheckpointError, match="was written by another version of eflib") as caught:
        saved(tmp_path, state, 3)
    assert "another checkpoint_dir" in caught.value.hint
    assert names(tmp_path) == ["step-0000000003"]


# Of another optimizer ----------------------------------------------------------------------------


def of(kind, **asked):
    model = a_model()
    return a_trainer(model, optimizer=kind(model.parameters(), lr=0.1), max_steps=2, **asked)


def test_a_checkpoint_of_another_optimizer_is_refused_with_both_names(tmp_path):
    first = of(torch.optim.Adam, checkpoint_dir=tmp_path)
    first.fit()
    first.save_checkpoint()
    with pytest.raises(
        StateMismatchError, match="optimizer is a SGD here and a Adam in the saved state"
    ) as caught:
        of(torch.optim.SGD, checkpoint_dir=tmp_path).fit()
    assert "another checkpoint_dir" in caught.value.hint


def test_a_state_that_an_object_cannot_take_is_named_with_the_reason(state):
    tree = {
        "model": state.model_tensors(),
        "parts": {"optimizer": {"param_groups": []}},
        "global_step": 1,
        "samples": 4,
    }
    with pytest.raises(StateMismatchError, match=r"optimizer \(Adam\) cannot take the saved state"):
        state.restore(tree)
