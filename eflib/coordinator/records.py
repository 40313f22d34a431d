"""The two halves of what a job has been through: how fast it is, and how its training went."""

from __future__ import annotations

from dataclasses import dataclass, field

from eflib.messages.inbox import Announce, RescaleRecord
from eflib.messages.records import Progress
from eflib.messages.status import Failure
from eflib.profiler.fit import Guess, Observation
from eflib.scheduling import Gpu

MAX_FAILURES = 400
MAX_RESCALES = 1000
"""So many failures and changes of size of a job are kept, the newest."""


@dataclass
class Profiling:
    """A profiling run under way.

    Attributes:
        gpus: The slots that are lent.
        until: When the run must be over, in seconds.
        sizes: World sizes still to measure, ascending.
        size: The one being measured; 0 while the script is looked at.
        observed: What was measured, by world size.
        began: When the first size was asked for, in seconds; None before it was.
        aimed: When the current size was, in seconds; None before one was.
        is_short: The slots were lent for less than a run may take.
    """

    gpus: tuple[Gpu, ...]
    until: float
    sizes: list[int] = field(default_factory=list)
    size: int = 0
    observed: dict[int, Observation] = field(default_factory=dict)
    began: float | None = None
    aimed: float | None = None
    is_short: bool = False

    def since_began(self, now: float) -> float:
        """Return the seconds since the first size was asked for; 0 before it was."""
        return 0.0 if self.began is None else now - self.began

    def since_aimed(self, now: float) -> float:
        """Return the seconds since the current size was asked for; 0 before one was."""
        return 0.0 if self.aimed is None else now - self.aimed

    def next_size(self, now: float) -> int:
        """Go on to the next world size; returns it."""
        self.size, self.aimed = self.sizes.pop(0), now
        self.began = now if self.began is None else self.began
        return self.size


@dataclass
class SpeedRecord:
    """What is known of a job's speed.

    Attributes:
        announce: What the script's trainer said of itself; None before it did.
        observed: Speed by world size: measured, given or seen live.
        guessed: What follows from it at other world sizes.
        profiling: The profiling run under way.
        measuring_s: How long the job was measured, from the first size asked for, in seconds.
        expects_curve: A curve of this script is known, and may be of its model.
        needs_long_loan: A short run was not enough to begin to train.
        ask_at: When to ask for slots again.
        deviations: How many reports in a row differed from the curve.
    """

    announce: Announce | None = None
    observed: dict[int, Observation] = field(default_factory=dict)
    guessed: dict[int, Guess] = field(default_factory=dict)
    profiling: Profiling | None = None
    measuring_s: float | None = None
    expects_curve: bool = False
    needs_long_loan: bool = False
    ask_at: float = 0.0
    deviations: int = 0

    @property
    def points(self) -> dict[int, float]:
        """The scaling curve without guesses: steps per second by world size."""
        return {size: one.steps_per_s for size, one in sorted(self.observed.items())}

    @property
    def known(self) -> dict[int, float]:
        """The scaling curve with guesses."""
        guesses = {size: one.steps_per_s for size, one in self.guessed.items()}
        return {**guesses, **self.points}

    def drop_run(self) -> None:
        """Forget a profiling run and what the script said in it."""
        self.announce, self.profiling = None, None

    def conclude(self, run: Profiling, now: float) -> None:
        """Take over what a run has measured."""
        self.observed = dict(run.observed)
        self.measuring_s = run.since_began(now)
        self.profiling = None

    def counts(self, *, is_news: bool, patience: int) -> bool:
        """Count a report; True once ``patience`` of them in a row were news."""
        self.deviations = self.deviations + 1 if is_news else 0
        if self.deviations < patience:
            return False
        self.deviations = 0
        return True


@dataclass
class RunRecord:
    """What became of a job's training so far.

    Attributes:
        progress: What rank 0 said last; None before it said anything.
        furthest_step: The highest step that was ever reported.
        finished_step: The step at which training ended by its own account, or None.
        failures: How workers failed, in order.
        error: The failure that ended the job.
        rescales: Its changes of size.
        projected_finish: When the scheduler expected its end as it admitted it.
        earliest_deadline: The deadline that would have been accepted, if it was refused.
        pinned: The size at which an operator holds it.
        started: When it first trained.
        ended: When it ended.
    """

    progress: Progress | None = None
    furthest_step: int = 0
    finished_step: int | None = None
    failures: list[Failure] = field(default_factory=list)
    error: Failure | None = None
    rescales: list[RescaleRecord] = field(default_factory=list)
    projected_finish: float | None = None
    earliest_deadline: float | None = None
    pinned: int | None = None
    started: float | None = None
    ended: float | None = None

    def came_to(self, step: int) -> None:
        """Note a step that was reported."""
        self.furthest_step = max(self.furthest_step, step)

    def failed(self, failure: Failure) -> None:
        """Note how a worker failed."""
        self.failures.append(failure)
        del self.failures[:-MAX_FAILURES]

    def rescaled(self, record: RescaleRecord) -> None:
        """Note a change of size."""
        self.rescales.append(record)
        del self.rescales[:-MAX_RESCALES]
