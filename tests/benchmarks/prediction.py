"""How well four workers are predicted from one and two, and what measuring costs.

``python tests/benchmarks/prediction.py [--times N] [--steps N] [--smallest]``. Jobs are profiled on
four slots of a cluster of their own, some times over: ``paced``, a model that sleeps for each
sample as an accelerator would compute, and ``digits``, whose workers share the cores of this
machine. What was measured on one and two workers alone is then extrapolated to four and held
against what was measured there. Last, a paced job of ``--steps`` steps is submitted as any new one.

``error_CASE`` is the median of speeds predicted over measured, less one; ``worst_CASE`` the largest
without its sign; ``margin_CASE`` what the prediction allows itself. ``naive_CASE`` is the error of
"twice as many workers, as much faster again as from one to two". ``cost_s`` is the time that the
submitted job was measured for, ``cost_share`` that over its time from the first to the last step.
``shipped_error`` and ``shipped_worst_tenth`` are errors on the curves that ship, without signs. The
last line is one JSON object.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from live import LiveCluster

from eflib import profiles
from eflib.profiler.fit import Host, Observation, fit
from eflib.trainer.elastic.reporting import machine

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits.py"
CASES = {"paced": ("--batch-size", "64", "--pace", "0.002"), "digits": ("--batch-size", "64")}
SLOTS = 4


def profiled(cluster, name, words, seconds=240):
    """Run ``efctl profile`` and return what it measured, by number of workers."""
    process = cluster.start("efctl", "profile", "--name", name, DIGITS, "--steps", 10000, *words)
    status = cluster.wait_status(name, lambda one: one["state"] == "SUCCEEDED", "a curve", seconds)
    process.wait(timeout=60)
    details = status["curve_details"]
    return {
        int(size): Observation.of({"steps_per_s": rate, **details[size]})
        for size, rate in status["curve"].items()
    }


def judged(observed, host):
    """Return (error of the prediction at four, its margin, error of the naive one)."""
    known = {size: observed[size] for size in (1, 2)}
    guess = fit(known, host).at(SLOTS)
    one, two, four = (observed[size].steps_per_s for size in (1, 2, 4))
    return guess.steps_per_s / four - 1, guess.margin, two * (two / one) / four - 1


def shipped():
    """Return the errors at four GPUs, without signs, on the curves that ship."""
    errors = []
    for profile in profiles.available():
        if {1, 2, 4} <= set(profile.points):
            observed = {n: Observation(rate) for n, rate in profile.points.items()}
            errors.append(abs(judged(observed, None)[0]))
    return sorted(errors)


def cost(cluster, steps):
    """Return (seconds of measuring, seconds of training) of a job that is new to the cluster."""
    words = ["--steps", steps, "--batch-size", "60", "--pace", "0.002"]  # a batch unknown so far
    process = cluster.start("eflaunch", "--name", "new", "--deadline", "30m", DIGITS, *words)
    status = cluster.wait_status("new", lambda one: one["state"] == "SUCCEEDED", "to end", 600)
    process.wait(timeout=60)
    return status["measuring_s"], status["ended"] - status["started"]


def run(cases, times, steps):
    """Print a table; return the report."""
    cores = machine(torch.device("cpu")).cores
    host = Host(cores, SLOTS, threads=1)
    report = {"cores": cores, "times": times}
    with LiveCluster(slots=SLOTS) as cluster:
        for case, words in cases.items():
            found = []
            for turn in range(times):
                observed = profiled(cluster, f"{case}-{turn}", words)
                error, margin, naive = judged(observed, host)
                found.append((error, margin, naive))
                speeds = ", ".join(f"{n}: {one.steps_per_s:.4g}" for n, one in observed.items())
                print(f"{case:7} {speeds} steps/s; predicted at 4: {error:+.1%} off", flush=True)
            errors, margins, naives = zip(*found, strict=True)
            report |= {
                f"error_{case}": round(statistics.median(errors), 4),
                f"worst_{case}": round(max(map(abs, errors)), 4),
                f"margin_{case}": round(statistics.median(margins), 4),
                f"naive_{case}": round(statistics.median(naives), 4),
            }
        measuring, training = cost(cluster, steps)
    errors = shipped()
    report |= {
        "cost_s": round(measuring, 2),
        "cost_share": round(measuring / training, 4),
        "shipped_error": round(statistics.median(errors), 4),
        "shipped_worst_tenth": round(statistics.quantiles(errors, n=10)[-1], 4),
    }
    print(f"measuring took {measuring:.1f} s of a job that then trained for {training:.1f} s")
    return report


def main():
    """Print what each run gives, and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1500, help="of the job that is submitted")
    parser.add_argument("--smallest", action="store_true", help="one case, once, a short job")
    options = parser.parse_args()
    cases = CASES
    if options.smallest:
        options.times, options.steps, cases = 1, 60, {"paced": CASES["paced"]}
    print(json.dumps(run(cases, options.times, options.steps)))


if __name__ == "__main__":
    main()
