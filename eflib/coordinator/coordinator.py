"""The coordinator's loop: reads what happened, journals it, hands it to the plane, acts on it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from eflib import home as places
from eflib.coordinator import timeouts
from eflib.coordinator.intake import complaint
from eflib.coordinator.journal import Journal
from eflib.coordinator.plane import ControlPlane, Effect
from eflib.errors import StoreError, UsageError
from eflib.profiler.library import CurveLibrary
from eflib.scheduling import SchedulerSettings
from eflib.store import keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from eflib.coordinator.job import Job
    from eflib.messages.generations import Generation
    from eflib.store.signed import SignedStore

Message = dict[str, Any]

_log = logging.getLogger(__name__)

SETTINGS = SchedulerSettings(rescale_cost=1.0, start_cost=10.0, safety_margin=0.1)
"""Costs of a live cluster, in seconds: a start imports and builds; a rescale waits for a step."""


class Coordinator:
    """Hosts a control plane over a store.

    Args:
        store: The cluster's store.
        home: The folder of eflib's state: journal, logs, curves.
        managed: Started by eflaunch: it ends when there is nothing to do.
        clock: Seconds since the epoch.
        settings: The policy's costs and margins.
    """

    def __init__(
        self,
        store: SignedStore,
        home: Path,
        *,
        managed: bool = False,
        clock: Callable[[], float] = time.time,
        settings: SchedulerSettings = SETTINGS,
    ) -> None:
        self._store = store
        self._home = home
        self._managed = managed
        self._clock = clock
        self._settings = settings
        self._journal = Journal(places.journal_file(home))
        self._curves = CurveLibrary(places.profile_folder(home))
        self._lock = FileLock(places.coordinator_lock(home))
        self._plane = ControlPlane(settings)
        self._stop = threading.Event()
        self._read = 0  # entries of the inbox that are in the journal
        self._written: dict[str, Message] = {}
        self._beats: dict[str, tuple[int, float]] = {}
        self._fed: dict[str, tuple[float, int]] = {}
        self._progress: dict[str, Message] = {}
        self._progress_due = 0.0
        self._beat_due = 0.0
        self._num_beats = 0
        self._idle_since = 0.0
        self._started = 0.0

    def run(self) -> None:
        """Be the coordinator until a signal, or until idle when managed.

        Raises:
            UsageError: Another coordinator runs with this home.
            StoreError: The journal or the store cannot be used.
        """
        places.coordinator_lock(self._home).parent.mkdir(parents=True, exist_ok=True)
        try:
            # Not at once: whoever looks whether a coordinator is alive holds the lock for a moment.
            self._lock.acquire(timeout=timeouts.LOCK, poll_interval=0.01)
        except Timeout:
            raise UsageError(
                f"a coordinator runs already over {self._home}",
                hint="ask it with: efctl status",
            ) from None
        try:
            self._recover()
            self._started = self._idle_since = self._clock()
            self._beat(self._started)
            while not self._stop.is_set():
                busy = self._turn()
                self._stop.wait(timeouts.LOOP if not busy else 0)
            self._say_goodbye()
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
            self._fold(entry)
            self._read = max(self._read, int(entry.get("inbox", -1)) + 1, entry.get("read", 0))
            is_recent = entry["t"] > begin_of_recent
            taken = self._plane.take_effects()  # older clients have given up waiting by now
            effects += [effect for effect in taken if is_recent or effect.kind != "reply"]
        self._plane.effects = effects
        if not self._store.reaches(keys.INBOX, self._read):
            self._read = 0  # another store, or one that lost what it had
        if not self._plane.num_jobs:  # there is no journal, or it was moved away
            self._plane.num_jobs = self._highest_number()
        self._journal.open()
        self._act(self._clock())
        if self._plane.is_idle():
            self._begin_anew()
            self._find_nodes(self._clock())
        for job in self._plane.live_jobs():
            self._catch_up(job, self._clock())

    def _highest_number(self) -> int:
        """Return the highest number in the ids of jobs that left something: none is used again."""
        folder = places.jobs_folder(self._home)
        ids = [one.name for one in folder.iterdir()] if folder.is_dir() else []
        ids += [keys.owner(key) for key in self._store.list(keys.JOBS)]
        numbers = [one.rpartition("-")[2] for one in ids]
        return max((int(one) for one in numbers if one.isdecimal()), default=0)

    def _begin_anew(self) -> None:
        """Forget all jobs, which have ended, but how many there were; their ids are not reused."""
        begin = {"type": "begin", "num_jobs": self._plane.num_jobs}
        is_worth_keeping = bool(self._plane.jobs)
        self._plane = ControlPlane(self._settings)
        now = self._clock()
        self._plane.handle(begin, now)
        entry = {"t": now, "in": begin, "read": self._read}
        self._journal.begin_anew(entry, keep_old=is_worth_keeping)

    def _fold(self, entry: dict[str, Any]) -> None:
        try:
            self._plane.handle(entry["in"], float(entry["t"]))
        except Exception as error:
            kind = entry["in"].get("type") if isinstance(entry.get("in"), dict) else None
            raise StoreError(
                f"{places.journal_file(self._home)}: a {kind!r} entry cannot be taken in: "
                f"{type(error).__name__}: {error}",
                hint="was it written by another version of eflib? Move the file away to begin "
                "anew; jobs that run then end by themselves",
            ) from error

    def _find_nodes(self, now: float) -> None:
        """Hear which nodes there are: a fresh journal knows of none."""
        for key in self._store.list(keys.NODES):
            if keys.last_part(key) == "record":
                node = keys.owner(key)
                self._take([({"type": "node_joined", "node": node}, None)], now)
                beat = self._store.fetch(keys.node_heartbeat(node)) or {"count": -1}
                since = now - timeouts.HEARTBEAT_LOST + 3 * timeouts.BEAT
                self._beats[node] = (int(beat["count"]), since)

    def _take(self, inputs: list[tuple[Message, int | None]], now: float) -> None:
        """Journal inputs, then hand them to the plane, then act on what follows."""
        entries = []
        for message, index in inputs:
            entry: Message = {"t": now, "in": self._enrich(message)}
            if index is not None:
                entry["inbox"] = index
            entries.append(entry)
        self._journal.append(entries)
        for entry in entries:
            self._plane.handle(entry["in"], now)
        self._act(now)

    def _enrich(self, message: Message) -> Message:
        """Add what only the outside knows, so that the journal holds it."""
        kind = message.get("type")
        if kind == "node_joined":
            record = self._store.fetch(keys.node_record(str(message["node"])))
            return {**message, "record": record or {"slots": 1}}
        if kind in {"submit", "profile"}:
            script = str(message.get("script") or message.get("module"))
            return {
                **message,
                "job_root": str(places.jobs_folder(self._home)),
                "expects_curve": self._curves.has_script(script),
            }
        if kind == "worker_ready":
            job = self._plane.jobs.get(str(message.get("job")))
            if job is not None and not job.announce:
                known = self._curves.find(self._script(job), dict(message["announce"]))
                if known:
                    curve = {str(size): one.to_json() for size, one in known.items()}
                    return {**message, "known_curve": curve}
        return message

    @staticmethod
    def _script(job: Job) -> str:
        return str(job.request.get("script") or job.request.get("module"))

    # One turn ------------------------------------------------------------------------------------

    def _turn(self) -> bool:
        """Do what there is to do; True if there was anything."""
        now = self._clock()
        received = self._store.receive(keys.INBOX, self._read)
        if now >= self._progress_due or received:
            self._progress_due = now + timeouts.PROGRESS
            self._look_at_progress(now, feed_all=bool(received))
            self._look_at_nodes(now)
        if received:
            self._read = received[-1][0] + 1
            mine = [one for one in received if not self._answered(one[1], now)]
            self._take([(message, index) for index, message in mine], now)
            self._store.trim(keys.INBOX, self._read)
        if self._plane.pass_time(now):
            self._journal.append([{"t": now, "in": {"type": "time"}}])
            self._act(now)
        proposed = self._propose(now)
        if now >= self._beat_due:
            self._beat(now)
        self._check_idle(now)
        return bool(received) or proposed

    def _answered(self, message: Message, now: float) -> bool:
        """Answer what does not concern the plane; refuse what it could not read."""
        wrong = complaint(message)
        if wrong:
            _log.warning("refused a message: %s", wrong)
            self._refuse(message, wrong)
            return True
        if message.get("type") != "release":
            return False
        stops = self._managed and self._plane.is_idle()
        self._store.put(keys.reply(str(message["request"])), {"stops": stops})
        if stops:
            self._stop.set()
        del now
        return True

    def _refuse(self, message: Message, wrong: str) -> None:
        if message.get("request"):
            problem = f"the coordinator cannot read the request: {wrong}"
            hint = "use the same version of eflib everywhere"
            error = {"code": "usage", "problem": problem, "hint": hint}
            self._store.put(keys.reply(str(message["request"])), {"error": error})

    def _propose(self, now: float) -> bool:
        proposals = self._plane.proposals(now)
        for job, generation in proposals:
            self._make(job, generation, now)
        return bool(proposals)

    def _make(self, job: Job, generation: Generation, now: float) -> None:
        """Create a generation, or learn of the one that somebody else made first."""
        key = keys.generation(job.job, generation.number)
        self._store.claim(key, generation)
        self._catch_up(job, now)

    def _catch_up(self, job: Job, now: float) -> None:
        """Take in generations that are in the store and not known yet."""
        while True:
            number = job.members.newest.number + 1
            record = self._store.fetch(keys.generation(job.job, number))
            if record is None:
                return
            self._take([({"type": "generation", "job": job.job, "record": record}, None)], now)

    def _look_at_progress(self, now: float, *, feed_all: bool) -> None:
        """Read what trainers say, and the generations that survivors made."""
        for job in self._plane.live_jobs():
            if job.members.newest.number == 0:
                continue
            self._catch_up(job, now)
            document = self._store.fetch(keys.job_progress(job.job))
            if document is None:
                continue
            self._progress[job.job] = document
            fed_at, fed_step = self._fed.get(job.job, (0.0, -1))
            step = int(document["global_step"])
            if step != fed_step and (feed_all or now - fed_at > timeouts.FEED):
                self._fed[job.job] = (now, step)
                feed = {"type": "progress", "job": job.job, "progress": document}
                self._take([(feed, None)], now)
        self._write_documents(now)

    def _look_at_nodes(self, now: float) -> None:
        """Count heartbeats: an agent whose counter stands still is lost."""
        for node in list(self._plane.nodes):
            beat = self._store.fetch(keys.node_heartbeat(node)) or {"count": -1}
            count, since = self._beats.get(node, (-2, now))
            if beat["count"] != count:
                self._beats[node] = (int(beat["count"]), now)
            elif now - since > timeouts.HEARTBEAT_LOST:
                del self._beats[node]
                self._take([({"type": "node_lost", "node": node}, None)], now)

    # Out -----------------------------------------------------------------------------------------

    def _act(self, now: float) -> None:
        """Carry out what the plane says; all of it may be repeated."""
        for effect in self._plane.take_effects():
            if effect.kind == "reply":
                self._write_documents(now)  # who is answered finds the document there
                self._store.put(keys.reply(effect.key), effect.body)
            elif effect.kind == "spec":
                self._store.put(keys.job_spec(effect.key), effect.body)
            elif effect.kind == "exit":
                record = effect.body
                self._store.claim(keys.worker_exit(record["job"], effect.key), record)
            elif effect.kind == "curve":
                job = self._plane.jobs[effect.key]
                self._curves.keep(self._script(job), job.announce, job.observed, job.guessed)
        for node, workers in self._plane.assignments().items():
            self._write(keys.node_assignment(node), {"workers": workers})
        self._write_documents(now)

    def _write_documents(self, now: float) -> None:
        for job in self._plane.jobs.values():
            progress = self._progress.get(job.job, {})
            document = self._plane.document(job, progress, now)
            self._write(keys.job_status(job.job), document, ignoring="updated")

    def _write(self, key: str, message: Message, ignoring: str = "") -> None:
        """Write a value if it is not what was written last."""
        compared = {name: value for name, value in message.items() if name != ignoring}
        if self._written.get(key) != compared:
            self._written[key] = compared
            self._store.put(key, message)

    def _beat(self, now: float, *, stopped: bool = False) -> None:
        self._beat_due = now + timeouts.BEAT
        self._num_beats += 1
        self._store.put(
            keys.COORDINATOR,
            {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "started": self._started,
                "managed": self._managed,
                "beats": self._num_beats,
                "stopped": stopped,
            },
        )

    def _check_idle(self, now: float) -> None:
        if not self._plane.is_idle():
            self._idle_since = now
            return
        # Whoever started it brings a job as soon as an agent is up, which takes a while.
        bound = timeouts.IDLE if self._plane.jobs else timeouts.FIRST_JOB
        if self._managed and now - self._idle_since > bound:
            self._stop.set()

    def _say_goodbye(self) -> None:
        self._beat(self._clock(), stopped=True)


def install_signals(coordinator: Coordinator) -> None:
    """Let SIGTERM and SIGINT end the coordinator in order; jobs train on without it."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, frame: coordinator.stop())
