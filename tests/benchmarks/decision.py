"""How long one whole decision takes: a job arrives, is admitted or not, and everything is placed.

``python tests/benchmarks/decision.py [--seed N] [--decisions N]`` fills a cluster with live jobs
whose shares take about four fifths of it, then times each further arrival; an old job ends after
each, so that their number stays. The last line is one JSON object of medians in milliseconds
of processor time: a decision waits for nothing, and what other processes do should not count.
"""

import argparse
import json
import random
import statistics
import time

from eflib.profiles import curves
from eflib.scheduling import (
    Admitted,
    JobEnded,
    JobRequest,
    JobSubmitted,
    NodeJoined,
    Scheduler,
    SchedulerSettings,
)

GPUS_PER_NODE = 8
SIZES = (1, 1, 2, 2, 4, 4, 8, 16)  # shares asked for: 4.75 GPUs on average
CASES = ((10, 512), (100, 512), (1000, 4096))
RESCALE_COST_S = 30.0
BATCH = 20  # jobs that come at once while the cluster is filled


class Arrivals:
    """Jobs with the shipped curves, durations of an hour or two, deadlines somewhat later."""

    def __init__(self, seed: int, *, share: float) -> None:
        self._random = random.Random(seed)
        self._curves = [curve for _, curve in sorted(curves("a100").items())]
        self._share = share
        self._number = 0

    def next(self, now: float) -> JobRequest:
        """Return a job that arrives now."""
        self._number += 1
        curve = self._random.choice(self._curves)
        usable = dict(curve.usable())
        wanted = self._random.choice(SIZES) * self._share
        count = max((n for n in usable if n <= wanted), default=1)
        duration = self._random.lognormvariate(8.0, 1.0)
        deadline = now + duration * self._random.uniform(1.05, 1.6) + 2 * RESCALE_COST_S
        steps = max(usable[count] * duration, 1.0)
        return JobRequest(f"j{self._number}", curve, steps, now, deadline)


def milliseconds(live: int, gpus: int, *, seed: int, decisions: int) -> list[float]:
    """Return the time of each decision at a number of live jobs."""
    scheduler = Scheduler(SchedulerSettings(rescale_cost=RESCALE_COST_S, quotes=False))
    now = 0.0
    for node in range(gpus // GPUS_PER_NODE):
        scheduler.handle(NodeJoined(f"{node:04d}", GPUS_PER_NODE), now)
    arrivals = Arrivals(seed, share=max(0.8 * gpus / (4.75 * live), 1.0))
    refused = 0
    while len(scheduler.jobs()) < live:
        now += 1.0
        some = min(BATCH, live - len(scheduler.jobs()))
        newcomers = [JobSubmitted(arrivals.next(now)) for _ in range(some)]
        commands = scheduler.handle_all(newcomers, now)
        refused += some - sum(isinstance(command, Admitted) for command in commands)
        if refused > 4 * live:
            raise SystemExit(f"decision: cannot fill {gpus} GPUs with {live} jobs")
    taken = []
    for _ in range(decisions):
        now += 1.0
        request = arrivals.next(now)
        began = time.process_time()
        scheduler.handle(JobSubmitted(request), now)
        taken.append(1000 * (time.process_time() - began))
        while len(scheduler.jobs()) > live - 1:
            scheduler.handle(JobEnded(scheduler.jobs()[0]), now)
    return taken


def main() -> None:
    """Print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--decisions", type=int, default=60)
    args = parser.parse_args()
    report = {}
    for live, gpus in CASES:
        decisions = args.decisions if live < 1000 else max(args.decisions // 3, 10)
        taken = milliseconds(live, gpus, seed=args.seed, decisions=decisions)
        report[f"ms_{live}_jobs_{gpus}_gpus"] = round(statistics.median(taken), 3)
        worst = statistics.quantiles(taken, n=10)[-1]
        median = statistics.median(taken)
        print(f"{live:5} live jobs on {gpus:5} GPUs: median {median:8.2f} ms, 90% {worst:8.2f} ms")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
