"""A checkpoint folder serves one job at a time, and the next one once that has ended."""

import subprocess
import sys

import pytest

from eflib.errors import UsageError
from eflib.trainer.state import owner
from eflib.trainer.state.owner import FolderOwner
from tests.unit.trainer.builders import a_trainer

HOLD = """
import sys
from pathlib import Path
from eflib.trainer.state.owner import FolderOwner
FolderOwner(Path(sys.argv[1]), sys.argv[2]).take()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Return a starter of processes that hold a folder for a job; they end with the test."""
    started = []

    def start(job):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, tmp_path, job],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_a_second_job_is_refused_by_name_and_the_workers_of_the_first_are_not(tmp_path, holder):
    holder("job a-1")
    ours = FolderOwner(tmp_path, "job a-1")
    ours.take()
    ours.release()
    with pytest.raises(UsageError, match=r"checkpoint_dir .* is in use by another job: job a-1"):
        FolderOwner(tmp_path, "job b-2").take()


def test_a_trainer_is_refused_before_it_trains_and_may_go_on_once_the_other_has_died(
    tmp_path, holder
):
    process = holder("job a-1")
    trainer = a_trainer(checkpoint_dir=tmp_path)
    with pytest.raises(UsageError, match="in use by another job: job a-1") as caught:
        trainer.fit()
    assert "checkpoint_dir of its own" in caught.value.hint
    assert trainer.global_step == 0
    process.kill()
    process.wait()
    again = a_trainer(checkpoint_dir=tmp_path)
    again.fit()
    assert again.global_step == 12


def test_trainers_of_one_process_share_a_folder_and_let_it_go_when_they_end(tmp_path, holder):
    first, second = (FolderOwner(tmp_path, "process 1") for _ in range(2))
    first.take()
    second.take()
    first.release()
    first.release()
    second.release()
    holder("job b-2")
    assert (tmp_path / owner.FILE).read_text() == "job b-2\n"


def test_a_data_loader_process_does_not_keep_the_folder(tmp_path, holder):
    trainer = a_trainer(checkpoint_dir=tmp_path, num_workers=1)
    batches = iter(trainer)
    next(batches)
    batches.close()
    trainer._parts.checkpoints.release()
    holder("job b-2")


def test_a_folder_that_cannot_be_written_is_held_by_nobody(tmp_path):
    (tmp_path / "file").write_text("")
    FolderOwner(tmp_path / "file", "job a-1").take()
