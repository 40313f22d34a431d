"""The first thing that runs in a worker: it makes the surroundings, then runs the script.

It is the entry point that torch elastic's process context calls, in a process just forked from the
warm pool. It never returns: see ``script.finish``.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import torch

from eflib import pulse
from eflib.agent import lineage, script
from eflib.agent.warm import HELPER_VARIABLES

if TYPE_CHECKING:
    from io import TextIOWrapper

    from eflib.agent.order import Order


def main(order: Order) -> NoReturn:
    """Run one worker to its end."""
    os.setsid()
    lineage.die_with_parent(order.parent)
    lineage.adopt_orphans()
    open_log(order.log)
    status = 1
    try:
        if order.pulse_file:
            pulse.begin(order.pulse_file)
        forget_the_pool(order)
        enter(order)
        status = script.run(order)
    except Exception as error:  # noqa: BLE001 - our own fault or a missing folder; the log tells
        script.write_error(order.error_file, f"{type(error).__name__}: {error}", "")
        sys.excepthook(type(error), error, error.__traceback__)
    script.finish(status)


def open_log(path: str) -> None:
    """Send standard output and error to the end of one file, and take input from nowhere."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    sys.stdout = sys.__stdout__ = _line_stream(1, "replace")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _line_stream(2, "backslashreplace")  # type: ignore[misc]


def forget_the_pool(order: Order) -> None:
    """Undo what a fork leaves behind that a fresh interpreter would not have."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    for name in HELPER_VARIABLES:
        if name not in order.environment:
            os.environ.pop(name, None)
    # torch's wrapper made forkserver the default: DataLoader would start its workers there.
    multiprocessing.set_start_method(None, force=True)
    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()
    torch.set_num_threads(int(order.environment.get("OMP_NUM_THREADS", "1")))


def enter(order: Order) -> None:
    """Take the script's folder, arguments and search path."""
    if order.cwd:
        os.chdir(order.cwd)
    first = os.getcwd() if order.module else os.path.dirname(os.path.abspath(order.script))  # noqa: PTH100, PTH109, PTH120
    more = order.environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [first, *(path for path in more if path and path not in sys.path)]
    sys.argv = [order.script or order.module, *order.argv]


def _line_stream(number: int, errors: str) -> TextIOWrapper:
    return open(number, "w", buffering=1, encoding="utf-8", errors=errors, closefd=False)
