"""The best sequence of GPU counts over runs of free GPUs, when every change of count costs time."""

from __future__ import annotations

import math

from eflib.scheduling.counts import Run
from eflib.scheduling.jobs import Job
from eflib.scheduling.settings import SchedulerSettings

_NEVER = -math.inf
"""Work of a level that cannot be held."""


class BestPath:
    """The most work that can be done over runs of free levels, one number per level held.

    Each level is either kept from the run before, or come to from the best of all levels at the
    price of a pause. With runs of free GPUs as steps this is exact for changes at run borders.
    """

    __slots__ = ("_came", "best", "values")

    def __init__(
        self, job: Job, runs: list[Run], *, held: int, pause: float, settings: SchedulerSettings
    ) -> None:
        rates = job.rates
        cost = settings.rescale_cost
        count = len(rates)
        values = [_NEVER] * count
        nothing = 0.0
        if held >= 0:
            # The pause under way is a debt of work at the level that is held; leaving it now
            # forfeits it for a pause of its own.
            values[held] = -rates[held] * pause
            nothing = _NEVER
        self._came: list[list[int]] = []
        self.values: list[list[float]] = []
        self.best: list[float] = []
        for number, (start, end, top) in enumerate(runs):
            length = end - start
            # Coming from the best of all levels is enough: the fee of a change depends on where one
            # goes alone.
            source, most = -1, nothing
            for level in range(count):
                if values[level] > most:
                    source, most = level, values[level]
            if number == 0 and held >= 0:
                source, most = held, 0.0
            fee = settings.cost_of_start if source < 0 else cost
            came, after = [-2] * count, [_NEVER] * count
            for level in range(top + 1):
                stay, come = values[level], most - rates[level] * fee
                if stay >= come:
                    came[level] = level
                    after[level] = stay + rates[level] * length
                else:
                    came[level] = source
                    after[level] = come + rates[level] * length
            nothing = max(most, nothing)
            came.append(source)
            values = after
            self._came.append(came)
            self.values.append(after)
            self.best.append(max(nothing, *after))

    def first_enough(self, need: float) -> int:
        """Return the first run at whose end the work is done, or -1."""
        for number, done in enumerate(self.best):
            if done >= need:
                return number
        return -1

    def levels(self, last: int) -> list[int]:
        """Return the level held in each run up to ``last`` on the best path that ends there."""
        values = self.values[last]
        level = max(range(len(values)), key=values.__getitem__)
        if values[level] < self.best[last]:
            level = -1
        found = [level]
        for number in range(last, 0, -1):
            came = self._came[number]
            level = came[-1] if level < 0 else came[level]
            found.append(level)
        found.reverse()
        return found
