"""``python -m eflib.simulator``: simulate one trace, print the summary, write the schedule."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from eflib.errors import EflibError
from eflib.profiles import curves
from eflib.scheduling.settings import SchedulerSettings
from eflib.simulator.policies import ClusterShape
from eflib.simulator.simulator import simulate
from eflib.simulator.trace import check_curves, read_trace


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m eflib.simulator", description=__doc__)
    parser.add_argument("--trace", type=Path, required=True)
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--gpus-per-node", type=int, required=True)
    parser.add_argument("--profiles", required=True, help="a device that ships, or a folder")
    parser.add_argument("--policy", default="elasticflow")
    parser.add_argument("--rescale-cost", type=float, default=0.0, help="seconds per change")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    try:
        trace = read_trace(args.trace)
        known = curves(args.profiles)
        check_curves(trace, known, args.trace)
        settings = SchedulerSettings(rescale_cost=args.rescale_cost)
        shape = ClusterShape(args.nodes, args.gpus_per_node)
        began = time.perf_counter()
        result = simulate(trace, shape, known, args.policy, settings)
        result = result.timed(time.perf_counter() - began, args.profiles)
        if args.out is not None:
            result.write(args.out)
    except EflibError as error:
        sys.stderr.write(error.render() + "\n")
        return error.exit_status
    summary = asdict(result.summary)
    if args.json:
        sys.stdout.write(json.dumps(summary) + "\n")
    else:
        sys.stdout.writelines(f"{name:26} {value}\n" for name, value in summary.items())
    return 0


if __name__ == "__main__":
    sys.exit(main())
