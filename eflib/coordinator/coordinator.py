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
from eflib.coordinator.effects import WriteSpec
from eflib.coordinator.ids import highest_number
from eflib.coordinator.intake import Intake
from eflib.coordinator.journal import SCHEMA, JournalError
from eflib.coordinator.listening import ProgressReader
from eflib.coordinator.memory import Memory
from eflib.coordinator.nodes import NodeWatch
from eflib.coordinator.outage import Outage
from eflib.coordinator.plane import ControlPlane
from eflib.coordinator.publisher import Publisher
from eflib.errors import StoreError, UsageError
from eflib.messages.generations import Generation
from eflib.messages.inbox import Release, RequestMessage
from eflib.messages.journal import Entry, GenerationMade
from eflib.messages.records import CoordinatorRecord
from eflib.messages.replies import Reply
from eflib.profiler.library import CurveLibrary
from eflib.scheduling import SchedulerSettings
from eflib.store import keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from eflib.coordinator.job import Job
    from eflib.messages.inbox import Inbox
    from eflib.messages.journal import Input
    from eflib.store.signed import SignedStore

_log = logging.getLogger(__name__)

SETTINGS = SchedulerSettings(rescale_cost=1.0, start_cost=10.0, safety_margin=0.1)
"""Costs of a live cluster, in seconds: a start imports and builds; a rescale waits for a step."""


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
        self._memory = Memory(home, settings, store.aside)
        self._curves = CurveLibrary(places.profile_folder(home))
        self._lock = FileLock(places.coordinator_lock(home))
        self._nodes = NodeWatch(store, monotonic)
        self._intake = Intake(store, home, self._curves, self._nodes)
        self._publisher = Publisher(store, self._keep_curve)
        self._outage = Outage(monotonic)
        self._stop = threading.Event()
        self._progress = ProgressReader(store, monotonic)
        self._progress_due = self._nodes_due = self._beat_due = 0.0
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
                # So that a newer version has nothing old to take in.
                self._memory.begin_anew(self._clock(), self._intake.read)
        finally:
            self._memory.close()
            self._lock.release()

    @property
    def _plane(self) -> ControlPlane:
        return self._memory.plane

    def stop(self) -> None:
        """End the loop after the current turn."""
        self._stop.set()

    # Memory --------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Fold the journal; begin a new one when nothing of it is alive.

        What followed from its last inputs may not have been carried out, so it is again.
        """
        effects, self._intake.read, last = self._memory.recover(self._clock() - timeouts.REPLY)
        self._steady.not_before(last)
        self._publisher.add(effects)
        self._intake.begin()
        if not self._plane.requests.num_jobs:  # there is no journal, or it was moved away
            self._plane.requests.num_jobs = highest_number(self._home, self._store)
        self._memory.open()
        self._act()
        if self._plane.is_idle():
            self._memory.begin_anew(self._clock(), self._intake.read)
            self._find_nodes()
        for job in self._plane.live_jobs():
            self._catch_up(job)

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
        self._memory.take(entries)
        self._intake.done(end)
        self._act()

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
        is_due = tick >= self._progress_due
        if is_due or batch.messages:
            self._progress_due = tick + timeouts.PROGRESS if is_due else self._progress_due
            self._look_at_progress(batch.messages, is_due=is_due)
        if tick >= self._nodes_due:
            self._nodes_due = tick + timeouts.BEAT
            for found in self._nodes.look(self._plane.nodes):
                self._take([(None, found)])
        if batch.end > self._intake.read:
            self._take_received(batch.messages, batch.end)
        self._pass_time()
        proposed = self._propose()
        if self._monotonic() >= self._beat_due:
            self._beat()
        self._check_idle()
        if self._memory.is_long and not self._publisher.is_behind:
            self._memory.cut(self._clock(), self._intake.read)
        return bool(batch.messages) or proposed

    def _take_received(self, received: list[tuple[int, Inbox]], end: int) -> None:
        """Take in what was read of the inbox, up to ``end``."""
        inputs: list[tuple[int | None, Input]] = []
        for index, message in received:
            if isinstance(message, Release):
                self._release(message)
            completed = self._intake.completed(message, self._plane)
            if completed is not None:
                inputs.append((index, completed))
        self._take(inputs, end)
        self._intake.trim()

    def _pass_time(self) -> None:
        if self._memory.pass_time(self._clock()):
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

    def _look_at_progress(self, received: list[tuple[int, Inbox]], *, is_due: bool) -> None:
        """Read what trainers say, and the generations that survivors made.

        Args:
            received: New messages; the jobs that they concern are looked at now.
            is_due: Look at the next jobs in turn as well.
        """
        jobs: dict[str, Job] = {}
        for _, message in received:
            job = self._plane.jobs.get(getattr(message, "job", ""))
            if job is not None and job.is_live:
                jobs[job.job] = job
        has_request = any(isinstance(message, RequestMessage) for _, message in received)
        if is_due or has_request:
            jobs.update({job.job: job for job in self._progress.next_of(self._plane.live_jobs())})
        training = [job for job in jobs.values() if job.members.newest.number > 0]
        for job in training:
            self._catch_up(job)
        told = self._progress.read(training, feed_all=bool(received))
        self._publisher.refresh(jobs.values())
        if told:
            self._take([(None, one) for one in told])
        elif self._publisher.is_behind:
            self._act()

    # Out -----------------------------------------------------------------------------------------

    def _act(self) -> None:
        """Carry out what the plane says; all of it may be repeated."""
        self._publisher.add(self._plane.take_effects())
        self._publisher.publish(self._plane, self._progress.latest, self._clock())

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
            _log.warning("the store has lost its contents: writing them again")
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


def install_signals(coordinator: Coordinator) -> None:
    """Let SIGTERM and SIGINT end the coordinator in order; jobs train on without it."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, frame: coordinator.stop())
