"""``python -m tests.chaos.audit --seed 7``: rescales and kills at random moments of three epochs.

1003 samples, batches of 64, three epochs. At least six changes of size and six ``kill -9`` come at
moments that the seed chooses. Then no sample is lost or repeated among the committed steps, all
ranks are equal bit by bit, and the numbers are those of a run that nobody disturbed: to rounding,
and with ``--deterministic`` to the bit.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from tests.helpers.clusters import LONG, living
from tests.helpers.disturbed import SCRIPT, DisturbedJob
from tests.helpers.processes import wait_until

EPOCHS = 3
NUM_EVENTS = 6  # of each kind
SIZES = (1, 2, 3, 4)
FIRST_STEPS, REST = 4, 44
FAST, HELD = 0.1, 2.0
"""Seconds per step: held back while an event takes more of the steps than it may."""
SGD_BOUND = 1e-5
ADAM_LOSS_BOUND = 1e-3


def undisturbed(folder, words):
    """Train the same under plain python; returns what it saved."""
    out = Path(folder) / "alone"
    out.mkdir()
    command = [sys.executable, SCRIPT, "--out", out, *words]
    subprocess.run(command, check=True, timeout=LONG, capture_output=True)
    return torch.load(out / "final.pt")


def may_be_killed(job, newest):
    """Return the members that do not hold the state alone: there is no checkpoint to go back to.

    Who is new in a generation holds it for sure only after a step was committed in that.
    """
    workers = [one.worker for one in newest.members]
    committed = job.generation(job.committed()[0])
    holders = {one.worker for one in committed.members}.intersection(workers)
    return [one for one in workers if holders - {one}]


class Disturbance:
    """The events of one run, each within its part of the steps.

    Attributes:
        done: How often each kind of event came.
    """

    def __init__(self, job, random, say):
        self.job, self.random, self.say = job, random, say
        self.kinds = random.permutation(["rescale", "kill"] * NUM_EVENTS).tolist()
        self.done = dict.fromkeys(self.kinds, 0)

    def run(self):
        self.limit = FIRST_STEPS
        self.wait(lambda: self.job.has_size(max(SIZES)), "all workers")
        for number, kind in enumerate(self.kinds):
            self.limit = FIRST_STEPS + REST * (number + 1) // (len(self.kinds) + 1)
            begin = time.monotonic()
            self.hold()
            time.sleep(float(self.random.uniform(0.0, 0.4)))
            newest = self.rescale() if kind == "rescale" else self.kill()
            self.wait(lambda after=newest: self.job.committed()[0] > after, kind)
            self.done[kind] += 1
            step, size = self.job.committed()[1], self.job.newest().world_size
            seconds = time.monotonic() - begin
            self.say(f"{kind} by step {step}: {size} workers, {seconds:.1f} s", flush=True)
        self.job.set_pace(FAST)

    def rescale(self):
        """Ask for another size and wait until it is there; returns the generation before."""
        newest = self.job.newest()
        self.grow_to(int(self.random.choice([one for one in SIZES if one != newest.world_size])))
        return newest.number

    def kill(self):
        """Kill a worker, in a change of size or not; returns the generation before."""
        newest = self.job.newest()
        victims = may_be_killed(self.job, newest)
        if not victims:
            self.grow_to(3)
            newest = self.job.newest()
            victims = may_be_killed(self.job, newest)
        self.job.signal(self.job.pid(victims[int(self.random.integers(len(victims)))]))
        return newest.number

    def grow_to(self, size):
        self.job.ask_for_size(size)
        self.wait(lambda: self.job.has_size(size), f"{size} workers")

    def wait(self, holds, what):
        def look():
            self.hold()
            return holds()

        wait_until(look, what, LONG, poll=0.02)

    def hold(self):
        """Hold steps back that belong to later events, but not those of a switch."""
        assert self.job.launched.poll() is None, self.job.cluster.output(self.job.launched)
        newest = self.job.newest()
        switches = newest is not None and newest.number > self.job.committed()[0]
        self.job.set_pace(FAST, self.limit, FAST if switches else HELD)


def audit(folder, seed, optimizer="sgd", *, deterministic=False, say=print):
    """Run once, check all, and return what was measured."""
    folder = Path(folder)
    words = ["--epochs", str(EPOCHS), "--optimizer", optimizer]
    words += ["--deterministic"] * deterministic
    reference = undisturbed(folder, words)
    with living(folder / "cluster") as cluster:
        cluster.start(slots=4)
        job = DisturbedJob(cluster, folder, f"audit-{seed}", *words, pace=HELD)
        disturbance = Disturbance(job, np.random.default_rng(seed), say)
        disturbance.run()
        status, last = job.wait_end()
        assert status == 0, f"{last}\n{job.logs()}"
        trail = job.trail()
        rescales = job.status()["rescales"]
    num_steps = trail.check()
    _, restarts = trail.process_tree()
    trail.check_ranks()
    final = torch.load(job.out / "final.pt")
    pairs = [(final["model"][name], reference["model"][name]) for name in reference["model"]]
    difference = max(float((one - other).abs().max()) for one, other in pairs)
    loss = abs(final["loss"] - reference["loss"]) / abs(reference["loss"])
    assert restarts == 0
    if deterministic:
        assert all(torch.equal(one, other) for one, other in pairs), difference
        assert loss == 0.0, loss
    elif optimizer == "sgd":
        assert difference <= SGD_BOUND, difference
    assert loss <= ADAM_LOSS_BOUND, loss
    return {
        "seed": seed,
        "optimizer": optimizer,
        "deterministic": deterministic,
        "steps": num_steps,
        **{f"{kind}s": times for kind, times in disturbance.done.items()},
        "changes": len(rescales),
        "parameter_difference": difference,
        "relative_loss_difference": loss,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="printed; chosen if not given")
    parser.add_argument("--optimizer", choices=["sgd", "adam"], default="sgd")
    parser.add_argument("--deterministic", action="store_true")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else int(time.time())
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        found = audit(folder, seed, options.optimizer, deterministic=options.deterministic)
        print(json.dumps(found))


if __name__ == "__main__":
    sys.exit(main())
