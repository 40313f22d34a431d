"""The faults that the chaos runner injects: what is done, and how soon a step must follow."""

import signal
import time
from dataclasses import dataclass

from tests.helpers.processes import wait_until

STEP = 10.0
"""Survivors go on within this, on a busy machine (within 0.5 s on an idle one)."""
CONNECT = 15.0
"""A member that dies while the group is being connected may hold the others up for so long."""
HANG = 15.0 + STEP
"""A frozen worker is noticed within 13 s, and killed; then survivors go on."""
START = 60.0
"""All workers start anew, import and load their state."""
WINDOW = 30.0
"""A moment in the life of a worker or of a generation comes within this."""


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        name: As it is printed.
        inject: Does it; returns the moment from which time counts (seconds since the epoch).
        bound: Within so many seconds of that a step is committed.
        follows: Whether that step is in a newer generation.
    """

    name: str
    inject: object
    bound: float = STEP
    follows: bool = True


def _victim(run, *, first=False):
    workers = run.workers()
    return workers[0] if first else workers[int(run.random.integers(len(workers)))]


def kill(run):
    """At any moment: in a step, between two, in what a callback does."""
    run.strike(_victim(run))
    return time.time()


def kill_rank_0(run):
    run.strike(_victim(run, first=True))
    return time.time()


def kill_two(run):
    for worker in run.random.permutation(run.workers())[:2]:
        run.strike(str(worker))
    return time.time()


def kill_all(run):
    for worker in run.workers():
        run.strike(worker)
    return time.time()


def raise_error(run):
    return _ask(run, "raise")


def run_out_of_memory(run):
    return _ask(run, "oom")


def _ask(run, word):
    worker = _victim(run)
    moment = time.time()
    run.struck.add(worker)
    run.job.ask_to_fail(run.job.pid(worker), word)
    wait_until(lambda: run.has_exit(worker), f"worker {worker} to fail", WINDOW)
    return moment


def freeze(run):
    run.strike(_victim(run), signal.SIGSTOP)
    return time.time()


def nap(run):
    """A worker stands still for a moment, and nobody may take it for hung."""
    pid = run.job.pid(_victim(run))
    run.job.signal(pid, signal.SIGSTOP)
    time.sleep(float(run.random.uniform(0.2, 2.0)))
    run.job.signal(pid, signal.SIGCONT)
    return time.time()


def preempt_worker(run):
    run.strike(_victim(run), signal.SIGTERM)
    return time.time()


def kill_joiner_at_its_start(run):
    """Kill a worker of four, and the one that comes in its place before it is ready."""
    run.job.ask_for_size(4)
    run.job.wait_size(4)
    known = set(run.job.workers())
    run.strike(_victim(run))
    new = wait_until(lambda: set(run.job.workers()) - known, "a joiner", WINDOW, poll=0.002)
    time.sleep(float(run.random.uniform(0.0, 0.6)))
    for worker in new:
        run.strike(worker)
    return time.time()


def kill_in_a_rescale(run):
    """Kill a member of a generation that was just made, before it is entered, or while it is."""
    number = run.job.newest().number
    _change_size(run)
    made = wait_until(lambda: run.job.generation(number + 1), "a generation", WINDOW, poll=0.0005)
    time.sleep(float(run.random.uniform(0.0, 0.15)))
    if made.members:
        place = int(run.random.integers(len(made.members)))
        run.strike(made.members[place].worker)
    return time.time()


def kill_in_a_recovery(run):
    """Kill one, and another as soon as the others have made a generation without it."""
    number, workers = run.job.newest().number, run.random.permutation(run.workers())
    run.strike(str(workers[0]))
    wait_until(lambda: run.job.generation(number + 1), "a recovery", WINDOW, poll=0.0005)
    time.sleep(float(run.random.uniform(0.0, 0.05)))
    if len(workers) > 2:
        run.strike(str(workers[1]))
    return time.time()


def kill_in_a_checkpoint(run):
    """Kill rank 0 when something changes in the folder of the checkpoints."""
    folder = run.checkpoints
    before = _content(folder)
    wait_until(lambda: _content(folder) != before, "a checkpoint", WINDOW, poll=0.0005)
    time.sleep(float(run.random.uniform(0.0, 0.01)))
    run.strike(_victim(run, first=True))
    return time.time()


def rescale(run):
    _change_size(run)
    return time.time()


def kill_coordinator(run):
    """Training goes on without it; another takes over."""
    run.cluster.coordinator.kill()
    run.cluster.coordinator.wait()
    run.cluster.coordinator = run.cluster.popen("efctl", "coordinator")
    return time.time()


def preempt_agent(run):
    """SIGTERM: its workers leave in order, the last one saves; another agent takes the node."""
    run.agent_was_told_to_go = True
    run.cluster.agent.terminate()
    assert run.cluster.agent.wait(60) == 0, run.cluster.output(run.cluster.agent)
    return run.start_agent()


def kill_agent(run):
    """No worker outlives it; another agent takes the node."""
    run.cluster.agent.kill()
    run.cluster.agent.wait()
    return run.start_agent()


def _change_size(run):
    size = run.job.newest().world_size
    wanted = int(run.random.choice([one for one in (1, 2, 3, 4) if one != size]))
    run.job.ask_for_size(wanted)


def _content(folder):
    return sorted(one.name for one in folder.glob("*")) if folder.exists() else []


FAULTS = {
    one.name: one
    for one in (
        Fault("rescale", rescale, follows=False),
        Fault("kill", kill),
        Fault("kill-rank-0", kill_rank_0),
        Fault("kill-two", kill_two),
        Fault("kill-in-a-rescale", kill_in_a_rescale, STEP + CONNECT),
        Fault("kill-in-a-recovery", kill_in_a_recovery, STEP + CONNECT),
        Fault("kill-joiner-at-its-start", kill_joiner_at_its_start, follows=False),
        Fault("kill-in-a-checkpoint", kill_in_a_checkpoint),
        Fault("raise", raise_error),
        Fault("oom", run_out_of_memory),
        Fault("preempt-worker", preempt_worker),
        Fault("nap", nap, follows=False),
        Fault("kill-coordinator", kill_coordinator, follows=False),
        Fault("kill-all", kill_all, START),
        Fault("freeze", freeze, HANG),
        Fault("preempt-agent", preempt_agent, START),
        Fault("kill-agent", kill_agent, START),
    )
}
SLOW = {"kill-all", "freeze", "preempt-agent", "kill-agent"}
QUICK = [name for name in FAULTS if name not in SLOW]
