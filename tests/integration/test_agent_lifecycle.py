"""The agent itself is killed, restarted, drained, doubled; its helpers are killed under it."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.helpers.agents import AgentProcess, Stage
from tests.helpers.processes import gone, is_alive, no_process_left, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures(no_process_left.__name__)]

__all__ = ["no_process_left"]

WAITS = "import os, time\nprint([os.getpid()], flush=True)\ntime.sleep(600)"
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WAITS
FAMILY = """
    import json, os, subprocess, sys, time
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    near = subprocess.Popen(sleep)
    far = subprocess.Popen(sleep, start_new_session=True)
    daemon = os.fork()
    if daemon == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        with open("daemon.pid", "w") as file:
            file.write(str(os.getpid()))
        time.sleep(600)
    os.waitpid(daemon, 0)
    print(json.dumps([os.getpid(), near.pid, far.pid]), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


@pytest.fixture
def start_agent(stage):
    """Start agents that do not outlive the test, however it ends."""
    started = []

    def start(**options):
        started.append(AgentProcess(stage, **options))
        return started[-1]

    yield start
    for agent in started:
        agent.process.kill()
        agent.process.wait()


def guardian_of(agent):
    """Return the pid of an agent's guardian."""
    for child in psutil.Process(agent.pid).children():
        with suppress(psutil.Error):
            if "eflib.agent.guardian" in child.cmdline():
                return child.pid
    return None


def test_kill_9_of_the_agent_leaves_nothing_and_its_successor_runs_nobody_twice(stage, start_agent):
    agent = start_agent()
    first = stage.worker("first", FAMILY)
    stage.assign(first)
    pids = stage.wait_pids(first, 3)
    pid_file = stage.folder / "daemon.pid"
    pids.append(int(wait_until(lambda: pid_file.exists() and pid_file.read_text(), "a daemon")))
    helpers = [agent.pool_pid(), guardian_of(agent)]
    words = psutil.Process(helpers[1]).cmdline()
    temporary = Path(words[words.index("--temporary") + 1])
    assert list(temporary.iterdir())

    agent.process.kill()
    agent.process.wait()

    gone([*pids, *helpers])
    assert not temporary.exists()
    assert stage.exit_of(first) is None

    second = stage.worker("second", "print('ran')")
    stage.assign(first, second)
    successor = start_agent()
    end = stage.wait_exit(first)
    assert stage.wait_exit(second)["exitcode"] == 0
    assert (end["pid"], end["exitcode"], end["signal"]) == (None, None, None)
    assert end["error"]["message"] == "lost with the agent that had started it"
    assert stage.log(first).count("[") == 1
    assert stage.record()["pid"] == successor.pid
    assert successor.stop() == 0


def test_the_agent_survives_the_loss_of_its_helpers(stage, start_agent):
    agent = start_agent()
    worker, other = stage.worker("one", WAITS), stage.worker("two", WAITS)
    stage.assign(worker)
    [pid] = stage.wait_pids(worker)
    guardian, pool = guardian_of(agent), agent.pool_pid()

    os.kill(guardian, signal.SIGKILL)
    wait_until(lambda: guardian_of(agent) not in (None, guardian), "another guardian")
    assert is_alive(pid)

    os.kill(pool, signal.SIGKILL)
    assert stage.wait_exit(worker)["signal"] == "SIGKILL"
    gone([pid])
    stage.assign(other)
    [other_pid] = stage.wait_pids(other)
    assert agent.pool_pid() != pool

    assert agent.stop() == 0
    gone([other_pid])


def test_a_drained_agent_lets_its_workers_leave_and_says_so(stage, start_agent):
    leaves = """
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        print("[]", flush=True)
        time.sleep(600)
    """
    agent = start_agent()
    worker, stubborn = stage.worker("leaver", leaves), stage.worker("stubborn", STUBBORN)
    stage.assign(worker, stubborn)
    stage.wait_log(worker, "[]")
    stage.wait_pids(stubborn)

    agent.process.send_signal(signal.SIGTERM)
    assert stage.wait_exit(worker)["exitcode"] == 0
    assert agent.process.poll() is None
    assert agent.stop(signal.SIGINT) == 0

    assert stage.wait_exit(stubborn)["signal"] == "SIGKILL"
    [left] = stage.messages("node_left")
    assert (left["node"], left["agent"].partition("-")[0]) == ("n0", "n0")
    assert stage.record() is None
    assert "Traceback" not in agent.log()


def test_two_agents_share_a_host_and_a_node_has_one_agent(stage, start_agent):
    agents = [start_agent(node="n0"), start_agent(node="n1")]
    workers = [stage.worker(node, WAITS) for node in ("n0", "n1")]
    for worker in workers:
        stage.assign(worker, node=worker["worker"])
    pids = [stage.wait_pids(worker)[0] for worker in workers]
    ports = {stage.record(node)["store_port"] for node in ("n0", "n1")}
    assert len(ports) == 2

    with pytest.raises(subprocess.TimeoutExpired):
        agents[1].process.wait(0)
    third = agents[0].again()
    assert third.wait(60) == 2
    assert "an agent of node 'n0' runs already" in agents[0].log()

    agents[0].process.kill()
    gone(pids[:1])
    assert is_alive(pids[1])
    assert agents[1].stop() == 0
