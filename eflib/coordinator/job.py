"""One job as the coordinator knows it: what was asked, where it is in its life, its document."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eflib.coordinator.membership import Membership

if TYPE_CHECKING:
    from eflib.profiler.fit import Guess, Observation
    from eflib.scheduling import JobView

Message = dict[str, Any]


class State(str, enum.Enum):
    """The life of a job; the words are TorchX's, with REJECTED and PREEMPTED."""

    SUBMITTED = "SUBMITTED"
    PROFILING = "PROFILING"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    PREEMPTED = "PREEMPTED"


_LIVE_ENDS = {State.SUCCEEDED, State.FAILED, State.CANCELLED, State.PREEMPTED}
TRANSITIONS: dict[State, frozenset[State]] = {
    State.SUBMITTED: frozenset(
        {State.PROFILING, State.PENDING, State.REJECTED, State.FAILED, State.CANCELLED}
    ),
    State.PROFILING: frozenset(
        {State.SUBMITTED, State.PENDING, State.REJECTED, State.FAILED, State.CANCELLED}
    )
    | {State.SUCCEEDED},
    State.PENDING: frozenset({State.RUNNING, State.PAUSED, *_LIVE_ENDS}),
    State.RUNNING: frozenset({State.PAUSED, State.PENDING, *_LIVE_ENDS}),
    State.PAUSED: frozenset({State.RUNNING, State.PENDING, *_LIVE_ENDS}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
    State.REJECTED: frozenset(),
    State.PREEMPTED: frozenset({State.PENDING}),
}
"""Every legal move; anything else is a fault of ours."""

ENDED = {state for state, moves in TRANSITIONS.items() if not moves}


@dataclass
class Measuring:
    """A profiling run under way.

    Attributes:
        sizes: World sizes still to measure, ascending.
        size: The one being measured; 0 while the script is looked at.
        observed: What was measured, by world size.
        began: When the first size was asked for, in seconds.
        aimed: When the current size was, in seconds.
        until: When the run must be over, in seconds.
        is_short: The slots were lent for less than a run may take.
    """

    gpus: tuple[Any, ...]
    until: float
    sizes: list[int] = field(default_factory=list)
    size: int = 0
    observed: dict[int, Observation] = field(default_factory=dict)
    began: float = math.inf
    aimed: float = math.inf
    is_short: bool = False


@dataclass
class Job:
    """What is known of a job.

    Attributes:
        request: The ``submit`` message.
        announce: What the script's trainer said of itself.
        observed: What is known of its speed, by world size: measured, given or seen live.
        guessed: What follows from it at other world sizes.
        measuring_s: How long it was measured, from the first size asked for, in seconds.
        needs_long_loan: A short run was not enough to begin to train.
        only_profile: A run of ``efctl profile``: it ends when the curve is known.
        finished_step: The step at which training ended by its own account, or None.
        failures: How workers failed, in order.
        furthest_step: The highest step that was ever reported.
        error: The failure that ended the job.
        errors: How often each error message ended a worker.
    """

    job: str
    name: str
    request: Message
    submitted: float
    members: Membership
    state: State = State.SUBMITTED
    reason: str = ""
    announce: Message = field(default_factory=dict)
    observed: dict[int, Observation] = field(default_factory=dict)
    guessed: dict[int, Guess] = field(default_factory=dict)
    measuring_s: float | None = None
    needs_long_loan: bool = False
    measuring: Measuring | None = None
    only_profile: bool = False
    ask_at: float = 0.0
    failures: list[Message] = field(default_factory=list)
    expects_curve: bool = False
    progress: Message = field(default_factory=dict)
    progress_at: float = 0.0
    deviations: int = 0
    furthest_step: int = 0
    finished_step: int | None = None
    error: Message | None = None
    errors: dict[str, int] = field(default_factory=dict)
    rescales: list[Message] = field(default_factory=list)
    story: list[tuple[float, str]] = field(default_factory=list)
    earliest_deadline: float | None = None
    projected_finish: float | None = None
    pinned: int | None = None
    started: float | None = None
    ended: float | None = None
    cancelling: bool = False

    @property
    def points(self) -> dict[int, float]:
        """The scaling curve without guesses: steps per second by world size."""
        return {size: one.steps_per_s for size, one in sorted(self.observed.items())}

    @property
    def is_curve_given(self) -> bool:
        """True where a person gave the curve: nothing is added to it."""
        return bool(self.request.get("profile")) and not self.only_profile

    @property
    def is_live(self) -> bool:
        """False once the job is in a state that it does not leave."""
        return self.state not in ENDED

    def move(self, state: State, reason: str, now: float) -> None:
        """Go to another state, along ``TRANSITIONS`` alone."""
        if state is not self.state:
            if state not in TRANSITIONS[self.state]:
                raise ValueError(f"job {self.job}: no way from {self.state.value} to {state.value}")
            self.state = state
            if state is State.RUNNING and self.started is None:
                self.started = now
            if not self.is_live:
                self.ended = now
            self.tell(now, f"{state.value.lower()}: {reason}" if reason else state.value.lower())
        self.reason = reason

    def tell(self, now: float, text: str) -> None:
        """Add a line to the job's story."""
        self.story.append((now, text))
        del self.story[:-200]

    def document(self, view: JobView | None, progress: Message, now: float) -> Message:
        """Return the status document.

        Args:
            view: The scheduler's view of the live job, if it has one.
            progress: The trainer's newest progress document.
            now: Seconds since the epoch.
        """
        running = self.state is State.RUNNING
        finish = self._finish(view)
        deadline = self.request.get("deadline")
        spec = self.request
        return {
            "job": self.job,
            "name": self.name,
            "state": self.state.value,
            "world_size": self.members.settled.world_size if running else 0,
            "generation": self.members.settled.number,
            "global_step": progress.get("global_step", 0),
            "max_steps": self.announce.get("max_steps"),
            "global_batch_size": self.announce.get("global_batch_size"),
            "steps_per_s": progress.get("steps_per_s") if running else None,
            "samples": progress.get("samples"),
            "loss": _finite(progress.get("loss")),
            "digest": progress.get("digest"),
            "checkpoint_step": progress.get("checkpoint_step"),
            "checkpoint_at": progress.get("checkpoint_at"),
            "submitted": self.submitted,
            "started": self.started,
            "ended": self.ended,
            "deadline": deadline,
            "soft": bool(spec.get("soft")),
            "projected_finish": finish,
            "earliest_deadline": self.earliest_deadline,
            "slack_s": None if deadline is None or finish is None else deadline - finish,
            "reason": self.reason,
            "error": self.error,
            "log_dir": self.log_dir,
            "rescales": self.rescales,
            "pinned": self.pinned,
            "slots": [f"{gpu.node}:{gpu.index}" for gpu in self.members.target],
            "workers": [
                {"worker": seat.worker, "slot": seat.gpu.index, "node": seat.gpu.node}
                for seat in self.members.alive()
            ],
            "curve": {str(size): rate for size, rate in self.points.items()},
            "curve_details": {str(size): one.details for size, one in self.observed.items()},
            "measuring_s": self.measuring_s,
            "curve_guesses": {str(n): one._asdict() for n, one in self.guessed.items()},
            "minimum_share": view.minimum_share if view else None,
            "script": spec.get("script") or spec.get("module"),
            "argv": spec.get("argv"),
            "story": [{"time": time, "text": text} for time, text in self.story],
            "updated": now,
        }

    @property
    def log_dir(self) -> str:
        """Where the workers' logs go."""
        return str(self.request["log_dir"])

    def _finish(self, view: JobView | None) -> float | None:
        if not self.is_live:
            return self.ended if self.state is State.SUCCEEDED else None
        if view is not None and math.isfinite(view.projected_finish):
            return view.projected_finish
        return self.projected_finish


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
