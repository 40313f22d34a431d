"""``python -m tests.chaos.run --faults 100 --seed 7``: faults in a row, by chance, on a real job.

A coordinator, an agent with four slots and a job that keeps account of its samples are started;
then one fault follows another. After all of them it must hold: the job ends in order; no sample of
its committed steps is lost or repeated; ranks are equal; nobody ended but those who were struck; a
step was committed within the stated bound of each fault; no process is left.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from eflib.store import keys
from tests.chaos.faults import FAULTS, QUICK, START
from tests.helpers.clusters import LONG, living
from tests.helpers.disturbed import DisturbedJob
from tests.helpers.processes import wait_until
from tests.helpers.raw import Raw

SLOTS = 4
QUIET_EXITS = (0, 4)


class Run:
    """One chaos run on a live cluster.

    Attributes:
        random: All chance comes from here.
        job: The job that suffers.
        struck: Workers that were killed, stopped or asked to fail.
        story: What was done, with the moment, the newest generation before, and the bound.
    """

    def __init__(self, cluster, folder, seed, say=print):
        self.cluster = cluster
        self.random = np.random.default_rng(seed)
        self.job = DisturbedJob(cluster, folder, f"chaos-{seed}", "--checkpoint-seconds", 1)
        self.checkpoints = cluster.home / "jobs" / self.job.job / "checkpoints"
        self.struck = set()
        self.agent_was_killed = self.agent_was_told_to_go = False
        self.story = []
        self._say = say
        self.job.wait_size(SLOTS)

    # What faults use -------------------------------------------------------------------------

    def workers(self):
        """Return the newest generation's members in rank order, once it has some."""
        newest = wait_until(lambda: (one := self.job.newest()) and one.members, "members", LONG)
        return [one.worker for one in newest]

    def strike(self, worker, *number):
        self.struck.add(worker)
        pid = wait_until(lambda: self.job.pid(worker), f"the process of {worker}")
        self.job.signal(pid, *number)

    def has_exit(self, worker):
        return Raw(self.job.store).fetch(keys.worker_exit(self.job.job, worker)) is not None

    def start_agent(self):
        """Start an agent again; returns the moment when it was up."""
        self.agent_was_killed = True
        self.cluster.agent = self.cluster.popen("efctl", "agent", "--slots", SLOTS)
        pid = self.cluster.agent.pid
        wait_until(
            lambda: any(node.get("pid") == pid for node in self.cluster.documents.nodes()),
            "the new agent",
            LONG,
        )
        return time.time()

    # The run ---------------------------------------------------------------------------------

    def strike_once(self, name):
        """Inject one fault after a moment, and wait until training goes on."""
        fault = FAULTS[name]
        time.sleep(float(self.random.uniform(0.0, 0.5)))
        newest = self.job.newest().number
        begin = time.time()
        moment = fault.inject(self)
        progress = self.job.progress()
        alive = any(not self.has_exit(worker) for worker in self.workers())
        bound = fault.bound if alive else max(fault.bound, START)

        def goes_on():
            assert self.job.launched.poll() is None, self.cluster.output(self.job.launched)
            now = self.job.progress()
            if fault.follows:
                return now.get("generation", 0) > newest
            return now.get("global_step") != progress.get("global_step")

        wait_until(goes_on, f"a step after {name}", START + bound, poll=0.05)
        self.story.append((name, moment, newest if fault.follows else 0, bound))
        size = self.job.newest().world_size
        self._say(f"{name}: goes on after {time.time() - begin:.1f} s with {size} workers")

    def end(self):
        """Let the job end and check all; returns what was measured, by fault."""
        status, last = self.job.finish()
        assert status == 0, f"{last}\n{self.job.logs()}"
        trail = self.job.trail()
        num_steps = trail.check()
        trail.check_ranks()
        self._check_exits()
        seconds = {}
        for name, moment, newest, bound in self.story:
            times = [
                when
                for generation, commits in trail.commits.items()
                for when in commits.values()
                if generation > newest and when > moment
            ]
            waited = min(times) - moment
            assert waited <= bound, f"{name}: {waited:.1f} s to the next step, stated {bound:g} s"
            seconds.setdefault(name, []).append(waited)
        return {
            "faults": len(self.story),
            "steps": num_steps,
            "generations": len(trail.commits),
            "restarts": trail.process_tree()[1],
            "longest_s": {name: round(max(times), 2) for name, times in sorted(seconds.items())},
        }

    def _check_exits(self):
        """Nobody ended badly but those who were struck, and those of an agent that was killed."""
        numbers = range(1, self.job.newest().number + 1)
        members = {one.worker for n in numbers for one in self.job.generation(n).members}
        for key in self.job.store.list(keys.exits(self.job.job)):
            end, worker = Raw(self.job.store).fetch(key), keys.last_part(key)
            lost = self.agent_was_killed and end.get("exitcode") is None
            # Asked to go before its script had come far enough to do so in order.
            told_to_go = self.agent_was_told_to_go or worker not in members
            early = told_to_go and end.get("exitcode") == -signal.SIGTERM
            quiet = end.get("exitcode") in QUIET_EXITS
            fine = quiet or worker in self.struck or lost or early
            assert fine, f"worker {worker} ended by itself: {end}\n{self.job.logs()}"


def plan(seed, num_faults, names=tuple(FAULTS)):
    """Return the names of the faults of a run: all kinds in turn, each turn in another order."""
    random = np.random.default_rng([seed, 1])
    found = []
    while len(found) < num_faults:
        found += [names[place] for place in random.permutation(len(names))]
    return found[:num_faults]


def run(folder, seed, num_faults, names=tuple(FAULTS), say=print):
    """Make a chaos run in a folder; returns what was measured."""
    with living(folder) as cluster:
        cluster.start(slots=SLOTS)
        chaos = Run(cluster, folder, seed, say)
        try:
            for number, name in enumerate(plan(seed, num_faults, names), start=1):
                say(f"[{number}/{num_faults}]", end=" ")
                chaos.strike_once(name)
            return chaos.end()
        except BaseException:
            say(f"seed {seed}; the job's story:", *chaos.job.told()[-40:], sep="\n  ")
            raise


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None, help="printed; chosen if not given")
    parser.add_argument("--only", choices=[*FAULTS], nargs="*", help="these kinds alone")
    parser.add_argument("--quick", action="store_true", help="leave out what takes long")
    parser.add_argument("--folder", help="keep all files here")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else int(time.time())
    names = tuple(options.only or (QUICK if options.quick else FAULTS))
    print(f"seed {seed}, {options.faults} faults of {', '.join(names)}", flush=True)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary)
        found = run(folder, seed, options.faults, names, lambda *a, **k: print(*a, **k, flush=True))
    print(json.dumps({"seed": seed, "seconds": round(time.monotonic() - begin), **found}))


if __name__ == "__main__":
    sys.exit(main())
