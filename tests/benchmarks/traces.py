"""How long each published trace takes under ``elasticflow``, and how many jobs are in time.

``python tests/benchmarks/traces.py [--rescale-cost S] [--data DIR] [--contended]``. The traces are
not part of the project: they are looked for in ``EFLIB_SHARED_DATA``, else beside the checkout. The
last line is one JSON object: seconds by trace, and their sum.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from eflib.profiles import curves
from eflib.scheduling import SchedulerSettings
from eflib.simulator import ClusterShape, read_trace, simulate

ROOT = Path(__file__).parents[2]
RUNS = (
    ("195job", 16, 8, "a100"),
    ("elasticVpollux_e", 16, 4, "t4"),
    ("1000job_1500lam", 8, 8, "a100"),
    ("1000job_1500lam", 16, 8, "a100"),
    ("1000job_1500lam", 32, 8, "a100"),
    ("100jobs_1500lam", 16, 8, "a100"),
    ("200jobs_900lam_0.1", 8, 8, "a100"),
    ("200jobs_900lam_0.5", 8, 8, "a100"),
    ("200jobs_900lam_0.9", 8, 8, "a100"),
    ("cluster10", 32, 8, "a100"),
    ("cluster01", 64, 8, "a100"),
    ("cluster03", 64, 8, "a100"),
)
CONTENDED = (
    ("195job", 8, 8, "a100"),
    ("195job", 4, 8, "a100"),
    ("cluster03", 32, 8, "a100"),
    ("cluster03", 16, 8, "a100"),
    ("195job", 10, 8, "a100"),
)


def main() -> int:
    """Print a table and the JSON line."""
    beside = os.environ.get("EFLIB_SHARED_DATA") or ROOT.parent / "shared" / "data"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rescale-cost", type=float, default=0.0, help="seconds per change")
    parser.add_argument("--data", type=Path, default=Path(beside))
    parser.add_argument("--contended", action="store_true", help="smaller clusters")
    args = parser.parse_args()
    if not (args.data / "traces").is_dir():
        sys.stderr.write(f"traces: no folder {args.data / 'traces'}; name one with --data\n")
        return 2
    taken = {}
    for name, nodes, per_node, device in CONTENDED if args.contended else RUNS:
        trace = read_trace(args.data / "traces" / f"{name}.csv")
        known = curves(args.data / "throughputs" / device)
        settings = SchedulerSettings(rescale_cost=args.rescale_cost)
        began = time.process_time()
        result = simulate(trace, ClusterShape(nodes, per_node), known, "elasticflow", settings)
        seconds = time.process_time() - began
        s, admitted = result.summary, max(result.summary.admitted, 1)
        taken[f"{name}_on_{nodes * per_node}"] = round(seconds, 2)
        effort = "" if s.best_effort_completion_s is None else f"{s.best_effort_completion_s:.0f}"
        print(
            f"{name:20} on {nodes * per_node:4}: in time {s.met:5}, late {s.late}, rescales "
            f"{s.rescales / admitted:5.2f}, migrations {s.migrations / admitted:4.2f} a job, "
            f"best effort {effort:>6} s, {seconds:6.1f} s of CPU",
            flush=True,
        )
    taken["sum"] = round(sum(taken.values()), 2)
    print(json.dumps(taken))
    return 0


if __name__ == "__main__":
    sys.exit(main())
