"""Samples of a real job that reads ahead in processes: exact, and nothing is left behind."""

import signal
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from tests.helpers.clusters import living
from tests.helpers.disturbed import DisturbedJob
from tests.helpers.processes import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]


@pytest.fixture
def temporary():
    """A folder for sockets, whose paths must be short."""
    with tempfile.TemporaryDirectory(prefix="eflib-") as folder:
        yield Path(folder)


def family(pid):
    return {child.pid for child in psutil.Process(pid).children(recursive=True)}


@pytest.mark.parametrize(
    ("name", "words", "num_processes"),
    [("map", ["--num-workers", "2"], 2), ("stream", ["--num-workers", "1", "--stream"], 1)],
)
def test_reading_ahead_survives_rescales_and_a_kill(
    tmp_path, temporary, monkeypatch, name, words, num_processes
):
    """2, 1, 2 workers, then one is killed: samples add up, processes and folders are gone."""
    monkeypatch.setenv("TMPDIR", str(temporary))
    with living(tmp_path / "cluster") as cluster:
        cluster.start(slots=2)
        job = DisturbedJob(cluster, tmp_path, name, *words, pace=0.03)
        job.wait_size(2)
        for size in (1, 2):
            job.ask_for_size(size)
            job.wait_size(size)
            job.wait_commit(time.time())
        _, victim = job.members()[-1]
        readers = family(victim)
        assert len(readers) >= num_processes
        moment = time.time()
        job.signal(victim, signal.SIGKILL)
        wait_until(lambda: not any(map(psutil.pid_exists, readers)), "its readers to end", 20)
        job.wait_commit(moment)
        job.wait_size(2)
        wait_until(lambda: job.committed()[1] > 20, "more than an epoch", 60)
        status, last = job.finish()
        assert status == 0, f"{last}\n{job.logs()}"
        trail = job.trail()
        assert trail.check() > 16, "no epoch came to its end"
        trail.check_ranks()
    left = [one.name for one in temporary.iterdir() if one.name.startswith("pymp-")]
    assert not left
