"""Waiting on a job: until it is as wished, has ended, or nobody is left who could change it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from eflib.errors import CoordinatorUnreachableError, EflibError
from eflib.launcher import wording
from eflib.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from eflib.launcher.documents import Document

POLL_SECONDS = 0.1
"""Between two looks at the status document."""
LOOK_SECONDS = 1.0
"""Between two looks whether the coordinator still runs."""
SILENT_SECONDS = 15.0
"""How long the record of a coordinator may stand still, which counts up each second."""
AWAY_SECONDS = 15.0
"""How long a coordinator may be away: its operator may be starting it again."""


class NotInTimeError(EflibError):
    """What was asked for is under way, but did not come about within the bound."""

    code = "not-in-time"
    exit_status = 1


class JobEndedError(EflibError):
    """The job ended before what was waited for came about."""

    code = "job-ended"
    exit_status = 1


@dataclass(frozen=True)
class Clock:
    """Time, as a test can replace it.

    Attributes:
        monotonic: Seconds that only grow.
        now: Seconds since the epoch.
        sleep: How to wait.
    """

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


class Source(Protocol):
    """Where documents come from; see ``eflib.launcher.documents.Cluster``."""

    def status(self, job_id: str) -> Document | None:
        """Return a job's status document."""

    def coordinator(self) -> Document | None:
        """Return the coordinator's record while one runs, as far as can be seen from here."""


class CoordinatorSight:
    """Sees whether the coordinator runs, on whatever machine it is.

    One of this machine is gone when its process is. One elsewhere, or one that is stopped, is gone
    when its record has stood still for ``SILENT_SECONDS``.

    Args:
        source: Where its record comes from.
        clock: Time.
    """

    def __init__(self, source: Source, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._beats: object = None
        self._changed = clock.monotonic()
        self._away_since: float | None = None

    def away(self) -> float:
        """Look, and return for how many seconds it has been gone; 0 while it runs."""
        now = self._clock.monotonic()
        record = self._source.coordinator()
        beats = None if record is None else (record.get("started"), record.get("beats"))
        if beats != self._beats:
            self._beats, self._changed = beats, now
        counts = record is not None and record.get("beats") is not None
        if record is not None and not (counts and now - self._changed > SILENT_SECONDS):
            self._away_since = None
            return 0.0
        if self._away_since is None:
            self._away_since = now
        return max(now - self._away_since, 1e-9)


class JobWatch:
    """Looks at a job again and again, for those who wait on it.

    Args:
        source: Where its documents come from.
        job_id: Which job.
        clock: Time.
    """

    def __init__(self, source: Source, job_id: str, clock: Clock | None = None) -> None:
        self._source = source
        self._job_id = job_id
        self._clock = clock or Clock()
        self._sight = CoordinatorSight(source, self._clock)
        self._next_look = self._clock.monotonic() + LOOK_SECONDS
        self._last: Document = {"job": job_id}

    def look(self) -> Document:
        """Return the job's status, or the last one known.

        Raises:
            CoordinatorUnreachableError: The coordinator has been gone for ``AWAY_SECONDS``: the
                status does not change any more.
        """
        self._last = self._source.status(self._job_id) or self._last
        now = self._clock.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            away = self._sight.away()
            if away >= AWAY_SECONDS:
                raise CoordinatorUnreachableError(
                    f"no coordinator has run for {format_duration(away)}: the state of job "
                    f"{wording.title(self._last)!r} is not updated any more",
                    hint="start it with: efctl coordinator",
                )
        return self._last

    def pause(self, seconds: float = POLL_SECONDS) -> None:
        """Wait for the next look, in seconds."""
        self._clock.sleep(seconds)

    def until(
        self,
        is_done: Callable[[Document], bool],
        *,
        timeout: float,
        what: str,
        hint: str,
        is_over: Callable[[Document], str] = lambda _status: "",
    ) -> Document:
        """Return the first status that is as wished.

        Args:
            is_done: Tells whether a status is as wished.
            timeout: The bound, in seconds.
            what: What is waited for, as in "waited 5 s for {what}".
            hint: What the reader can do when it does not come about.
            is_over: Says why a status means that it never will; "" while it may.

        Raises:
            NotInTimeError: The bound has passed.
            JobEndedError: It will never be.
            CoordinatorUnreachableError: Nobody is left who could bring it about.
        """
        end = self._clock.monotonic() + timeout
        while True:
            status = self.look()
            if is_done(status):
                return status
            reason = is_over(status)
            if reason:
                raise JobEndedError(reason, hint=hint)
            left = end - self._clock.monotonic()
            if left <= 0:
                raise NotInTimeError(f"waited {timeout:g} s for {what}", hint=hint)
            self.pause(min(POLL_SECONDS, left))
