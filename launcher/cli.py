"""The one place where errors become an exit status and a last line."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TYPE_CHECKING

from eflib.errors import EflibError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

OUR_FAULT = 70
REPORT = "error[internal]: this is a bug in eflib; please report it with the lines above"


class Interrupted(KeyboardInterrupt):
    """A signal that asks us to end; Ctrl-C is one that Python makes itself."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def guarded(act: Callable[[], int]) -> int:
    """Carry out a command and return its exit status; nothing gets past but the status.

    An expected error is rendered on standard error, its last line last. A signal ends without a
    traceback as 128 + its number. Everything else is a fault of ours: traceback, exit 70.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # What a terminal's encoding does not have is escaped: it must not fail the command.
            stream.reconfigure(errors="backslashreplace")
    try:
        with _signals_raise():
            status = act()
            sys.stdout.flush()
    except EflibError as error:
        if error.exit_status == OUR_FAULT:
            traceback.print_exc()
        _say(error.render())
        return error.exit_status
    except Interrupted as interrupt:
        return 128 + interrupt.number
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Who read us has gone. What is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception:  # noqa: BLE001 - the one place that may
        traceback.print_exc()
        _say(REPORT)
        return OUR_FAULT
    return status


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise as Ctrl-C does, unless they are ignored."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(number)

    before = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            before[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
