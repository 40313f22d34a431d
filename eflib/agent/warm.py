"""What the warm pool loads before it is asked for a worker: imported there, for its effects.

The pool is multiprocessing's forkserver: a process that has imported all this, has initialised
nothing, and forks a worker in milliseconds. It ignores the signals of an orderly shutdown, which
are the agent's to handle, and dies with the agent. It blocks them as well: a worker that is told to
leave in the milliseconds after its fork, before it has handlers of its own, finds the signal then.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from eflib.agent import process_tree
from eflib.store import atomic

if TYPE_CHECKING:
    from collections.abc import Callable

AGENT = "EFLIB_POOL_AGENT"
"""The agent's pid, in the pool's environment: says to this module where it is."""
MARK = "EFLIB_POOL_MARK"
"""The file in which the pool writes its pid and state, in the pool's environment."""
LOADING, READY = "loading", "ready"
"""The two states."""
HELPER_VARIABLES = (AGENT, MARK, "PYTHONPATH")
"""What the agent adds to the pool's environment and a worker must not see."""

LATER_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
"""Signals that wait, blocked, until a forked worker has its own handlers."""

MODULES = (
    "eflib.agent.worker",
    "numpy",
    "torch",
    "torch.distributed",
    "torch.distributed.elastic.multiprocessing",
    "torch.nn.parallel",
    "torch.optim",
    "torch.utils.data",
)


def load() -> None:
    """Import what workers need; a worker that needs what is missing will say so itself."""
    steps: list[Callable[[], object]] = [partial(importlib.import_module, one) for one in MODULES]
    for step in [*steps, _make_optimizer, _find_trainer]:
        try:
            step()
        except Exception:  # noqa: BLE001 - a broken optional part must not end the pool
            traceback.print_exc()


def _make_optimizer() -> None:
    """Make an optimizer: the first one of a process imports modules for as long as torch takes."""
    torch = importlib.import_module("torch")
    torch.optim.SGD([torch.zeros(1)], lr=0.0)


def _find_trainer() -> object:
    """Load what scripts import, and all behind it."""
    trainer: object = importlib.import_module("eflib").ElasticTrainer
    return trainer


def settle(agent: int, mark: Path) -> None:
    """Bind this process to the agent, load, and write the mark."""
    process_tree.die_with_parent(agent)
    signal.pthread_sigmask(signal.SIG_BLOCK, LATER_SIGNALS)
    for number in LATER_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    say(mark, LOADING)
    load()
    gc.collect()
    gc.freeze()  # what is loaded stays shared between the workers' memories
    sys.stdout.flush()
    sys.stderr.flush()
    say(mark, READY)


def say(mark: Path, state: str) -> None:
    """Write this process's pid and state.

    Where that cannot be done this process ends: its agent, which says so, makes another.
    """
    try:
        atomic.replace(mark, f"{os.getpid()} {state}".encode("ascii"))
    except OSError:
        sys.exit(1)


if os.environ.get(AGENT) == str(os.getppid()):
    settle(os.getppid(), Path(os.environ[MARK]))
