"""The scheduler: events in, commands out. It holds no clock, no file, no randomness."""

from __future__ import annotations

import math
from collections.abc import Iterable

from eflib.errors import UsageError
from eflib.scheduling import events as ev
from eflib.scheduling import loans, pins, promises
from eflib.scheduling.book import Book
from eflib.scheduling.commands import (
    Admitted,
    Assigned,
    Command,
    ProfilingExpired,
    PromiseBroken,
    Rejected,
)
from eflib.scheduling.gaps import in_gaps
from eflib.scheduling.jobs import Job, JobState, JobView, StoryEntry, Tier
from eflib.scheduling.plan import DEADLINE_TOLERANCE, SAME_INSTANT, head_of
from eflib.scheduling.scaling import ScalingCurve
from eflib.scheduling.settings import SchedulerSettings
from eflib.scheduling.spare import SpareGpus


class Scheduler:
    """Decides which job holds which GPUs, and keeps every deadline it admitted.

    ``handle`` is the only way to change it. The same events in the same order give the same
    commands, which makes a journal of them a memory and a debugger.

    Args:
        settings: Costs, margins and the rest.

    Attributes:
        book: All it knows; to be read, and only by tests and tools.

    Examples:
        >>> from eflib.scheduling import JobRequest, JobSubmitted, NodeJoined, ScalingCurve
        >>> scheduler = Scheduler()
        >>> scheduler.handle(NodeJoined("a", 4), now=0.0)
        ()
        >>> curve = ScalingCurve({1: 10.0, 2: 18.0, 4: 30.0})
        >>> request = JobRequest("j", curve, total_steps=300, submitted_at=0.0, deadline=60.0)
        >>> admitted, assigned = scheduler.handle(JobSubmitted(request), now=0.0)
        >>> admitted.projected_finish, len(assigned.gpus)
        (10.0, 4)
    """

    def __init__(self, settings: SchedulerSettings | None = None) -> None:
        self.book = Book(settings or SchedulerSettings())
        self._submitted = 0
        self._dirty = False
        self._gone: dict[str, tuple[JobState, list[StoryEntry]]] = {}

    def handle(self, event: ev.Event, now: float) -> tuple[Command, ...]:
        """Take in one event and return what should be done about it.

        Args:
            event: What happened.
            now: Seconds on the caller's clock; a time before the last one counts as the last one.

        Returns:
            Commands in the order to carry them out.

        Raises:
            UsageError: A job id that is in use is submitted, or a value is out of range.
        """
        return self.handle_all((event,), now)

    def handle_all(self, events: Iterable[ev.Event], now: float) -> tuple[Command, ...]:
        """Take in all that happened at one instant as one event; arrivals are decided one by one.

        Args:
            events: What happened, in order.
            now: Seconds on the caller's clock; a time before the last one counts as the last one.

        Returns:
            Commands in the order to carry them out.

        Raises:
            UsageError: See ``handle``.
        """
        book = self.book
        commands: list[Command] = []
        self._dirty = book.next_border() <= now + SAME_INSTANT
        book.advance(now)
        ordered = sorted(events, key=lambda event: not isinstance(event, ev.JobEnded))
        for event in ordered:
            if isinstance(event, ev.JobEnded):
                self._end(event.job_id)
        self._expire(commands)
        refused: list[Job] = []
        for event in ordered:
            self._dispatch(event, commands, refused)
        if self._dirty:
            self._settle(commands)
        for job in refused:
            self._refuse(job, commands)
        return tuple(self._with_finish(command) for command in commands)

    def _with_finish(self, command: Command) -> Command:
        """Say the finish that holds after spare GPUs are given away."""
        if isinstance(command, Admitted):
            job = self.book.jobs[command.job_id]
            return Admitted(command.job_id, promises.projected_finish(self.book, job))
        return command

    def next_wakeup(self, now: float) -> float | None:
        """Return when ``TimePassed`` is due if nothing else happens; None if never.

        Args:
            now: Seconds on the caller's clock; the answer is not before it.
        """
        soonest = self.book.next_border()
        return None if soonest == math.inf else max(soonest, now)

    def jobs(self) -> tuple[str, ...]:
        """Return the ids of the live jobs in the order of submission."""
        return tuple(self.book.jobs)

    def view(self, job_id: str, now: float) -> JobView | None:
        """Return what a person may know about a live job at a time; None if it is not live.

        Args:
            job_id: The job.
            now: Seconds on the caller's clock.
        """
        job = self.book.jobs.get(job_id)
        if job is None:
            return None
        running = max(now - max(job.synced_at, job.ready_at), 0.0) if job.mask else 0.0
        left = max(job.left - job.rate(job.mask.bit_count()) * running, 0.0)
        deadline = job.request.deadline
        finish = promises.projected_finish(self.book, job)
        return JobView(
            job_id=job_id,
            state=JobState.RUNNING if job.mask else JobState.WAITING,
            gpus=self.book.cluster.gpus(job.mask),
            steps_done=job.request.total_steps - left,
            total_steps=job.request.total_steps,
            deadline=deadline,
            projected_finish=finish,
            slack=None if deadline is None else deadline - finish,
            minimum_share=promises.minimum_share(self.book, job),
            pinned=job.pinned,
            promised=job.promise < math.inf,
            reason=self._reason(job),
        )

    def story(self, job_id: str) -> tuple[StoryEntry, ...]:
        """Return what happened to a job and was decided about it, live or not; empty if unknown."""
        job = self.book.jobs.get(job_id)
        if job is not None:
            return tuple(job.story)
        return tuple(self._gone[job_id][1]) if job_id in self._gone else ()

    @property
    def nodes(self) -> dict[str, int]:
        """GPUs by node."""
        return self.book.cluster.nodes

    @property
    def settings(self) -> SchedulerSettings:
        """The settings it was made with."""
        return self.book.settings

    def _dispatch(self, event: ev.Event, commands: list[Command], refused: list[Job]) -> None:
        """Take in what the event says."""
        if isinstance(event, ev.JobSubmitted):
            self._submit(event.request, commands, refused)
            return
        if not isinstance(event, ev.TimePassed | ev.JobEnded):
            self._dirty = self.book.surprised = True
        match event:
            case ev.JobProgressed(job_id, steps_done):
                self._progress(job_id, steps_done)
            case ev.CurveMeasured(job_id, curve):
                self._measure(job_id, curve)
            case ev.NodeJoined(node, num_gpus):
                self._join(node, num_gpus)
            case ev.NodeLost(node):
                self._lose(node)
            case ev.SizePinned(job_id, num_gpus):
                pins.pin(self.book, job_id, num_gpus, commands)
            case ev.ProfilingRequested(job_id, max_gpus, seconds):
                loans.lend(self.book, job_id, max_gpus, seconds, commands)
            case ev.ProfilingEnded(job_id):
                self.book.loans.pop(job_id, None)

    def _expire(self, commands: list[Command]) -> None:
        """Note what is over: loans, deadlines, jobs that should be done and are not."""
        book = self.book
        for name, loan in sorted(book.loans.items()):
            if loan.until <= book.now + SAME_INSTANT:
                del book.loans[name]
                commands.append(ProfilingExpired(name))
                self._dirty = True
        for job in book.jobs.values():
            rate = job.rate(job.mask.bit_count())
            if rate and job.left <= SAME_INSTANT * rate:
                job.left = rate * book.settings.overdue_grace
                self._dirty = book.surprised = True
            if job.pinned is not None:
                book.refresh_pinned(job)

    def _submit(self, request: ev.JobRequest, commands: list[Command], refused: list[Job]) -> None:
        """Decide about a newcomer."""
        book = self.book
        if request.job_id in book.jobs:
            raise UsageError(f"job {request.job_id!r} is already there")
        job = Job(request, self._submitted, request.curve, request.total_steps, book.now)
        self._submitted += 1
        job.set_curve(request.curve)
        job.tell(book.now, "submitted")
        if request.deadline is None or request.soft or not book.settings.admission:
            book.jobs[job.job_id] = job
            self._dirty = True
            commands.append(Admitted(job.job_id, math.inf))
            job.tell(book.now, "admitted without a promise")
        elif not self._promise(job, commands):
            refused.append(job)

    def _promise(self, job: Job, commands: list[Command]) -> bool:
        """Promise the deadline if a plan keeps it beside all others; True if promised."""
        book = self.book
        plan = promises.admit(book, job, job.deadline, calm=True)
        if plan is None:
            return False
        job.promise = job.deadline
        book.jobs[job.job_id] = job
        promises.adopt(book, plan)
        self._dirty = True
        commands.append(Admitted(job.job_id, job.finish))
        job.tell(book.now, f"admitted: deadline {job.deadline:g} is promised")
        return True

    def _refuse(self, job: Job, commands: list[Command]) -> None:
        """Say no, and which deadline would have been admitted as things now stand."""
        book = self.book
        earliest = promises.earliest_deadline(book, job) if book.settings.quotes else None
        if earliest is not None and earliest <= job.deadline and self._promise(job, commands):
            self._settle(commands)
            return
        reason = self._why_not(job, earliest)
        commands.append(Rejected(job.job_id, reason, earliest))
        job.tell(book.now, f"rejected: {reason}")
        self._gone[job.job_id] = (JobState.REJECTED, job.story)

    def _why_not(self, job: Job, earliest: float | None) -> str:
        """Return for a person why a deadline cannot be promised."""
        book = self.book
        if earliest is None and book.settings.quotes:
            return f"no GPU of the {book.cluster.num_gpus} in the cluster can be foreseen for it"
        if job.deadline <= book.now:
            return f"its deadline is {book.now - job.deadline:.0f} s in the past"
        alone = book.now + book.seconds_alone(job)
        if alone > job.deadline:
            return (
                f"even alone it would take {alone - book.now:.0f} s at its fastest, "
                f"and the deadline is in {job.deadline - book.now:.0f} s"
            )
        if earliest is None:
            return "the other promised jobs leave too few GPUs free before its deadline"
        return (
            f"the GPUs that {len(book.promised())} promised jobs leave free would finish it in "
            f"{earliest - book.now:.0f} s, and the deadline is in {job.deadline - book.now:.0f} s"
        )

    def _end(self, job_id: str) -> None:
        """Forget a job; what it held is free."""
        job = self.book.jobs.pop(job_id, None)
        if job is not None:
            job.tell(self.book.now, "ended")
            self._dirty = True
            self._gone[job_id] = (JobState.ENDED, job.story)

    def _progress(self, job_id: str, steps_done: float) -> None:
        """Believe the report; a lag that endangers a promise is repaired in ``_settle``."""
        job = self.book.jobs.get(job_id)
        if job is not None:
            job.left = max(job.request.total_steps - steps_done, 0.0)
            grace = job.rate(job.mask.bit_count()) * self.book.settings.overdue_grace
            if job.left <= 0.0 < grace:
                job.left = min(grace, job.request.total_steps)

    def _measure(self, job_id: str, curve: ScalingCurve) -> None:
        """Take a better curve."""
        job = self.book.jobs.get(job_id)
        if job is not None and curve != job.curve:
            job.set_curve(curve)
            job.tell(self.book.now, "its curve was measured anew")

    def _join(self, node: str, num_gpus: int) -> None:
        """Add a node; one that is there already with this size is not touched."""
        if self.book.cluster.nodes.get(node) == num_gpus:
            return
        self._lose(node)
        self.book.cluster.join(node, num_gpus)

    def _lose(self, node: str) -> None:
        """Remove a node; survivors of its jobs keep what is left to them until re-planned."""
        gone = self.book.cluster.lose(node)
        for loan in self.book.loans.values():
            loan.mask &= ~gone
        for job in self.book.jobs.values():
            if job.mask & gone:
                job.tell(self.book.now, f"lost GPUs with node {node}")
                job.mask &= ~gone
                job.ready_at = max(job.ready_at, self.book.now + self.book.settings.rescale_cost)

    def _settle(self, commands: list[Command]) -> None:
        """Bring rows, leftovers and GPUs in line with what is now true."""
        book = self.book
        for job in book.pinned():
            pins.hold(book, job)
        if book.surprised:
            for job in promises.repair(book):
                self._break(job, "no plan finishes it in time any more", commands)
        for job in book.jobs.values():
            late = book.now > job.promise + DEADLINE_TOLERANCE
            if late or (job.pinned is not None and job.finish > job.promise + DEADLINE_TOLERANCE):
                why = "its deadline has passed" if late else f"pinned to {job.pinned} GPUs"
                self._break(job, why, commands)
        self._spread()
        self._apply(commands)

    def _break(self, job: Job, reason: str, commands: list[Command]) -> None:
        """Say that a promise is off; the job goes on with a wish instead."""
        job.promise = math.inf
        job.tell(self.book.now, f"promise broken: {reason}")
        commands.append(PromiseBroken(job.job_id, reason))

    def _spread(self) -> None:
        """Fit what yields into what the promises leave, then give away the rest."""
        book = self.book
        promised = book.promised()
        if book.surprised or book.settings.safety_margin:
            for job in promised:
                job.finish = book.outlook_with_margin(job)
        book.surprised = False
        occupancy = book.occupancy(promised)
        yielding = book.yielding()
        for job in yielding:
            job.row, job.base, job.finish = [], [], math.inf
            if job.tier(book.now) is Tier.SOFT:
                found = in_gaps(
                    job, occupancy, deadline=job.deadline, now=book.now, settings=book.settings
                )
                if found is not None:
                    job.row, job.finish = found
                    occupancy.flip(job.row)
        if occupancy.free[0]:
            SpareGpus(occupancy, book.now, book.settings).spread(promised, yielding)
        if book.settings.safety_margin:
            for job in (*promised, *yielding):
                job.finish = book.outlook(job)

    def _apply(self, commands: list[Command]) -> None:
        """Hold what the plan says for now, and say what changed."""
        book = self.book
        for job in book.jobs.values():
            if job.pinned is None:
                job.hold(head_of(job.row, book.now), now=book.now, settings=book.settings)
            if job.mask != job.told:
                job.told = job.mask
                gpus = book.cluster.gpus(job.mask)
                job.tell(book.now, f"holds {len(gpus)} GPUs")
                commands.append(Assigned(job.job_id, gpus))

    def _reason(self, job: Job) -> str:
        """Return for a person why the job holds what it holds."""
        if job.pinned is not None:
            return f"pinned to {job.pinned} GPUs by the operator"
        count = job.mask.bit_count()
        if job.promise < math.inf:
            if not count:
                return f"waits: its deadline is safe with a start at {job.row[0].start:g}"
            return f"holds {count} GPUs, on time by {job.promise - job.finish:.0f} s"
        what = "soft deadline" if job.tier(self.book.now) is Tier.SOFT else "best effort"
        return f"{what}: {'holds ' + str(count) + ' spare GPUs' if count else 'waits for a GPU'}"
