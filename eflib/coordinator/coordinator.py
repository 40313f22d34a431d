"""The coordinator's loop: reads what happened, journals it, hands it to the plane, acts on it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from eflib import home as places
from eflib.coordinator import timeouts
from eflib.coordinator.clock import SteadyClock
from eflib.coordinator.effects import Answer, Effect, WriteSpec
from eflib.coordinator.intake import Intake
from eflib.coordinator.journal import SCHEMA, Journal, JournalError
from eflib.coordinator.nodes import NodeWatch
from eflib.coordinator.outage import Outage
from eflib.coordinator.plane import ControlPlane
from eflib.coordinator.publisher import Publisher
from eflib.errors import EflibError, StoreError, UsageError
from eflib.messages.codec import encode
from eflib.messages.generations import Generation
from eflib.messages.inbox import Release
from eflib.messages.journal import Begin, Entry, GenerationMade, ProgressMade, TimePassed
from eflib.messages.records import CoordinatorRecord, Progress
from eflib.messages.replies import Reply
from eflib.profiler.library import CurveLibrary
from eflib.scheduling import SchedulerSettings
from eflib.store import keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from eflib.coordinator.job import Job
    from eflib.messages.journal import Input
    from eflib.store.signed import SignedStore

_log = logging.getLogger(__name__)

SETTINGS = SchedulerSettings(rescale_cost=1.0, start_cost=10.0, safety_margin=0.1)
"""Costs of a live cluster, in seconds: a start imports and builds; a rescale waits for a step."""
_FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EflibError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What the plane may raise over an input that it should have taken: a bug in eflib."""


class Coordinator:
    """Hosts a control plane over a store.

    Args:
        store: The cluster's store.
        home: The folder of eflib's state: journal, logs, curves.
        managed: Started by eflaunch: it ends when there is nothing to do.
        clock: Seconds since the epoch, without jumps.
        monotonic: Seconds that only grow; ages and waits are told by it.
        settings: The policy's costs and margins.
    """

    def __init__(
        self,
        store: SignedStore,
        home: Path,
        *,
        managed: bool = False,
        clock: Callable[[], float] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        settings: SchedulerSettings = SETTINGS,
    ) -> None:
        self._store = store
        self._home = home
        self._managed = managed
        self._steady = SteadyClock()
        self._clock = clock or self._steady
        self._monotonic = monotonic
        self._settings = settings
        self._journal = Journal(places.journal_file(home), store.aside)
        self._curves = CurveLibrary(places.profile_folder(home))
        self._lock = FileLock(places.coordinator_lock(home))
        self._plane = ControlPlane(settings)
        self._nodes = NodeWatch(store, monotonic)
        self._intake = Intake(store, home, self._curves, self._nodes)
        self._publisher = Publisher(store, self._keep_curve)
        self._outage = Outage(monotonic)
        self._stop = threading.Event()
        self._fed: dict[str, tuple[float, int]] = {}
        self._progress: dict[str, Progress] = {}
        self._progress_due = self._beat_due = 0.0
        self._num_beats = 0
        self._idle_since = monotonic()
        self._started = 0.0

    def run(self) -> None:
        """Be the coordinator until a signal, or until idle when managed.

        Raises:
            UsageError: Another coordinator runs with this home.
            StoreError: The journal cannot be used, or the store for too long.
        """
        places.coordinator_lock(self._home).parent.mkdir(parents=True, exist_ok=True)
        try:
            # Not at once: whoever looks whether a coordinator is alive holds the lock for a moment.
            self._lock.acquire(timeout=timeouts.LOCK, poll_interval=0.01)
        except Timeout:
            raise UsageError(
                f"a coordinator is already running with the home {self._home}",
                hint="use it, as in: efctl status",
            ) from None
        try:
            self._recover()
            self._started, self._idle_since = self._clock(), self._monotonic()
            self._beat()
            _log.info(
                "serving %s as %s (pid %d), home %s",
                *(self._store.store.url, socket.gethostname(), os.getpid(), self._home),
            )
            while not self._stop.is_set():
                busy = self._turn_or_wait()
                self._stop.wait(timeouts.LOOP if not busy else 0)
            if not self._outage.is_on:
                self._beat(stopped=True)
            if self._plane.is_idle():
                self._begin_anew()  # so that a newer version has nothing old to take in
        finally:
            self._journal.close()
            self._lock.release()

    def stop(self) -> None:
        """End the loop after the current turn."""
        self._stop.set()

    # Memory --------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Fold the journal; begin a new one when nothing of it is alive.

        What followed from its last inputs may not have been carried out, so it is again.
        """
        effects: list[Effect] = []
        begin_of_recent = self._clock() - timeouts.REPLY
        for entry in self._journal.read():
            self._fold(entry.input, entry.time)
            read = -1 if entry.inbox is None else entry.inbox
            self._intake.read = max(self._intake.read, read + 1, entry.read or 0)
            self._steady.not_before(entry.time)
            is_recent = entry.time > begin_of_recent
            taken = self._plane.take_effects()  # older clients have given up waiting by now
            effects += [one for one in taken if is_recent or not isinstance(one, Answer)]
        self._publisher.add(effects)
        self._intake.begin()
        if not self._plane.num_jobs:  # there is no journal, or it was moved away
            self._plane.num_jobs = highest_number(self._home, self._store)
        self._journal.open()
        self._act()
        if self._plane.is_idle():
            self._begin_anew()
            self._find_nodes()
        for job in self._plane.live_jobs():
            self._catch_up(job)

    def _begin_anew(self) -> None:
        """Forget all jobs, which have ended, but how many there were; their ids are not reused."""
        begin = Begin(num_jobs=self._plane.num_jobs, requests=self._plane.requests)
        is_worth_keeping = bool(self._plane.jobs)
        self._plane = ControlPlane(self._settings)
        now = self._clock()
        self._plane.handle(begin, now)
        entry = Entry(v=SCHEMA, time=now, input=begin, read=self._intake.read)
        self._journal.begin_anew(entry, keep_old=is_worth_keeping)

    def _find_nodes(self) -> None:
        """Hear which nodes there are: a fresh journal knows of none."""
        for node in self._nodes.names():
            joined = self._nodes.joined(node)
            if joined is not None:
                self._nodes.expect(node)
                self._take([(None, joined)])

    def _take(self, inputs: list[tuple[int | None, Input]], end: int = 0) -> None:
        """Journal inputs, then hand them to the plane, then act on what follows.

        Args:
            inputs: Each with its index in the inbox, if it came from there.
            end: The inbox was read up to here.
        """
        now = self._clock()
        entries = [
            Entry(v=SCHEMA, time=now, input=message, inbox=index) for index, message in inputs
        ]
        for entry in self._journal.append(entries):
            self._fold(entry.input, now)
        self._intake.done(end)
        self._act()

    def _fold(self, message: Input, now: float) -> None:
        """Hand an input to the plane; one over which it fails is put aside.

        The journal has it, and the plane fails over it in the same way when it is folded again.
        """
        try:
            self._plane.handle(message, now)
        except _FAULTS as error:
            reason = f"the control plane failed over it: {type(error).__name__}: {error}"
            self._store.aside.put("the journal", encode(message), reason)

    # One turn ------------------------------------------------------------------------------------

    def _turn_or_wait(self) -> bool:
        """Take a turn; True if there was anything to do. While the store is out, wait a little.

        Raises:
            StoreError: The store has been out for too long.
        """
        try:
            busy = self._turn()
        except JournalError:
            raise
        except StoreError as error:
            self._outage.goes_on(error)
            self._stop.wait(timeouts.RETRY)
            return False
        if self._outage.ends():
            self._nodes.forgive()
        return busy

    def _turn(self) -> bool:
        """Do what there is to do; True if there was anything."""
        batch = self._intake.receive()
        if self._publisher.is_behind:
            self._act()
        tick = self._monotonic()
        if tick >= self._progress_due or batch.messages:
            self._progress_due = tick + timeouts.PROGRESS
            self._look_at_progress(feed_all=bool(batch.messages))
            for found in self._nodes.look(self._plane.nodes):
                self._take([(None, found)])
        if batch.end > self._intake.read:
            inputs: list[tuple[int | None, Input]] = []
            for index, message in batch.messages:
                if isinstance(message, Release):
                    self._release(message)
                completed = self._intake.completed(message, self._plane)
                if completed is not None:
                    inputs.append((index, completed))
            self._take(inputs, batch.end)
            self._intake.trim()
        self._pass_time()
        proposed = self._propose()
        if self._monotonic() >= self._beat_due:
            self._beat()
        self._check_idle()
        return bool(batch.messages) or proposed

    def _pass_time(self) -> None:
        now = self._clock()
        try:
            changed = self._plane.pass_time(now)
        except _FAULTS as error:
            reason = f"the control plane failed as time passed: {type(error).__name__}: {error}"
            self._store.aside.put("the journal", encode(TimePassed()), reason)
            return
        if changed:
            self._journal.append([Entry(v=SCHEMA, time=now, input=TimePassed())])
            self._act()

    def _release(self, message: Release) -> None:
        """End if it was started by eflaunch and has nothing to do."""
        stops = self._managed and self._plane.is_idle()
        self._store.put(keys.reply(message.request), Reply(stops=stops))
        if stops:
            self._stop.set()

    def _propose(self) -> bool:
        """Make generations, or learn of those that somebody else made first."""
        proposals = self._plane.proposals(self._clock())
        for job, generation in proposals:
            self._make(job, generation)
        return bool(proposals)

    def _make(self, job: Job, generation: Generation) -> None:
        """Create a generation, or learn of the one that somebody else made first."""
        self._store.claim(keys.generation(job.job, generation.number), generation)
        self._catch_up(job)

    def _catch_up(self, job: Job) -> None:
        """Take in generations that are in the store and not known yet."""
        while True:
            number = job.members.newest.number + 1
            record = self._store.fetch(keys.generation(job.job, number), Generation)
            if record is None or record.number != number:
                return
            self._take([(None, GenerationMade(job=job.job, record=record))])

    def _look_at_progress(self, *, feed_all: bool) -> None:
        """Read what trainers say, and the generations that survivors made."""
        tick = self._monotonic()
        for job in self._plane.live_jobs():
            if job.members.newest.number == 0:
                continue
            self._catch_up(job)
            told = self._store.fetch(keys.job_progress(job.job), Progress)
            if told is None:
                continue
            self._progress[job.job] = told
            fed_at, fed_step = self._fed.get(job.job, (-timeouts.FEED, -1))
            if told.global_step != fed_step and (feed_all or tick - fed_at > timeouts.FEED):
                self._fed[job.job] = (tick, told.global_step)
                self._take([(None, ProgressMade(job=job.job, progress=told))])
        self._publisher.write_documents(self._plane, self._progress, self._clock())

    # Out -----------------------------------------------------------------------------------------

    def _act(self) -> None:
        """Carry out what the plane says; all of it may be repeated."""
        self._publisher.add(self._plane.take_effects())
        self._publisher.publish(self._plane, self._progress, self._clock())

    def _keep_curve(self, job_id: str) -> None:
        """Write a job's curve; what cannot be written is measured again by the next job."""
        job = self._plane.jobs.get(job_id)
        if job is None or job.speed.announce is None:
            return
        speed = job.speed
        try:
            self._curves.keep(job.request.target, job.speed.announce, speed.observed, speed.guessed)
        except OSError as error:
            _log.warning("the curve of job %s is not kept: %s", job_id, error.strerror or error)

    def _beat(self, *, stopped: bool = False) -> None:
        """Write one more sign of life; notice a store that has lost what it had."""
        if self._num_beats and self._store.store.get(keys.COORDINATOR) is None:
            _log.warning("the store has lost what it had: writing it anew")
            self._intake.begin()
            self._publisher.forget()
            self._publisher.add(WriteSpec(job.job, job.spec) for job in self._plane.live_jobs())
        self._beat_due = self._monotonic() + timeouts.BEAT
        record = CoordinatorRecord(
            pid=os.getpid(),
            host=socket.gethostname(),
            started=self._started,
            managed=self._managed,
            beats=self._num_beats + 1,
            stopped=stopped,
        )
        self._store.put(keys.COORDINATOR, record)
        self._num_beats += 1

    def _check_idle(self) -> None:
        tick = self._monotonic()
        if not self._plane.is_idle():
            self._idle_since = tick
            return
        # Whoever started it brings a job as soon as an agent is up, which takes a while.
        bound = timeouts.IDLE if self._plane.jobs else timeouts.FIRST_JOB
        if self._managed and tick - self._idle_since > bound:
            self._stop.set()


def highest_number(home: Path, store: SignedStore) -> int:
    """Return the highest number in the ids of jobs that left something: none is used again.

    Args:
        home: The folder of eflib's state, with the jobs' own folders.
        store: The cluster's store, with their keys.
    """
    folder = places.jobs_folder(home)
    ids = [one.name for one in folder.iterdir()] if folder.is_dir() else []
    ids += [keys.owner(key) for key in store.list(keys.JOBS)]
    endings = [one.rpartition("-")[2] for one in ids]
    # A name may be anything: only what the counter itself could have written counts.
    numbers = [int(one) for one in endings if one.isascii() and one.isdecimal() and len(one) < 15]
    return max(numbers, default=0)


def install_signals(coordinator: Coordinator) -> None:
    """Let SIGTERM and SIGINT end the coordinator in order; jobs train on without it."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, frame: coordinator.stop())
