"""Scaling curves for a terminal: what was measured, what is a guess, and bars to see the shape."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from eflib.launcher import tables
from eflib.profiles import Profile
from eflib.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

BAR_WIDTH = 24
MEASURED, GUESSED = "█", "░"
PLAIN_MEASURED, PLAIN_GUESSED = "#", "-"
"""The same where the terminal's encoding has no blocks."""


class Row(NamedTuple):
    """One count of a curve; ``margin`` is None where it was measured."""

    gpus: int
    rate: float
    gain: float
    spread: float | None
    memory: float | None
    margin: float | None

    @property
    def how(self) -> str:
        """Say where the number is from."""
        if self.margin is None:
            return "measured"
        return f"extrapolated, up to {self.margin:.0%} less"


def rows(profile: Profile) -> list[Row]:
    """Return the counts of a curve, ascending; the gain is over one GPU of the smallest count."""
    first, base = next(iter(profile.points.items()))
    known = {count: (rate, None) for count, rate in profile.points.items()}
    every: dict[int, tuple[float, float | None]] = {**profile.extrapolated, **known}
    return [
        Row(
            count,
            rate,
            rate / base * first,
            profile.spread.get(count),
            profile.memory_bytes.get(count),
            margin,
        )
        for count, (rate, margin) in sorted(every.items())
    ]


def print_curve(profile: Profile) -> None:
    """Print a curve as a table with bars; columns that nothing is known for are left out."""
    found = rows(profile)
    most = max(row.rate for row in found)
    columns: dict[str, list[str]] = {
        "GPUs": [str(row.gpus) for row in found],
        "steps/s": [f"{row.rate:.4g}" for row in found],
        "speed-up": [f"{row.gain:.2f}" for row in found],
        "per GPU": [f"{row.gain / row.gpus:.0%}" for row in found],
        "spread": ["" if row.spread is None else f"{row.spread:.0%}" for row in found],
        "memory": ["" if row.memory is None else format_bytes(row.memory) for row in found],
        "": [_bar(row, most) for row in found],
        "how": [row.how for row in found],
    }
    if all(row.margin is None for row in found):
        del columns["how"]
    kept = {name: texts for name, texts in columns.items() if any(texts)}
    tables.print_columns(kept, left=("", "how"))


def from_status(status: Mapping[str, Any]) -> Profile | None:
    """Return the curve of a job's status document; None if it has none."""
    curve: Mapping[str, float] = status.get("curve") or {}
    if not curve:
        return None
    details: Mapping[str, Mapping[str, float]] = status.get("curve_details") or {}
    guesses: Mapping[str, Mapping[str, float]] = status.get("curve_guesses") or {}

    def known(name: str) -> dict[int, float]:
        return {int(count): one[name] for count, one in details.items() if name in one}

    return Profile(
        model=str(status.get("name") or ""),
        device="",
        points={int(count): float(rate) for count, rate in curve.items()},
        global_batch_size=status.get("global_batch_size"),
        spread=known("spread"),
        memory_bytes=known("memory_bytes"),
        extrapolated={
            int(count): (one["steps_per_s"], one["margin"]) for count, one in guesses.items()
        },
    )


def _bar(row: Row, most: float) -> str:
    measured, guessed = (MEASURED, GUESSED) if _has_blocks() else (PLAIN_MEASURED, PLAIN_GUESSED)
    mark = measured if row.margin is None else guessed
    return mark * max(round(BAR_WIDTH * row.rate / most), 1)


def _has_blocks() -> bool:
    try:
        (MEASURED + GUESSED).encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
