"""What the commands that run a part of a cluster in the foreground say on standard error."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from eflib.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Lines(logging.Formatter):
    """One line for each record, safe for a terminal, with the level where it matters."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def format(self, record: logging.LogRecord) -> str:
        text = printable(record.getMessage())
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        lines = f"{self._part}: {level}{text}"
        return f"{lines}\n{self.formatException(record.exc_info)}" if record.exc_info else lines


@contextmanager
def logged_to_stderr(part: str) -> Iterator[None]:
    """Let what a part of the cluster logs appear on standard error, a line each.

    Args:
        part: ``coordinator`` or ``agent``; each line begins with it.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(part))
    logger = logging.getLogger("eflib")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
