"""Checks of single values that a script gives, each refused by its name with the value."""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import TYPE_CHECKING, SupportsIndex, TypeVar

from eflib.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

_T = TypeVar("_T")


def whole_number(name: str, value: object, *, least: int, most: int, hint: str = "") -> int:
    """Return an integer of any integer type, such as numpy's; a bool is none.

    Raises:
        UsageError: It is not an integer, or outside ``least`` to ``most``.
    """
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise UsageError(
            f"{name} is {_shown(value)}; an integer is needed",
            hint=hint or f"give a number from {least} to {most}",
        )
    try:
        number = operator.index(value)
    except TypeError:  # a tensor of several values, or of fractions
        raise UsageError(
            f"{name} is {_shown(value)}; an integer is needed", hint=hint or "give an int"
        ) from None
    if number < least:
        raise UsageError(
            f"{name} is {_shown(number)}; at least {least} is needed",
            hint=hint or f"give a number from {least} to {most}",
        )
    if number > most:
        raise UsageError(
            f"{name} is {_shown(number)}; at most {most} is possible",
            hint=hint or f"give a number from {least} to {most}",
        )
    return number


def number(name: str, value: object, *, above: bool, hint: str, finite: bool = True) -> float:
    """Return a real number from 0 on.

    Args:
        name: What it is called.
        value: The value.
        above: True when 0 itself is refused.
        hint: What to give instead.
        finite: False where infinity is allowed.

    Raises:
        UsageError: It is not such a number.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise UsageError(f"{name} is {_shown(value)}; a number is needed", hint=hint)
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    enough = found > 0 if above else found >= 0
    if not enough:
        least = "a number above 0" if above else "a number of at least 0"
        raise UsageError(f"{name} is {_shown(value)}; {least} is needed", hint=hint)
    if finite and math.isinf(found):
        raise UsageError(f"{name} is {_shown(value)}; a finite number is needed", hint=hint)
    return found


def truth(name: str, value: object) -> bool:
    """Return a bool; nothing else counts as one, as ``bool("false")`` is True.

    Raises:
        UsageError: It is not True or False.
    """
    if not isinstance(value, bool):
        raise UsageError(f"{name} is {_shown(value)}", hint="give True or False")
    return value


def choice(name: str, value: object, choices: Iterable[_T]) -> _T:
    """Return a value that is one of the choices.

    Raises:
        UsageError: It is not.
    """
    known = list(choices)
    for one in known:
        if isinstance(value, type(one)) and value == one:
            return one
    raise UsageError(f"{name} is {_shown(value)}", hint=f"choose from {', '.join(map(str, known))}")


def function(name: str, value: object) -> None:
    """Check that a value can be called, or is None.

    Raises:
        UsageError: It cannot.
    """
    if value is not None and not callable(value):
        raise UsageError(
            f"{name} is {_shown(value)}, which cannot be called", hint="give a function, or None"
        )


def _shown(value: object) -> str:
    """Return a value as it is shown in an error: at most a line."""
    if isinstance(value, int) and abs(value) >= 10**18:
        return f"about 1e{len(str(abs(value))) - 1}" if abs(value) < 10**4000 else "beyond 1e4000"
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a user's class; its name has to do
        text = f"a {type(value).__name__}"
    line = " ".join(text.split())
    return line if len(line) <= 80 else f"{line[:77]}..."
