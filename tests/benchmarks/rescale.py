"""How long training pauses when a job changes size, against torchrun's elastic restart.

``python tests/benchmarks/rescale.py [--times N] [--torchrun-times N] [--width W] [--smallest]``. A
job on two of four slots is given four with ``efctl rescale``, then two again, some times over.
Then the same model trains under plain torchrun with one agent of two workers; a second agent joins,
and leaves. Both ways the pause is the time from the last step that any worker did at the old size
to the first step that any did at the new one, as the workers noted it.

``pause_s_A_B`` and ``torchrun_s_A_B`` are medians; ``ratio`` is the larger of the two quotients of
ours over torchrun's; ``parts_A_B`` says where our pause goes. The last line is one JSON object.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from live import LiveCluster, Torchrun, device_for, stamps

SCRIPT = Path(__file__).with_name("elastic_job.py")
PARTS = ("agree", "leave", "form", "state", "first_step")


def pause(rows, world, since):
    """Return the pause before the first step at a world size after a time, or None."""
    first = next((one for one in rows if one["world"] == world and one["time"] > since), None)
    if first is None:
        return None
    earlier = [one["time"] for one in rows if one["world"] != world and one["time"] < first["time"]]
    return first["time"] - max(earlier)


def settled(rows, world, since, steps):
    """Tell whether so many steps were done at a world size after a time."""
    here = [one["step"] for one in rows if one["world"] == world and one["time"] > since]
    return bool(here) and max(here) - min(here) >= steps


def measure_ours(times, width, steps):
    """Return the pauses by direction, and the parts that the job reported."""
    pauses, parts = {(2, 4): [], (4, 2): []}, {(2, 4): [], (4, 2): []}
    with LiveCluster(slots=4) as cluster:
        out = cluster.folder / "out"
        words = ["ours", "--out", out, "--width", width]
        job = cluster.submit("rescaled", SCRIPT, *words, max_gpus=4)
        cluster.wait_status("rescaled", lambda one: one["state"] == "RUNNING", "to run")
        size, since = 2, time.time()
        cluster.control("rescale", "rescaled", size)
        cluster.wait_status(
            "rescaled", lambda _: settled(stamps(out), 2, since, steps), "steps on two"
        )
        for _ in range(2 * times):
            before, size, since = size, 6 - size, time.time()
            cluster.control("rescale", "rescaled", size)
            cluster.wait_status(
                "rescaled",
                lambda _, size=size, since=since: settled(stamps(out), size, since, steps),
                f"steps on {size}",
            )
            pauses[before, size].append(pause(stamps(out), size, since))
        for one in cluster.status("rescaled")["rescales"]:
            if (one["from"], one["to"]) in parts and one["parts"]:
                parts[one["from"], one["to"]].append(one["parts"])
        (out / "stop").touch()
        job.wait(timeout=60)
    return pauses, parts


def measure_torchrun(times, width, steps):
    """Return the pauses by direction."""
    pauses = {(2, 4): [], (4, 2): []}
    with Torchrun(SCRIPT, "torchrun", "--width", width, nodes=2, workers=2) as peer:
        peer.add_agent()
        since = 0.0
        peer.wait_stamps(lambda rows: settled(rows, 2, 0.0, steps), "steps on two")
        for _ in range(times):
            since = time.time()
            agent = peer.add_agent()
            peer.wait_stamps(lambda rows, t=since: settled(rows, 4, t, steps), "steps on four")
            pauses[2, 4].append(pause(peer.stamps(), 4, since))
            since = time.time()
            peer.stop(agent)
            peer.wait_stamps(lambda rows, t=since: settled(rows, 2, t, steps), "steps on two again")
            pauses[4, 2].append(pause(peer.stamps(), 2, since))
    return pauses


def main():
    """Print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5, help="rescales each way")
    parser.add_argument("--torchrun-times", type=int, default=2, help="restarts each way")
    parser.add_argument("--width", type=int, default=1024, help="of the model's hidden layers")
    parser.add_argument("--steps", type=int, default=30, help="before the size is changed again")
    parser.add_argument("--smallest", action="store_true", help="a look whether it runs at all")
    options = parser.parse_args()
    if options.smallest:
        options.times, options.torchrun_times, options.width, options.steps = 1, 0, 32, 3
    report = {}
    ours, parts = measure_ours(options.times, options.width, options.steps)
    theirs = measure_torchrun(options.torchrun_times, options.width, options.steps)
    quotients = []
    for way in ours:
        name = f"{way[0]}_{way[1]}"
        mean = statistics.median(ours[way])
        report[f"pause_s_{name}"] = round(mean, 4)
        report[f"torchrun_s_{name}"] = None
        text = f"{way[0]} -> {way[1]}: pause {mean:.4f} s (of {_listed(ours[way])})"
        if theirs[way]:
            peer = statistics.median(theirs[way])
            quotients.append(mean / peer)
            report[f"torchrun_s_{name}"] = round(peer, 3)
            text += f", torchrun {peer:.2f} s (of {_listed(theirs[way])}), 1/{peer / mean:.0f}"
        report[f"parts_{name}"] = {
            part: round(statistics.median(one[part] for one in parts[way]), 4) for part in PARTS
        }
        print(f"{text}\n  {report[f'parts_{name}']}", flush=True)
    report["ratio"] = round(max(quotients), 5) if quotients else None
    report |= {"device": device_for(4), "cores": os.cpu_count()}
    print(json.dumps(report))


def _listed(values):
    return ", ".join(f"{value:.3f}" for value in values)


if __name__ == "__main__":
    main()
