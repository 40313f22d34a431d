"""What a person wrote for an option or an argument, as a value within bounds; pure."""

from __future__ import annotations

import re

from eflib.errors import UsageError

MAX_TEXT = 4096
"""Longest value of an option, in characters: as long as Linux lets a path be."""
MAX_NAME = 60
"""Longest name of a job, in characters."""
MAX_NODE_NAME = 200
"""Longest name of a node, in characters."""
MAX_GPUS = 65_536
"""Most GPUs, workers or ranks of one job."""
MAX_SLOTS = 1024
"""Most slots of one node."""
MAX_REAL = 1e9
"""Largest number that is not an integer; as seconds, some thirty years."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def text(value: str, what: str, *, hint: str = "") -> str:
    """Return a value that can be a path, a part of a message and a line on a terminal.

    Args:
        value: As it was written.
        what: The option or argument, for messages.
        hint: How it is written.

    Raises:
        UsageError: It is empty, longer than ``MAX_TEXT``, has a NUL byte, or is not valid UTF-8.
    """
    if not value:
        raise UsageError(f"{what} is empty", hint=hint or f"leave {what} out, or give it a value")
    if len(value) > MAX_TEXT:
        raise UsageError(
            f"{what} has {len(value)} characters", hint=f"at most {MAX_TEXT} are taken"
        )
    if "\0" in value:
        raise UsageError(f"{what} has a NUL byte: {value!r}", hint="leave it out")
    if not is_unicode(value):
        raise UsageError(f"{what} is not valid UTF-8: {value!r}", hint="rename it, or use a link")
    return value


def names(value: str | None, option: str) -> tuple[str, ...]:
    """Return the names in a text with commas between them; none for None.

    Raises:
        UsageError: One of them is empty.
    """
    if value is None:
        return ()
    found = tuple(name.strip() for name in value.split(","))
    if not all(found):
        raise UsageError(f"{option} has an empty name: {value!r}", hint=f"write {option} ONE,TWO")
    return found


def is_unicode(value: str) -> bool:
    """Tell whether a text that came from the system was valid UTF-8 there."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def number(value: str | None, option: str, *, least: int = 1, most: int = MAX_GPUS) -> int | None:
    """Return the integer that an option's text means; None stays None.

    Args:
        value: As it was written.
        option: Its name, for messages.
        least: The smallest integer that is taken.
        most: The largest.

    Raises:
        UsageError: It is not an integer, or is outside of the bounds.
    """
    if value is None:
        return None
    try:
        found = int(value) if len(value) <= MAX_TEXT else None
    except ValueError:
        found = None
    if found is None or not least <= found <= most:
        raise UsageError(
            f"{option} must be an integer from {least} to {most}, got {value!r}",
            hint=f"for example: {option} {min(max(least, 4), most)}",
        )
    return found


def real(value: str | None, option: str, *, default: float, most: float = MAX_REAL) -> float:
    """Return the number of at least 0 that an option's text means.

    Args:
        value: As it was written; None means ``default``.
        option: Its name, for messages.
        default: What holds where it was not given.
        most: The largest number that is taken.

    Raises:
        UsageError: It is not a number, or is outside of the bounds.
    """
    if value is None:
        return default
    try:
        found = float(value)
    except ValueError:
        found = -1.0
    if not 0 <= found <= most:
        raise UsageError(
            f"{option} must be a number from 0 to {most:g}, got {value!r}",
            hint=f"for example: {option} {min(default or 1.0, most):g}",
        )
    return found


def job_name(value: str) -> str:
    """Return the name of a job, which begins its id and so names folders and keys.

    Raises:
        UsageError: It has other characters than letters, digits, ``.``, ``_`` and ``-``, or more
            than ``MAX_NAME``.
    """
    return _plain(value, "a job", MAX_NAME)


def node_name(value: str) -> str:
    """Return the name of a node, which names folders and keys.

    Raises:
        UsageError: It has other characters than letters, digits, ``.``, ``_`` and ``-``, or more
            than ``MAX_NODE_NAME``.
    """
    return _plain(value, "a node", MAX_NODE_NAME)


def _plain(value: str, what: str, most: int) -> str:
    if not _NAME.fullmatch(value) or len(value) > most:
        raise UsageError(
            f"{what} cannot be called {value!r}",
            hint=f"use at most {most} letters, digits, '.', '_' and '-', a letter or digit first",
        )
    return value
