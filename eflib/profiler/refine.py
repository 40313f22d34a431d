"""Keep a scaling curve true by what live steps show: pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from eflib.profiler.fit import Observation

if TYPE_CHECKING:
    from collections.abc import Mapping

DRIFT = 0.10
"""A curve is corrected when live steps differ from it by more than this share."""
PATIENCE = 3
"""How many reports in a row must show it."""


def drift(points: dict[int, float], world_size: int, steps_per_s: float) -> float | None:
    """Return by what factor live steps are faster than the curve; None where it has no point.

    Args:
        points: The curve: steps per second by number of workers.
        world_size: The number of workers that was seen.
        steps_per_s: Their speed.
    """
    known = points.get(world_size)
    return steps_per_s / known if known else None


def is_drift(factor: float | None) -> bool:
    """Tell whether a factor is worth a correction."""
    return factor is not None and abs(factor - 1) > DRIFT


def corrected(points: dict[int, float], world_size: int, steps_per_s: float) -> dict[int, float]:
    """Return the curve with a live point in it.

    What is measured at one size says something of the machine, so the other points are scaled by
    the same factor, until steps at their sizes tell better.

    Args:
        points: The curve: steps per second by number of workers.
        world_size: The number of workers that was seen.
        steps_per_s: Their speed.

    Examples:
        >>> corrected({1: 10.0, 2: 18.0}, 2, 9.0)
        {1: 5.0, 2: 9.0}
    """
    factor = drift(points, world_size, steps_per_s)
    if factor is None:
        return {**points, world_size: steps_per_s}
    return {size: rate * factor for size, rate in sorted(points.items())}


def refined(
    observed: Mapping[int, Observation], world_size: int, steps_per_s: float
) -> dict[int, Observation]:
    """Return what is known once live steps were seen; see ``corrected``.

    Args:
        observed: What was known, by number of workers.
        world_size: The number of workers that was seen.
        steps_per_s: Their speed.
    """
    points = {size: one.steps_per_s for size, one in observed.items()}
    return {
        size: replace(observed.get(size, Observation(rate)), steps_per_s=rate)
        for size, rate in sorted(corrected(points, world_size, steps_per_s).items())
    }
