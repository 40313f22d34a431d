"""The scheduler: events in, commands out. It holds no clock, no file, no randomness."""

from __future__ import annotations

import math
from collections.abc import Iterable

from eflib.errors import UsageError
from eflib.scheduling import events as ev
from eflib.scheduling import loans, pins, promises, updates, views
from eflib.scheduling.allocation import allocate, carry_out
from eflib.scheduling.book import Book
from eflib.scheduling.commands import Admitted, Command, ProfilingExpired, PromiseBroken, Rejected
from eflib.scheduling.jobs import Job, JobView
from eflib.scheduling.plan import DEADLINE_TOLERANCE, SAME_INSTANT
from eflib.scheduling.settings import SchedulerSettings
from eflib.scheduling.state import SchedulerState, book_of, state_of


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
        # Ends first: what arrives at the same instant may use the GPUs that they free.
        ordered = sorted(events, key=lambda event: not isinstance(event, ev.JobEnded))
        for event in ordered:
            if isinstance(event, ev.JobEnded):
                self._end(event.job_id)
        self._expire(commands)
        refused: list[Job] = []
        for event in ordered:
            self._dispatch(event, commands, refused)
        # Nothing new and no border of the plan is reached: the GPUs stay as they are.
        if self._dirty:
            self._settle(commands)
        # A refusal quotes a deadline, so it is worded last, when the plan of this instant stands.
        for job in refused:
            self._refuse(job, commands)
        return tuple(self._with_finish(command) for command in commands)

    def _with_finish(self, command: Command) -> Command:
        """Say the finish that holds after spare GPUs are given away."""
        if isinstance(command, Admitted):
            job = self.book.jobs[command.job_id]
            return Admitted(command.job_id, promises.projected_finish(self.book, job))
        return command

    def state(self) -> SchedulerState:
        """Return all that its next decisions depend on, as plain frozen values."""
        return state_of(self.book, self._submitted)

    @classmethod
    def restore(cls, state: SchedulerState, settings: SchedulerSettings | None = None) -> Scheduler:
        """Return a scheduler that goes on from a state as the one would have that it was read from.

        Args:
            state: As returned by ``state``.
            settings: Costs, margins and the rest; the same ones, or it decides by other costs.

        Raises:
            UsageError: A value of the state is out of range.
        """
        scheduler = cls(settings)
        scheduler.book = book_of(state, scheduler.settings)
        scheduler._submitted = state.submitted
        return scheduler

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
        return None if job is None else views.view(self.book, job, now)

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
        elif isinstance(event, ev.JobProgressed):
            if updates.progressed(self.book, event.job_id, event.steps_done):
                self._dirty = self.book.surprised = True
        elif not isinstance(event, ev.TimePassed | ev.JobEnded):
            self._dirty = self.book.surprised = True
            self._surprise(event, commands)

    def _surprise(self, event: ev.Event, commands: list[Command]) -> None:
        """Take in what no plan foresees."""
        match event:
            case ev.CurveMeasured(job_id, curve):
                updates.measured(self.book, job_id, curve)
            case ev.NodeJoined(node, num_gpus):
                updates.node_joined(self.book, node, num_gpus)
            case ev.NodeLost(node):
                updates.node_lost(self.book, node)
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
            # Done by the curve, yet no JobEnded: the curve was too fast. The job is thought to need
            # a little more, again and again, rather than to hold its GPUs without a plan.
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
        if request.deadline is None or request.soft or not book.settings.admission:
            book.jobs[job.job_id] = job
            self._dirty = True
            commands.append(Admitted(job.job_id, math.inf))
        elif not self._promise(job, commands):
            refused.append(job)

    def _promise(self, job: Job, commands: list[Command]) -> bool:
        """Promise the deadline if a plan keeps it beside all others; True if promised."""
        book = self.book
        plan = promises.admit(book, job, job.deadline, undisturbed=True)
        if plan is None:
            return False
        job.promise = job.deadline
        book.jobs[job.job_id] = job
        promises.adopt(book, plan)
        self._dirty = True
        commands.append(Admitted(job.job_id, job.finish))
        return True

    def _refuse(self, job: Job, commands: list[Command]) -> None:
        """Say no, and which deadline would have been admitted as things now stand."""
        book = self.book
        earliest = promises.earliest_deadline(book, job) if book.settings.quotes else None
        # The search tries many deadlines, and now and then finds a plan for one that is not later
        # than the asked-for: then it is admitted after all, for the offer must not be better.
        if earliest is not None and earliest <= job.deadline and self._promise(job, commands):
            self._settle(commands)
            return
        reason = views.why_refused(book, job, earliest)
        commands.append(Rejected(job.job_id, reason, earliest))

    def _end(self, job_id: str) -> None:
        """Forget a job; what it held is free."""
        if self.book.jobs.pop(job_id, None) is not None:
            self._dirty = True

    def _settle(self, commands: list[Command]) -> None:
        """Bring rows, leftovers and GPUs in line with what is now true."""
        book = self.book
        for job in book.pinned():
            pins.hold(book, job)
        # Without a surprise every row still leads where it did: the check is skipped, for time.
        if book.surprised:
            for job in promises.repair(book):
                self._break(job, "no plan finishes it in time any more", commands)
        for job in book.jobs.values():
            late = book.now > job.promise + DEADLINE_TOLERANCE
            if late or (job.pinned is not None and job.finish > job.promise + DEADLINE_TOLERANCE):
                why = "its deadline has passed" if late else f"it is held at {job.pinned} GPUs"
                self._break(job, why, commands)
        allocate(book)
        carry_out(book, commands)

    def _break(self, job: Job, reason: str, commands: list[Command]) -> None:
        """Say that a promise is off; the job goes on with a wish instead."""
        job.promise = math.inf
        commands.append(PromiseBroken(job.job_id, reason))
