"""A program that uses the warm pool without an agent, and prints what came of it as JSON."""

import functools
import json
import os
import signal
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
    found["told to leave at once"] = [leaves_at_once(pool, folder, name) for name in "abcde"]
    return found


def leaves_at_once(pool, folder, name):
    """Start a worker and tell it to leave before it can have a handler; returns its exit code."""
    script = folder / "sleeps.py"
    script.write_text("import time\ntime.sleep(600)")
    files = [str(folder / f"{name}.{what}") for what in ("log", "error")]
    worker = context.start(Order(name, "j", str(script), "", (), "", {}, *files), pool)
    os.kill(worker.pid, signal.SIGTERM)
    if not wait([worker.sentinel], 20):
        os.kill(worker.pid, signal.SIGKILL)
    return wait_until(lambda: worker.exitcode, "the exit code")


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
