"""``python -m tests.chaos.audit --seed 7``: rescales and kills at random moments of three epochs.

1003 samples, batches of 64, three epochs. At least six changes of size and six ``kill -9`` come at
moments that the seed chooses. Then no sample is lost or repeated among the committed steps, all
ranks are equal bit by bit, and the numbers are those of a run that nobody disturbed.
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
FAST, SLOW = 0.02, 0.6
"""Seconds per step: slow while there are more events to come than steps would leave room for."""
SGD_BOUND = 1e-5
ADAM_LOSS_BOUND = 1e-3


def undisturbed(folder, optimizer):
    """Train the same under plain python; returns what it saved."""
    out = Path(folder) / "alone"
    out.mkdir()
    words = ["--out", out, "--epochs", str(EPOCHS), "--optimizer", optimizer]
    subprocess.run([sys.executable, SCRIPT, *words], check=True, timeout=LONG, capture_output=True)
    return torch.load(out / "final.pt")


def disturb(job, random, say):
    """Change the job's size and kill its workers in turn, at random moments; returns how often."""
    done = {"rescale": 0, "kill": 0}
    for kind in random.permutation(["rescale", "kill"] * NUM_EVENTS):
        steps = job.progress().get("global_step", 0)
        job.set_pace(SLOW if steps > 4 + 3 * sum(done.values()) else SLOW / 2)
        time.sleep(float(random.uniform(0.0, 0.4)))
        newest = job.newest()
        if kind == "rescale":
            sizes = [size for size in (1, 2, 3, 4) if size != newest.world_size]
            job.ask_for_size(int(random.choice(sizes)))
        else:
            victims = [one.worker for one in newest.members]
            # One survivor keeps the state: there is no checkpoint here to go back to.
            if len(victims) == 1:
                job.ask_for_size(3)
                job.wait_size(3)
                newest = job.newest()
                victims = [one.worker for one in newest.members]
            job.signal(job.pid(victims[int(random.integers(len(victims)))]))
        done[str(kind)] += 1
        wait_until(
            lambda number=newest.number: job.progress().get("generation", 0) > number,
            f"a generation after {kind}",
            LONG,
        )
        say(f"{kind} at step {steps}: {newest.world_size} -> {job.newest().world_size} workers")
    job.set_pace(FAST)
    return done


def audit(folder, seed, optimizer="sgd", say=print):
    """Run once, check all, and return what was measured."""
    folder = Path(folder)
    reference = undisturbed(folder, optimizer)
    with living(folder / "cluster") as cluster:
        cluster.start(slots=4)
        words = ("--epochs", EPOCHS, "--optimizer", optimizer)
        job = DisturbedJob(cluster, folder, f"audit-{seed}", *words, pace=SLOW)
        wait_until(lambda: job.progress().get("world_size") == 4, "four workers", LONG)
        done = disturb(job, np.random.default_rng(seed), say)
        status, last = job.wait_end()
        assert status == 0, f"{last}\n{job.logs()}"
        trail = job.trail()
        rescales = job.status()["rescales"]
    num_steps = trail.check()
    _, restarts = trail.lineage()
    trail.check_ranks()
    final = torch.load(job.out / "final.pt")
    pairs = [(final["model"][name], reference["model"][name]) for name in reference["model"]]
    difference = max(float((one - other).abs().max()) for one, other in pairs)
    loss = abs(final["loss"] - reference["loss"]) / abs(reference["loss"])
    assert restarts == 0
    if optimizer == "sgd":
        assert difference <= SGD_BOUND, difference
    assert loss <= ADAM_LOSS_BOUND, loss
    return {
        "seed": seed,
        "optimizer": optimizer,
        "steps": num_steps,
        **{f"{kind}s": times for kind, times in done.items()},
        "changes": len(rescales),
        "parameter_difference": difference,
        "relative_loss_difference": loss,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="printed; chosen if not given")
    parser.add_argument("--optimizer", choices=["sgd", "adam"], default="sgd")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else int(time.time())
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(audit(folder, seed, options.optimizer)))


if __name__ == "__main__":
    sys.exit(main())
