"""What can be set about the policy, with units and defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass

from eflib.errors import UsageError


@dataclass(frozen=True, slots=True)
class SchedulerSettings:
    """Settings of one scheduler.

    Attributes:
        rescale_cost: Seconds without progress after each change of a job's GPUs.
        start_cost: The same for a start from nothing; None means ``rescale_cost``.
        safety_margin: Share of a job's remaining work that is planned on top, from 0. A promise
            made with margin 0.1 still holds if the job runs 9 % slower than its curve says.
        hysteresis: A spare GPU is taken up only if the finish comes earlier by more than this many
            rescale costs.
        forced_moves: Rescale costs kept in reserve by each deadline job for moves others force.
        quote_slack: Seconds added to the deadline that a refusal offers, so that a person who asks
            for it a moment later still gets it.
        quote_tries: How many re-plannings a refusal may spend to find an earlier offer.
        quotes: False leaves the earliest deadline out of refusals, which saves their time.
        overdue_grace: Seconds a job is thought to need when it should be done and is not.
        admission: False admits every job; a deadline that cannot be kept is then a wish.

    Raises:
        UsageError: A value is negative, infinite or not a number.
    """

    rescale_cost: float = 0.0
    start_cost: float | None = None
    safety_margin: float = 0.0
    hysteresis: float = 4.0
    forced_moves: float = 1.0
    quote_slack: float = 1e-3
    quote_tries: int = 10
    quotes: bool = True
    overdue_grace: float = 1.0
    admission: bool = True

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise UsageError(
                    f"the scheduler setting {name} must be a finite number from 0, got {value}"
                )

    @property
    def cost_of_start(self) -> float:
        """Seconds without progress when a job starts from nothing."""
        return self.rescale_cost if self.start_cost is None else self.start_cost
