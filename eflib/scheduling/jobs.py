"""A live job as the scheduler knows it: request, progress, GPUs held, promise."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eflib.scheduling.events import Gpu, JobRequest
from eflib.scheduling.scaling import ScalingCurve

if TYPE_CHECKING:
    from eflib.scheduling.plan import Row
    from eflib.scheduling.settings import SchedulerSettings


class JobState(enum.Enum):
    """What a live job does; late and best effort are no states but facts."""

    RUNNING = "running"
    WAITING = "waiting"


class Tier(enum.IntEnum):
    """Whose claims come first."""

    PROMISED = 0
    SOFT = 1
    BEST_EFFORT = 2


@dataclass(frozen=True, slots=True)
class JobView:
    """What a person may know about a job.

    Attributes:
        job_id: The job.
        state: Where it is in its life.
        gpus: What it holds, in a fixed order.
        steps_done: Steps, as known or computed for the asked-for time.
        total_steps: Steps asked for.
        deadline: Scheduler time in seconds; None for best effort.
        projected_finish: Scheduler time in seconds as planned now; infinite if not foreseen.
        slack: Seconds between projected finish and deadline; None for best effort.
        minimum_share: Fewest GPUs that would finish in time if held from now on; None for best
            effort or if no count would.
        pinned: The operator's size, if any.
        promised: True while the deadline is a promise that holds.
        reason: Why it holds what it holds, for a person.
    """

    job_id: str
    state: JobState
    gpus: tuple[Gpu, ...]
    steps_done: float
    total_steps: float
    deadline: float | None
    projected_finish: float
    slack: float | None
    minimum_share: int | None
    pinned: int | None
    promised: bool
    reason: str


@dataclass(slots=True, eq=False)
class Job:
    """The scheduler's own record of a live job. Only ``Scheduler.handle`` changes it.

    Attributes:
        request: As submitted.
        order: Place in the order of submission.
        curve: The best known curve.
        left: Steps to do at ``synced_at``.
        synced_at: Scheduler time in seconds.
        mask: Positions held.
        ready_at: Scheduler time in seconds at which the last change's pause is over.
        promise: Deadline that is promised, in seconds; infinite if none is.
        row: Its row of the standing plan.
        base: The row before spare GPUs were added; it keeps the promise as well.
        finish: Where ``row`` leads, in seconds.
        pinned: The operator's size.
        told: Positions of the last ``Assigned``.
        exponents: Log2 of the usable counts, ascending.
        rates: Steps per second at each of them.
        rate_of: Steps per second by GPU count, as asked for so far.
        tables: See ``level_table``.
    """

    request: JobRequest
    order: int
    curve: ScalingCurve
    left: float
    synced_at: float
    mask: int = 0
    ready_at: float = -math.inf
    promise: float = math.inf
    row: Row = field(default_factory=list)
    base: Row = field(default_factory=list)
    finish: float = math.inf
    pinned: int | None = None
    told: int = 0
    exponents: tuple[int, ...] = ()
    rates: tuple[float, ...] = ()
    rate_of: dict[int, float] = field(default_factory=dict)
    tables: dict[int, NDArray[np.int16]] = field(default_factory=dict)

    @property
    def job_id(self) -> str:
        """Unique name."""
        return self.request.job_id

    @property
    def deadline(self) -> float:
        """The deadline asked for, in seconds; infinite for best effort."""
        return math.inf if self.request.deadline is None else self.request.deadline

    def tier(self, now: float) -> Tier:
        """Return whose claims this job has at a time: a deadline that is over counts no more."""
        if self.promise < math.inf:
            return Tier.PROMISED
        return Tier.SOFT if now < self.deadline < math.inf else Tier.BEST_EFFORT

    def set_curve(self, curve: ScalingCurve) -> None:
        """Take a curve and derive what is asked of it most."""
        self.curve = curve
        usable = curve.usable(self.request.max_gpus)
        self.exponents = tuple(n.bit_length() - 1 for n, _ in usable)
        self.rates = tuple(rate for _, rate in usable)
        self.rate_of = dict(usable)
        self.tables = {}

    def rate(self, count: int) -> float:
        """Return steps per second at a GPU count."""
        found = self.rate_of.get(count)
        if found is None:
            found = self.rate_of[count] = self.curve.throughput(count)
        return found

    def level_table(self, max_exponent: int) -> NDArray[np.int16]:
        """Return, by free exponent + 1, the best usable level (its index); -1: none."""
        table = self.tables.get(max_exponent)
        if table is None:
            levels, level = [-1], -1
            for e in range(max_exponent + 1):
                if level + 1 < len(self.exponents) and self.exponents[level + 1] <= e:
                    level += 1
                levels.append(level)
            table = self.tables[max_exponent] = np.array(levels, dtype=np.int16)
        return table

    def sync(self, now: float) -> None:
        """Bring the work left up to ``now``, assuming the curve."""
        begin = max(self.synced_at, self.ready_at)
        if self.mask and now > begin:
            self.left -= self.rate(self.mask.bit_count()) * (now - begin)
        self.synced_at = max(now, self.synced_at)

    def hold(self, mask: int, *, now: float, settings: SchedulerSettings) -> bool:
        """Take another set of GPUs, starting the pause that this costs; False if it is the same.

        Args:
            mask: Positions; 0 for none.
            now: Scheduler time in seconds.
            settings: For the costs.
        """
        if mask == self.mask:
            return False
        if mask:
            cost = settings.rescale_cost if self.mask else settings.cost_of_start
            self.ready_at = now + cost
        self.mask = mask
        return True
