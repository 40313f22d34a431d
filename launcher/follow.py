"""Following one job from its submission to its end, by its status document and its logs."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Protocol

from eflib.errors import CoordinatorUnreachableError, EflibError
from eflib.launcher import wording
from eflib.launcher.logs import RankLog
from eflib.launcher.waiting import Clock, CoordinatorSight
from eflib.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from eflib.launcher.screen import Screen
    from eflib.launcher.wording import Status

POLL_SECONDS = 0.1
"""Between two looks at the status document: one small file, or one message there and back."""
FIRST_STATUS_SECONDS = 30.0
"""From the coordinator's answer to its first status document, which it writes at once."""
LEAVE_SECONDS = 20.0
"""From a job's end to that of its last worker: their grace, and some."""
LOOK_SECONDS = 2.0
"""Between two looks whether the coordinator still runs."""
RESTART_SECONDS = 15.0
"""How long a coordinator may be away before we start one; its operator may be doing so."""
GIVE_UP_SECONDS = 120.0
"""How long a coordinator may be away in spite of that."""

_TOLD_HERE = re.compile(r"\[eflib\] \S+ g\d+ rank \d+: (rescaled \d|leaves at step )")
"""Lines of a worker's log on what the status says as well; ``efctl logs`` shows them."""


class Source(Protocol):
    """Where a job's documents come from."""

    def status(self, job_id: str) -> Status | None:
        """Return the job's status document."""

    def coordinator(self) -> Status | None:
        """Return the coordinator's record, or None if none runs."""

    def nodes(self) -> list[Status]:
        """Return the records of all nodes that have an agent, or had one that died."""

    def lost_nodes(self) -> list[str]:
        """Return the nodes here whose agents have died."""


class Follower:
    """Follows a job and tells of it on a screen.

    Args:
        source: Where its documents come from.
        job_id: Which one.
        screen: Where it is told of.
        restart: Starts a coordinator and an agent where none runs; called when one has gone.
        clock: Time.
    """

    def __init__(
        self,
        source: Source,
        job_id: str,
        screen: Screen,
        *,
        restart: Callable[[], None],
        clock: Clock | None = None,
    ) -> None:
        self._source = source
        self._job_id = job_id
        self._screen = screen
        self._clock = clock or Clock()
        self._watches = (
            _CoordinatorWatch(source, screen, restart, self._clock),
            _AgentWatch(source, screen, restart, self._clock),
        )
        self._log: RankLog | None = None
        self._num_rescales = 0

    def until_decided(self) -> Status:
        """Wait until admission has said yes or no, and tell of a yes.

        Raises:
            CoordinatorUnreachableError: The coordinator has gone and cannot be brought back.
        """
        for status in self._updates():
            if wording.is_decided(status):
                self._screen.close()
                if not wording.has_ended(status) or status.get("state") == "SUCCEEDED":
                    self._screen.say(wording.decision(status, now=self._clock.now()), style="bold")
                return status
            self._screen.progress(status)
        raise AssertionError("updates never end")

    def until_ended(self) -> Status:
        """Wait until the job has ended, telling of its progress and passing on rank 0's lines.

        A job ends before its last worker has left; that is waited for, too, within a bound.

        Raises:
            CoordinatorUnreachableError: The coordinator has gone and cannot be brought back.
        """
        ended_at = math.inf
        for status in self._updates():
            now = self._clock.monotonic()
            ended = wording.has_ended(status)
            if ended:
                ended_at = min(ended_at, now)
            left = wording.has_left(status) or now - ended_at > LEAVE_SECONDS
            self._pass_on(status, is_last=left)
            self._tell_rescales(status)
            if left:
                self._screen.close()
                return status
            if not ended:
                self._screen.progress(status)
        raise AssertionError("updates never end")

    def until_ended_within(self, seconds: float) -> Status | None:
        """Wait for the end of a job that was told to end; None if it does not within the bound."""
        end = self._clock.monotonic() + seconds
        while self._clock.monotonic() < end:
            status = self._source.status(self._job_id)
            if status is not None and wording.has_left(status):
                return status
            self._clock.sleep(POLL_SECONDS)
        return None

    def _updates(self) -> Iterator[Status]:
        end = self._clock.monotonic() + FIRST_STATUS_SECONDS
        last: Status = {"job": self._job_id}
        while True:
            status = self._source.status(self._job_id)
            if status is not None:
                last = status
                yield status
            elif self._clock.monotonic() > end:
                raise CoordinatorUnreachableError(
                    f"waited {FIRST_STATUS_SECONDS:g} s for the status of job {self._job_id!r}",
                    hint="ask again with: efctl status " + self._job_id,
                )
            for watch in self._watches:
                watch.look(last)
            self._clock.sleep(POLL_SECONDS)

    def _pass_on(self, status: Status, *, is_last: bool) -> None:
        if self._log is None and status.get("log_dir"):
            self._log = RankLog(status["log_dir"])
        if self._log is not None:
            lines = self._log.new_lines(is_last=is_last)
            of_script = [line for line in lines if not _TOLD_HERE.match(line)]
            self._screen.script(of_script, f"[{wording.title(status)} 0]:")

    def _tell_rescales(self, status: Status) -> None:
        rescales = status.get("rescales") or []
        for record in rescales[self._num_rescales :]:
            self._screen.say(f"{wording.title(status)}: {wording.rescale(record)}", style="green")
        self._num_rescales = max(self._num_rescales, len(rescales))


class _Watch:
    """Looks every few seconds whether something runs, and can have it started again."""

    def __init__(
        self, source: Source, screen: Screen, restart: Callable[[], None], clock: Clock
    ) -> None:
        self._source = source
        self._screen = screen
        self._restart = restart
        self._clock = clock
        self._next_look = clock.monotonic() + LOOK_SECONDS
        self._next_restart = 0.0

    def _is_due(self, now: float) -> bool:
        if now < self._next_look:
            return False
        self._next_look = now + LOOK_SECONDS
        return True

    def _start_again(self, now: float) -> None:
        """Start it, unless that was tried a moment ago."""
        if now < self._next_restart:
            return
        self._next_restart = now + RESTART_SECONDS
        try:
            self._restart()
        except EflibError as cause:
            self._screen.say(f"it cannot be restarted: {cause.problem}", style="yellow")


class _CoordinatorWatch(_Watch):
    """Sees whether the coordinator runs, and has it started again where nobody else does."""

    def __init__(
        self, source: Source, screen: Screen, restart: Callable[[], None], clock: Clock
    ) -> None:
        super().__init__(source, screen, restart, clock)
        self._sight = CoordinatorSight(source, clock)
        self._is_away = False

    def look(self, status: Status) -> None:
        now = self._clock.monotonic()
        if not self._is_due(now):
            return
        away = self._sight.away()
        if not away:
            if self._is_away:
                self._screen.say("the coordinator is running again")
            self._is_away = False
            return
        if not self._is_away:
            self._is_away, self._next_restart = True, now + RESTART_SECONDS
            self._screen.say(
                "the coordinator is gone; the job keeps training without it. It will be restarted "
                f"in {format_duration(RESTART_SECONDS)} unless somebody restarts it before",
                style="yellow",
            )
        if away > GIVE_UP_SECONDS:
            raise wording.unreachable(status, seconds=away)
        self._start_again(now)


class _AgentWatch(_Watch):
    """Sees whether this machine's agents have died, and has one that we started started again."""

    def __init__(
        self, source: Source, screen: Screen, restart: Callable[[], None], clock: Clock
    ) -> None:
        super().__init__(source, screen, restart, clock)
        self._lost: list[str] = []

    def look(self, status: Status) -> None:
        now = self._clock.monotonic()
        if wording.has_ended(status) or not self._is_due(now):
            return
        lost = self._source.lost_nodes()
        is_managed = (self._source.coordinator() or {}).get("managed", False)
        for node in lost:
            if node not in self._lost:
                own, other = "another one is being started", "start one with: efctl agent"
                follows = own if is_managed else other
                self._screen.say(
                    f"the agent of node {node} has died, and its workers with it; {follows}",
                    style="yellow",
                )
        for node in self._lost:
            if node not in lost:
                self._screen.say(f"an agent of node {node} is running again")
        self._lost = lost
        # One that ends with the coordinator before this one may still have been there at the start.
        if is_managed and (lost or not self._source.nodes()):
            self._start_again(now)
