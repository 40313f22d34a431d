"""An agent, real workers, and a day on which something is wrong around them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eflib.store import SignedStore, load_key, open_store, wait_for
from tests.helpers.agents import AgentProcess, Stage
from tests.helpers.processes import leaving_no_process

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A stage whose store is on a TCP server of its own."""
    folder = tmp_path_factory.mktemp("cluster")
    port = folder / "port"
    command = [sys.executable, "-m", "eflib.store.server", "--port-file", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_for(port.exists, timeout=60, what="the server's port")
    stage = Stage(folder)
    stage.store_url = f"tcp://127.0.0.1:{port.read_text().strip()}"
    stage.store = SignedStore(open_store(stage.store_url), load_key(stage.key_file))
    yield stage
    stage.store.close()
    server.kill()
    server.wait(60)


@pytest.fixture(scope="module")
def agent(stage):
    with leaving_no_process():
        started = AgentProcess(stage, options=["--grace", "20"])
        started.pool_pid()
        yield started
        assert started.stop() == 0, started.log()


def test_a_huge_exception_is_told_cut_and_the_node_goes_on(stage, agent):
    huge = stage.worker("huge", "raise ValueError('x' * 20_000_000)")
    after = stage.worker("after", "print('ran')")
    stage.assign(huge)
    end = stage.wait_exit(huge)
    stage.assign(huge, after)
    assert stage.wait_exit(after)["exitcode"] == 0
    assert end["error"]["message"].startswith("ValueError: xxx")
    assert "left out" in end["error"]["message"]


def test_an_error_file_that_a_script_made_huge_is_told_cut(stage, agent):
    code = """
        import json, os
        with open(os.environ["TORCHELASTIC_ERROR_FILE"], "w") as file:
            json.dump({"message": {"message": "y" * 20_000_000, "extraInfo": {}}}, file)
        os._exit(3)
    """
    worker = stage.worker("file", code)
    stage.assign(worker)
    assert len(stage.wait_exit(worker)["error"]["message"]) < 20_000


def test_a_worker_whose_log_is_on_a_full_disk_does_its_work(stage, agent):
    worker = stage.worker("full", "for _ in range(100): print('x' * 10_000)\nraise SystemExit(7)")
    log = Path(stage.log_file(worker))
    log.parent.mkdir(parents=True)
    log.symlink_to("/dev/full")
    stage.assign(worker)
    assert stage.wait_exit(worker)["exitcode"] == 7


def test_a_script_finds_no_signal_blocked(stage, agent):
    code = "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []) or 'none')"
    worker = stage.worker("unblocked", code)
    stage.assign(worker)
    assert stage.wait_exit(worker)["exitcode"] == 0
    assert stage.log(worker) == "none\n"


def test_the_pool_stays_when_it_is_told_to_leave(stage, agent):
    os.kill(agent.pool_pid(), signal.SIGTERM)
    worker = stage.worker("stays")
    stage.assign(worker)
    assert stage.wait_exit(worker)["exitcode"] == 0
