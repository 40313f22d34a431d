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


def test_a_pool_that_has_no_room_to_say_that_it_is_warm_is_not_started_and_said_once(
    tmp_path, monkeypatch, caplog
):
    starts = []
    monkeypatch.setattr(forkserver, "ensure_running", lambda: starts.append(1))
    pool = WarmPool(tmp_path / "missing" / "warm", "tag")
    for _ in range(3):
        pool.ensure()
    assert starts == []
    assert caplog.text.count("no warm pool: cannot write") == 1
    (tmp_path / "missing").mkdir()
    pool.ensure()
    assert starts == [1]


def test_a_pool_that_cannot_write_its_mark_ends_so_that_another_follows(tmp_path):
    with pytest.raises(SystemExit):
        warm.say(tmp_path / "missing" / "warm", warm.READY)
