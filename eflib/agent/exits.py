"""How a worker ended, as the coordinator, the survivors and a person read it."""

from __future__ import annotations

import json
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eflib.agent import texts
from eflib.messages.records import ErrorText, WorkerExit

if TYPE_CHECKING:
    from eflib.messages.records import WorkerAssignment

LONGEST_FILE = 64 * 2**20
"""Bytes of an error file that is read: a script under torch's own ``record`` may write any."""


@dataclass(frozen=True)
class Exit:
    """The end of a worker.

    Args:
        pid: Its process; None if it never had one.
        exitcode: As ``subprocess`` gives it, negative for a signal; None if nobody saw it end.
        message: Why it failed, in one line; empty if it did not.
        traceback: The script's own frames; empty where there is none.
        hang: ``silent`` or ``step`` if the agent killed it because it hung; else empty.
    """

    pid: int | None
    exitcode: int | None
    message: str = ""
    traceback: str = ""
    hang: str = ""

    @property
    def signal(self) -> str | None:
        """The name of the signal that ended it, such as ``SIGKILL``."""
        if self.exitcode is None or self.exitcode >= 0:
            return None
        return signal_name(-self.exitcode)

    def as_record(self, worker: WorkerAssignment, node: str) -> WorkerExit:
        """Return it with what the assignment says of the worker, as it is stored and posted."""
        return WorkerExit(
            node=node,
            job=worker.job,
            worker=worker.worker,
            generation=worker.generation,
            rank=worker.rank,
            pid=self.pid,
            exitcode=self.exitcode,
            signal=self.signal,
            error=ErrorText(self.message, self.traceback) if self.message else None,
            hang=self.hang,
            log=log_of(worker),
        )


def observed(pid: int, exitcode: int, error_file: str) -> Exit:
    """Return the end of a worker whose process was seen to end; takes its error file away."""
    message, traceback = _read(error_file)
    if not message and exitcode < 0:
        message = f"killed by {signal_name(-exitcode)}"
    elif not message and exitcode:
        message = f"exited with code {exitcode}"
    return Exit(pid, exitcode, message if exitcode else "", traceback if exitcode else "")


def log_of(worker: WorkerAssignment) -> str:
    """Return where the log of a worker is, as long as it stays in its first generation."""
    return str(Path(worker.log_dir) / str(worker.generation) / f"{worker.rank}.log")


def signal_name(number: int) -> str:
    """Return a signal's name, or what can be said of one that has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _read(error_file: str) -> tuple[str, str]:
    """Return (message, traceback) of an error file; a script's own ``record`` may have cut it."""
    path = Path(error_file)
    content: object = None
    try:
        size = path.stat().st_size
        if size > LONGEST_FILE:
            content = {"message": f"its error file had {size:,} bytes; see the log"}
        else:
            content = json.loads(path.read_bytes().rstrip(b"\0"))  # room that was kept for it
    except (OSError, ValueError, RecursionError):
        pass
    with suppress(OSError):
        path.unlink(missing_ok=True)
    message = _field(content, "message")
    if isinstance(message, str):
        return texts.presentable(message), ""
    text, trace = _field(message, "message"), _field(_field(message, "extraInfo"), "py_callstack")
    return texts.presentable(str(text or "")), texts.presentable(str(trace or ""))


def _field(content: object, name: str) -> object:
    return content.get(name) if isinstance(content, dict) else None
