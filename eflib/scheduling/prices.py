"""What a GPU is worth when: prices that let each job take its share where it hurts others least.

Filled one after the other, each job takes what is free first, whatever others could do with it.
Prices say it: where all together want more than there is, a GPU-second costs more, and whoever
scales well waits there and is wide later, at little loss. They are those of the plan's linear
relaxation as far as a few rounds of raising and lowering find them (tatonnement: Walras, *Elements
d'economie politique pure*, 1874; as duals, Bertsekas, *Nonlinear Programming*, chapter 6).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eflib.scheduling.jobs import Job
from eflib.scheduling.occupancy import Periods
from eflib.scheduling.plan import SAME_INSTANT, work_to_plan
from eflib.scheduling.settings import SchedulerSettings

_COLUMNS = 8
"""Stretches of time with a price of their own."""

_ROUNDS = 10
_STEP = 0.5
"""How far a price follows the demand in a round, as an exponent of demand over supply."""

_SHORTEST = 60.0
"""Seconds that a stretch lasts at least; a share of the whole where that is short."""


class Prices(NamedTuple):
    """Prices of a GPU-second; 1 where there is enough.

    Attributes:
        borders: Where each stretch but the first begins, in seconds, ascending.
        levels: The price in each stretch, one more than there are borders.
    """

    borders: list[float]
    levels: list[float]

    def at(self, time: float) -> float:
        """Return the price at a time."""
        return self.levels[bisect_right(self.borders, time + SAME_INSTANT)]


def hull(job: Job) -> list[tuple[int, float]]:
    """Return the levels worth holding, and the GPUs per step/s that each costs on top of the last.

    Levels that are beaten by a mixture of two others are left out, so that the costs rise.

    Args:
        job: A job with at least one usable count.
    """
    points = [(-1, 0, 0.0)]  # level, count, rate
    for level, (exponent, rate) in enumerate(zip(job.exponents, job.rates, strict=True)):
        point = (level, 1 << exponent, rate)
        # Only levels on the upper hull of the curve: another is beaten by holding its neighbours in
        # turn, and costs that do not rise would make the choice by price jump over it anyway.
        while len(points) > 1 and _cost(points[-2], points[-1]) >= _cost(points[-1], point):
            points.pop()
        points.append(point)
    return [(after[0], _cost(before, after)) for before, after in pairwise(points)]


def _cost(before: tuple[int, int, float], after: tuple[int, int, float]) -> float:
    """Return the GPUs per step/s from one level to a larger one."""
    return (after[1] - before[1]) / (after[2] - before[2])


def find_prices(
    jobs: Sequence[Job], periods: Periods, now: float, settings: SchedulerSettings
) -> Prices:
    """Return prices at which these jobs, each for itself, want about what there is.

    Args:
        jobs: All with a promise.
        periods: What is available when.
        now: Scheduler time in seconds.
        settings: For margins; costs are not looked at.
    """
    borders = _borders(jobs, now)
    lengths = np.diff(borders)
    # At least one GPU, so that a stretch without any has a price and no division by zero.
    supply = np.maximum(_supply(periods, borders), 1.0) * lengths
    hulls = [hull(job) for job in jobs]
    most = max(map(len, hulls))
    shape = (len(jobs), most)
    counts, rates, slopes = np.zeros(shape), np.zeros(shape), np.full(shape, np.inf)
    for number, (job, levels) in enumerate(zip(jobs, hulls, strict=True)):
        held = np.array([1 << job.exponents[level] for level, _ in levels], dtype=float)
        reached = np.array([job.rates[level] for level, _ in levels])
        counts[number, : len(levels)] = np.diff(held, prepend=0.0)
        rates[number, : len(levels)] = np.diff(reached, prepend=0.0)
        slopes[number, : len(levels)] = [slope for _, slope in levels]
    ends = np.array([job.promise for job in jobs])
    seconds = np.clip(ends[:, None] - borders[None, :-1], 0.0, lengths[None, :])
    work = np.array([work_to_plan(job, settings) for job in jobs])
    gains = (seconds[:, :, None] * rates[:, None, :]).reshape(len(jobs), -1)
    taken = (seconds[:, :, None] * counts[:, None, :]).reshape(len(jobs), -1)
    prices = np.ones(len(lengths))
    for _ in range(_ROUNDS):
        offers = (prices[None, :, None] * slopes[:, None, :]).reshape(len(jobs), -1)
        demand = _demand(offers, gains, taken, work).reshape(len(jobs), len(lengths), most)
        wanted = demand.sum((0, 2)) / supply
        # A price rises with the root of the excess: with the full ratio it swings about its mark.
        # Below 1 it never falls, for where there is enough all prices are alike.
        prices = np.maximum(prices * np.maximum(wanted, 1e-3) ** _STEP, 1.0)
    return Prices(borders[1:-1].tolist(), prices.tolist())


def _demand(
    offers: NDArray[np.float64],
    gains: NDArray[np.float64],
    taken: NDArray[np.float64],
    work: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the GPU-seconds that each job takes of each offer, the cheapest first."""
    # Each job buys (stretch, level) pairs from the cheapest up until its work is done: the
    # fractional knapsack, solved exactly by sorting.
    order = np.argsort(offers, axis=1, kind="stable")
    gain = np.take_along_axis(gains, order, 1)
    before = np.cumsum(gain, 1) - gain
    with np.errstate(over="ignore"):  # where there is next to no gain: infinite, and clipped
        share = np.clip((work[:, None] - before) / np.maximum(gain, 1e-300), 0.0, 1.0)
    found = np.empty_like(share)
    np.put_along_axis(found, order, share, 1)
    return found * taken


def _borders(jobs: Sequence[Job], now: float) -> NDArray[np.float64]:
    """Return the borders of stretches in which about as many deadlines lie."""
    ends = np.array([job.promise for job in jobs])
    last = max(float(ends.max()), now + 1.0)
    # Deadlines that lie close together share a stretch: a price for less than a minute would price
    # a pause.
    shortest = min(_SHORTEST, (last - now) / 64)
    found = [now]
    for border in np.quantile(ends, np.linspace(0.0, 1.0, _COLUMNS)).tolist():
        if border - found[-1] > shortest:
            found.append(border)
    return np.array([*found[:-1], last] if len(found) > 1 else [now, last])


def _supply(periods: Periods, borders: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean number of GPUs that are available in each stretch."""
    starts = np.array([start for start, _ in periods])
    counts = np.array([available.bit_count() for _, available in periods], dtype=float)
    until = np.append(starts[1:], np.inf)
    overlap = np.minimum(until[:, None], borders[None, 1:]) - np.maximum(
        starts[:, None], borders[None, :-1]
    )
    mean: NDArray[np.float64] = (np.maximum(overlap, 0.0) * counts[:, None]).sum(0)
    return mean / np.diff(borders)
