"""The warm pool: a process that has loaded what workers need, and forks them in milliseconds.

It is multiprocessing's forkserver, with ``warm`` preloaded. This module loads no torch, so that the
agent can start the pool first and load its own torch meanwhile.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import time
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

import psutil

from eflib.agent import process_tree, warm
from eflib.agent.timeouts import WARM_SECONDS
from eflib.store import atomic, quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

T = TypeVar("T")

_log = logging.getLogger(__name__)

_USELESS = (psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED)


class PoolDiedError(Exception):
    """The warm pool died before it had started a worker."""


class WarmPool:
    """The process that workers are forked from; made anew when it dies.

    Where there is no forkserver (Windows), workers are spawned cold.

    Args:
        mark: A file for the pool to say that it is warm.
        tag: The agent's tag, for the environment of all that comes out of the pool.
        start_method: ``forkserver`` or ``spawn``; None for the first where there is one.
    """

    def __init__(self, mark: Path, tag: str, start_method: str | None = None) -> None:
        mark.unlink(missing_ok=True)
        self._mark = mark
        self._tag = tag
        self._begun = time.monotonic()
        self._is_silent = False  # a fault that lasts is said once
        methods = multiprocessing.get_all_start_methods()
        self.start_method = start_method or ("forkserver" if "forkserver" in methods else "spawn")

    @property
    def pid(self) -> int | None:
        """The pool's process if it is warm and alive."""
        pid, state = self._read()
        return pid if state == warm.READY else None

    @property
    def is_ready(self) -> bool:
        """Whether a start would be cheap now."""
        return self.start_method != "forkserver" or self.pid is not None

    def ensure(self) -> None:
        """Start the pool if it does not run; returns before it is warm.

        The thread that calls this must outlive the pool, which the system binds to it.
        """
        pid, state = self._read()
        if self.start_method != "forkserver" or state == warm.READY:
            return
        if pid is None and self._has_room():
            self._begun = time.monotonic()
            multiprocessing.set_forkserver_preload([warm.__name__])
            with self._environment():
                forkserver.ensure_running()
        elif pid is not None and time.monotonic() - self._begun > WARM_SECONDS:
            os.kill(pid, signal.SIGKILL)

    def wait(self, seconds: float = WARM_SECONDS) -> bool:
        """Wait until the pool is warm; False if the bound passes first."""
        end = time.monotonic() + seconds
        while not self.is_ready:
            if time.monotonic() >= end:
                return False
            time.sleep(0.05)
        return True

    @contextmanager
    def starting(self) -> Iterator[int]:
        """Surround the start of a process; gives the pid of its parent to be.

        Raises:
            PoolDiedError: The pool is not there, or went away; nothing was started.
        """
        parent = self.pid if self.start_method == "forkserver" else os.getpid()
        if parent is None:
            raise PoolDiedError
        try:
            with self._environment(), _no_main():
                yield parent
        except (ConnectionError, EOFError) as cause:
            raise PoolDiedError from cause

    def call(self, function: Callable[[], T], *, seconds: float) -> T:
        """Return what a function returns in a process of its own.

        Raises:
            PoolDiedError: The pool went away.
            EOFError: The function raised, or its process died.
            TimeoutError: It did not end in time; its process is killed.
        """
        context = multiprocessing.get_context(self.start_method)
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_answer, args=(function, sender), daemon=True)  # type: ignore[attr-defined]
        with self.starting():
            process.start()
        sender.close()
        try:
            if not receiver.poll(seconds):
                raise TimeoutError(f"no answer within {seconds:g} s")
            answer: T = receiver.recv()
        finally:
            process.kill()
            process.join()
        return answer

    def _has_room(self) -> bool:
        """Tell whether a pool could say that it is warm; if not, say so once."""
        try:
            probe = atomic.write_temporary(str(self._mark.parent), b"room for a mark")
            Path(probe).unlink()
        except OSError as error:
            if not self._is_silent:
                _log.error(
                    "no warm pool: cannot write %s (%s)", self._mark, error.strerror or error
                )
            self._is_silent = True
            return False
        self._is_silent = False
        return True

    def _read(self) -> tuple[int | None, str]:
        """Return what the pool says of itself, its pid and its state, if it is alive."""
        with suppress(OSError, ValueError, psutil.Error):
            pid, state = self._mark.read_text(encoding="ascii").split()
            if psutil.Process(int(pid)).status() not in _USELESS:
                return int(pid), state
        return None, ""

    @contextmanager
    def _environment(self) -> Iterator[None]:
        """Set what the pool finds in its environment, for as long as it takes to start it."""
        added = {
            process_tree.TAG: self._tag,
            warm.AGENT: str(os.getpid()),
            warm.MARK: str(self._mark),
            "PYTHONPATH": process_tree.path_for_helpers(),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
            quiet.VARIABLE: os.environ.get(quiet.VARIABLE, "ERROR"),
        }
        kept = {name: os.environ.get(name) for name in added}
        os.environ.update(added)
        try:
            yield
        finally:
            for name, value in kept.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


@contextmanager
def _no_main() -> Iterator[None]:
    """Hide the agent's main module: multiprocessing would run it again in each worker."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _answer(function: Callable[[], T], sender: Connection) -> None:
    sender.send(function())
