"""Running a person's script as ``python script.py`` would, and saying how it failed."""

from __future__ import annotations

import atexit
import json
import os
import runpy
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from eflib.agent import output, texts
from eflib.errors import EflibError
from eflib.store import atomic

if TYPE_CHECKING:
    from types import TracebackType

    from eflib.agent.order import Order

_LEADING = {
    __file__,
    getattr(runpy, "__file__", ""),
    "<frozen runpy>",
    "<frozen importlib._bootstrap>",
    "<frozen importlib._bootstrap_external>",
}
_NO_SCRIPT = 2  # what Python itself exits with


def run(order: Order) -> int:
    """Run the script or module as ``__main__``.

    Returns:
        The exit status that Python would end with. An exception is in the log and the error file.
    """
    try:
        if order.module:
            runpy.run_module(order.module, run_name="__main__", alter_sys=True)
        elif not Path(order.script).exists():
            return _no_script(order)
        else:
            runpy.run_path(order.script, run_name="__main__")
    except SystemExit as leave:
        return _status(leave, order)
    except BaseException as error:  # noqa: BLE001 - whatever the script raised ends here
        return _failed(error, order)
    return 0


def finish(status: int) -> NoReturn:
    """End this process as Python ends: threads joined, exit functions run, streams flushed.

    A child of multiprocessing would leave out the exit functions, and torch's wrapper around it
    would wait for its parent's permission to end.
    """
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    except BaseException:  # noqa: BLE001 - the status is what counts now
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(status & 0xFF)


def own_frames(error: BaseException) -> TracebackType | None:
    """Return an exception's traceback without the frames that led to the script."""
    step = error.__traceback__
    while step is not None and step.tb_frame.f_code.co_filename in _LEADING:
        step = step.tb_next
    return step


def write_error(path: str, message: str, text: str) -> None:
    """Write an error file as torch elastic lays it out, whole if there is room for a second file.

    On a full disk it is written over the first bytes of the file, whose room the agent has kept.

    Args:
        path: The file.
        message: What went wrong; kept at the length of a message, see ``texts``.
        text: The traceback, kept likewise.
    """
    extra = {"py_callstack": texts.presentable(text), "timestamp": str(int(time.time()))}
    content = json.dumps({"message": {"message": texts.presentable(message), "extraInfo": extra}})
    try:
        atomic.replace(path, content.encode())
    except OSError as error:
        try:
            with open(path, "r+b", buffering=0) as file:  # noqa: PTH123 - unbuffered
                file.write(content.encode())
        except OSError:
            output.say(f"[eflib] cannot write {path} ({error.strerror or error})\n")


def _status(leave: SystemExit, order: Order) -> int:
    if leave.code is None:
        return 0
    if isinstance(leave.code, int):
        return leave.code
    output.say(f"{leave.code}\n")
    write_error(order.error_file, str(leave.code), "")
    return 1


def _no_script(order: Order) -> int:
    message = f"no script at {order.script}"
    output.say(f"{message}\n")
    write_error(order.error_file, message, "")
    return _NO_SCRIPT


def _failed(error: BaseException, order: Order) -> int:
    frames = own_frames(error)
    error.__traceback__ = frames
    # A traceback names the problem alone. The way out stands before it: the cause comes last.
    hint = f"hint: {error.hint}\n" if isinstance(error, EflibError) and error.hint else ""
    sys.stderr.write(hint)
    sys.excepthook(type(error), error, frames)
    text = hint + "".join(traceback.format_exception(type(error), error, frames))
    message = traceback.format_exception_only(type(error), error)[-1].strip()
    write_error(order.error_file, message, text)
    if isinstance(error, KeyboardInterrupt):
        sys.stdout.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return 1
