"""One job as the coordinator knows it: what was asked, and where it is in its life."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from eflib.coordinator.membership import Membership
from eflib.coordinator.records import RunRecord, SpeedRecord
from eflib.messages.fields import shortened
from eflib.messages.generations import PAUSE, STOP
from eflib.messages.journal import TakenProfile, TakenSubmit
from eflib.messages.records import JobSpec
from eflib.profiler.fit import Observation
from eflib.scheduling import Gpu

MAX_LINE = 2000
"""Characters of a line of a job's story."""
MAX_STORY = 200
"""Lines of a job's story; the newest are kept."""


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
"""Every legal move; anything else is a bug in eflib."""

ENDED = {state for state, moves in TRANSITIONS.items() if not moves}
Asked = TakenSubmit | TakenProfile
"""What a person asked for."""


@dataclass
class Job:
    """What is known of a job.

    Attributes:
        job: Its id.
        request: What a person asked for.
        submitted: When, in seconds since the epoch.
        members: Its workers and generations.
        state: Where it is in its life.
        reason: Why, for people.
        speed: What is known of its speed, and how that is being measured.
        run: What became of its training so far.
        story: What happened to it, with the time of each line.
        cancelling: A person has ended it.
    """

    job: str
    request: Asked
    submitted: float
    members: Membership
    state: State = State.SUBMITTED
    reason: str = ""
    speed: SpeedRecord = field(default_factory=SpeedRecord)
    run: RunRecord = field(default_factory=RunRecord)
    story: list[tuple[float, str]] = field(default_factory=list)
    cancelling: bool = False

    @staticmethod
    def of(request: Asked, number: int, now: float) -> Job:
        """Return a new job.

        Args:
            request: What was asked.
            number: How many jobs there were, with this one.
            now: The present, in seconds since the epoch.
        """
        job_id = f"{request.name}-{number}"
        job = Job(job_id, request, now, Membership(job_id))
        job.speed.expects_curve = request.expects_curve and not job.only_profile
        if request.profile is not None and not job.only_profile:
            points = request.profile.points.items()
            job.speed.observed = {size: Observation(rate) for size, rate in points}
            job.speed.expects_curve = True
        job.tell(now, "submitted")
        return job

    @property
    def number(self) -> int:
        """Its number in the order of submission, with which its id ends."""
        return int(self.job.rpartition("-")[2])

    @property
    def name(self) -> str:
        """What a person called it."""
        return self.request.name

    @property
    def only_profile(self) -> bool:
        """True for a run of ``efctl profile``: it ends when the curve is known."""
        return isinstance(self.request, TakenProfile)

    @property
    def folder(self) -> str:
        """The job's own folder."""
        return f"{self.request.job_root}/{self.job}"

    @property
    def log_dir(self) -> str:
        """Where the workers' logs go."""
        return self.request.log_dir or f"{self.folder}/logs"

    @property
    def checkpoint_dir(self) -> str:
        """Where checkpoints go."""
        return f"{self.folder}/checkpoints"

    @property
    def spec(self) -> JobSpec:
        """What its workers run."""
        asked = self.request
        return JobSpec(
            script=asked.script,
            module=asked.module,
            argv=asked.argv,
            cwd=asked.cwd,
            env=asked.env,
            checkpoint_dir=self.checkpoint_dir,
        )

    @property
    def is_curve_given(self) -> bool:
        """True where a person gave the curve: nothing is added to it."""
        return self.request.profile is not None and not self.only_profile

    @property
    def is_live(self) -> bool:
        """False once the job is in a state that it does not leave."""
        return self.state not in ENDED

    @property
    def is_present(self) -> bool:
        """True while the job is live or still has workers."""
        return self.is_live or bool(self.members.alive())

    def move(self, state: State, reason: str, now: float) -> None:
        """Go to another state, along ``TRANSITIONS`` alone.

        Raises:
            ValueError: There is no such way.
        """
        if state is not self.state:
            if state not in TRANSITIONS[self.state]:
                raise ValueError(f"job {self.job}: no way from {self.state.value} to {state.value}")
            self.state = state
            if state is State.RUNNING and self.run.started is None:
                self.run.started = now
            if not self.is_live:
                self.run.ended = now
            self.tell(now, f"{state.value.lower()}: {reason}" if reason else state.value.lower())
        self.reason = reason

    def tell(self, now: float, text: str) -> None:
        """Add a line to the job's story."""
        self.story.append((now, shortened(text, MAX_LINE)))
        del self.story[:-MAX_STORY]

    def aim(self, gpus: tuple[Gpu, ...], why: str, now: float) -> None:
        """Take the slots that the scheduler has assigned; with none, pause.

        Args:
            gpus: All slots that the job holds from now on.
            why: The scheduler's reason, for people.
            now: The present, in seconds since the epoch.
        """
        before, after = len(self.members.target), len(gpus)
        self.members.aim(gpus, why)
        if not self.cancelling:
            self.members.ending = ""
        self.tell(now, f"{before} -> {after} slots" + (f": {why}" if why else ""))
        if not gpus and self.state is State.RUNNING:
            self.members.ending = PAUSE
            self.move(State.PAUSED, "waiting for slots: all are promised to other jobs", now)
        elif gpus and self.state is State.PAUSED:
            self.move(State.PENDING, "resumes", now)

    def admit(self, finish: float, now: float) -> None:
        """The scheduler has admitted the job, to end at ``finish``."""
        self.run.projected_finish = finish
        self.move(State.PENDING, "", now)

    def reject(self, reason: str, earliest: float | None, now: float) -> None:
        """The scheduler has refused the job; ``earliest`` is a deadline it would accept."""
        self.run.earliest_deadline = earliest
        self.members.ending = STOP
        self.move(State.REJECTED, reason, now)

    def close(self, state: State, reason: str, now: float) -> None:
        """Let the workers go for good, and move to a state in which the job has ended."""
        self.members.ending = self.members.ending or STOP
        self.members.aim(())
        self.speed.profiling = None
        self.move(state, reason, now)
