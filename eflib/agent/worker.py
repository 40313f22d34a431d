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
from eflib.agent import output, process_tree, script
from eflib.agent.warm import HELPER_VARIABLES, LATER_SIGNALS

if TYPE_CHECKING:
    from eflib.agent.order import Order


def main(order: Order) -> NoReturn:
    """Run one worker to its end."""
    os.setsid()
    process_tree.die_with_parent(order.parent)
    process_tree.adopt_orphans()
    status = 1
    try:
        output.redirect(order.log)
        if order.pulse_file:
            pulse.begin(order.pulse_file)
        forget_the_pool(order)
        enter(order)
        status = script.run(order)
    except Exception as error:  # noqa: BLE001 - our own fault or a missing folder; the log tells
        script.write_error(order.error_file, f"{type(error).__name__}: {error}", "")
        sys.excepthook(type(error), error, error.__traceback__)
    script.finish(status)


def forget_the_pool(order: Order) -> None:
    """Undo what a fork leaves behind that a fresh interpreter would not have."""
    for number in LATER_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    # What came since the fork is delivered now, in the order handler first.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, LATER_SIGNALS)
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
