"""How long training stands still when a worker is killed, against torchrun's restart.

``python tests/benchmarks/recovery.py [--times N] [--torchrun-times N] [--width W] [--smallest]``.
One of four workers of a job gets ``kill -9``, some times over; then the same is done to one of four
workers of the same training under plain torchrun, which restarts all four from the newest snapshot.
``recovery_s`` and ``torchrun_s`` are medians of the time from the kill to the first step that
anybody has done since without the victim. ``lost_steps`` are the steps that were done, by the
workers' notes, and had to be done again: the most of all kills; ``torchrun_lost_steps`` likewise.
The last line is one JSON object.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from live import LiveCluster, Torchrun, device_for, stamps

SCRIPT = Path(__file__).with_name("elastic_job.py")
SIZE = 4


class Kill:
    """One kill, seen through what the workers noted.

    Args:
        rows: The notes so far.
    """

    def __init__(self, rows):
        newest = {row["rank"]: row for row in rows}
        self.round = rows[-1]["round"]
        self.victim = newest[SIZE - 2]["pid"]
        self.time = time.time()
        os.kill(self.victim, signal.SIGKILL)

    def first_after(self, rows):
        """Return the first step of another round, or None."""
        later = (row for row in rows if row["time"] > self.time and row["round"] != self.round)
        return next(later, None)

    def seconds(self, rows):
        """Return the time to that step."""
        return self.first_after(rows)["time"] - self.time

    def lost_steps(self, rows):
        """Return how many steps that were done were done again."""
        first = self.first_after(rows)
        done = [row["step"] for row in rows if row["time"] < first["time"]]
        return max(done) + 1 - first["step"]


def settled(rows, after, steps):
    """Tell whether all four workers took so many steps together since a kill (None: at all)."""
    if not rows or rows[-1]["world"] != SIZE:
        return False
    now = [row for row in rows if row["round"] == rows[-1]["round"]]
    fresh = after is None or after.victim not in {row["pid"] for row in now}
    many = max(row["step"] for row in now) - min(row["step"] for row in now) >= steps
    return fresh and many and len({row["rank"] for row in now}) == SIZE


def repeat(options, times, rows, wait):
    """Kill a worker so many times; returns the kills."""
    kills = []
    for _ in range(times):
        last = kills[-1] if kills else None
        wait(lambda found, last=last: settled(found, last, options.steps), "four workers at work")
        kills.append(Kill(rows()))
        wait(kills[-1].first_after, "a step without the victim")
    return kills


def measure_ours(options):
    """Return the seconds and the lost steps of each kill."""
    with LiveCluster(slots=SIZE) as cluster:
        out = cluster.folder / "out"
        words = ["ours", "--out", out, "--width", options.width]
        job = cluster.submit("killed", SCRIPT, *words, max_gpus=SIZE)

        def wait(holds, what):
            cluster.wait_status("killed", lambda _: holds(stamps(out)), what)

        kills = repeat(options, options.times, lambda: stamps(out), wait)
        rows = stamps(out)
        (out / "stop").touch()
        job.wait(timeout=60)
        return [kill.seconds(rows) for kill in kills], [kill.lost_steps(rows) for kill in kills]


def measure_torchrun(options):
    """Return the seconds and the lost steps of each kill."""
    if not options.torchrun_times:
        return [], []
    words = ["torchrun", "--width", options.width]
    with Torchrun(SCRIPT, *words, nodes=1, workers=SIZE) as peer:
        peer.add_agent()
        kills = repeat(options, options.torchrun_times, peer.stamps, peer.wait_stamps)
        rows = peer.stamps()
        return [kill.seconds(rows) for kill in kills], [kill.lost_steps(rows) for kill in kills]


def main():
    """Print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5, help="kills")
    parser.add_argument("--torchrun-times", type=int, default=2, help="kills under torchrun")
    parser.add_argument("--width", type=int, default=1024, help="of the model's hidden layers")
    parser.add_argument("--steps", type=int, default=60, help="of all four before the next kill")
    parser.add_argument("--smallest", action="store_true", help="a look whether it runs at all")
    options = parser.parse_args()
    if options.smallest:
        options.times, options.torchrun_times, options.width, options.steps = 1, 0, 32, 3
    report = {}
    for name, label, (seconds, lost) in (
        ("", "eflib", measure_ours(options)),
        ("torchrun_", "torchrun", measure_torchrun(options)),
    ):
        key = f"{name}s" if name else "recovery_s"
        report[key] = round(statistics.median(seconds), 4) if seconds else None
        report[f"{name}lost_steps"] = max(lost, default=None)
        if seconds:
            listed = ", ".join(f"{value:.3f}" for value in seconds)
            print(f"{label:8}: {report[key]:.3f} s (of {listed}), lost steps {lost}", flush=True)
    report |= {"device": device_for(SIZE), "cores": os.cpu_count()}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
