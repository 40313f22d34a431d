"""A program that uses the warm pool without an agent, and prints what came of it as JSON."""

import functools
import json
import sys
import time
from multiprocessing.connection import wait
from pathlib import Path

from eflib.agent import context, devices
from eflib.agent.order import Order
from eflib.agent.pool import PoolDiedError, WarmPool
from tests.helpers.processes import wait_until

FAILURES = (EOFError, TimeoutError, PoolDiedError)


def outcome(pool, function, seconds=60.0):
    try:
        return pool.call(function, seconds=seconds)
    except FAILURES as error:
        return type(error).__name__


def calls(folder):
    """Call functions in the pool, before it is there and after."""
    pool = WarmPool(folder / "mark", "tag")
    found = {"too early": outcome(pool, devices.gpu_names)}
    pool.ensure()
    found["warm"] = pool.wait()
    found["GPUs"] = outcome(pool, devices.gpu_names)
    found["hangs"] = outcome(pool, functools.partial(time.sleep, 600), seconds=0.2)
    found["raises"] = outcome(pool, functools.partial(int, "x"))
    return found


def cold(folder):
    """Start a worker where there is no forkserver."""
    pool = WarmPool(folder / "mark", "tag", start_method="spawn")
    pool.ensure()
    script, log = folder / "script.py", folder / "log"
    script.write_text("import sys\nprint('ran', sys.argv[1:])\nsys.exit(3)")
    order = Order("w", "j", str(script), "", ("x",), "", {}, str(log), str(folder / "error"))
    worker = context.start(order, pool)
    wait([worker.sentinel], 120)
    wait_until(lambda: worker.exitcode is not None, "the exit code")  # it comes a little later
    return {"ready": pool.is_ready, "exitcode": worker.exitcode, "log": log.read_text()}


if __name__ == "__main__":
    home = Path(sys.argv[1])
    print(json.dumps({"calls": calls(home), "cold": cold(home)}))
