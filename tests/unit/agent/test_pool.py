"""The agent's side of the warm pool."""

import os
import subprocess
import time
from multiprocessing import forkserver

import pytest

from eflib.agent import pool as pools
from eflib.agent import warm
from eflib.agent.pool import WarmPool


@pytest.fixture
def loading(tmp_path, monkeypatch):
    """A pool that has just been started and loads."""
    monkeypatch.setattr(forkserver, "ensure_running", lambda: None)
    pool = WarmPool(tmp_path / "warm", "tag")
    pool.ensure()
    process = subprocess.Popen(["sleep", "600"])
    (tmp_path / "warm").write_text(f"{process.pid} {warm.LOADING}")
    yield pool, process
    process.kill()
    process.wait(60)


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_clock_that_is_set_does_not_end_a_pool_that_loads(loading, tmp_path, step):
    pool, process = loading
    os.utime(tmp_path / "warm", (time.time() - step, time.time() - step))
    pool.ensure()
    assert process.poll() is None


def test_a_pool_that_does_not_become_ready_is_ended(loading, monkeypatch):
    pool, process = loading
    monkeypatch.setattr(pools, "WARM_SECONDS", -1.0)
    pool.ensure()
    assert process.wait(60) == -9
