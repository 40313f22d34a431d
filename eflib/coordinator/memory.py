"""The control plane with its journal: what it takes in is written down first, and folded again."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from eflib import home as places
from eflib.coordinator.effects import Answer, Effect
from eflib.coordinator.journal import SCHEMA, Journal
from eflib.coordinator.plane import ControlPlane
from eflib.coordinator.snapshot import Snapshot
from eflib.errors import EflibError
from eflib.messages.codec import encode
from eflib.messages.journal import Entry, ProgressMade, TimePassed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from eflib.scheduling import SchedulerSettings
    from eflib.store.aside import Aside

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


class Recollection(NamedTuple):
    """What a journal says beside the state that it folds to.

    Attributes:
        effects: What may not have been carried out.
        read: How many messages of the inbox were taken in.
        last: When the last thing was written down, in seconds since the epoch; 0 if nothing was.
    """

    effects: list[Effect]
    read: int
    last: float


class Memory:
    """Holds a control plane that comes back from its journal.

    Args:
        home: The folder of eflib's state.
        settings: The policy's costs and margins.
        aside: Where inputs go that cannot be taken in.

    Attributes:
        plane: The control plane.
    """

    def __init__(self, home: Path, settings: SchedulerSettings, aside: Aside) -> None:
        self.plane = ControlPlane(settings)
        self._settings = settings
        self._aside = aside
        old = places.old_journal_file(home)
        self._journal = Journal(places.journal_folder(home), aside, old=old)

    @property
    def is_long(self) -> bool:
        """True when the journal is to be cut."""
        return self._journal.is_long

    def recover(self, recent: float) -> Recollection:
        """Fold the journal.

        Args:
            recent: Answers to requests that came before are left out: nobody waits for them.

        Raises:
            JournalError: It cannot be read.
        """
        snapshot, batches = self._journal.recover()
        read, last = 0, 0.0
        if snapshot is not None:
            self.plane = ControlPlane.restore(snapshot, self._settings)
            read, last = snapshot.read, snapshot.time
        effects: list[Effect] = []
        for batch in batches:
            self._fold(batch)
            for entry in batch:
                read = max(read, entry.read or 0, 0 if entry.inbox is None else entry.inbox + 1)
                last = max(last, entry.time)
            taken = self.plane.take_effects()
            effects += [one for one in taken if last > recent or not isinstance(one, Answer)]
        return Recollection(effects, read, last)

    def open(self) -> None:
        """Begin to write."""
        self._journal.open()

    def close(self) -> None:
        """End writing."""
        self._journal.close()

    def take(self, entries: Sequence[Entry]) -> None:
        """Write inputs down that came together, then hand them to the plane.

        Raises:
            JournalError: The disk does not take them.
        """
        self._fold(self._journal.append(entries))

    def pass_time(self, now: float) -> bool:
        """Let the plane do what has come due; True if there was anything.

        Raises:
            JournalError: The disk does not take it.
        """
        try:
            changed = self.plane.pass_time(now)
        except _FAULTS as error:
            reason = f"the control plane failed as time passed: {type(error).__name__}: {error}"
            self._aside.put("the journal", encode(TimePassed()), reason)
            return False
        if changed:
            self._journal.append([Entry(v=SCHEMA, time=now, input=TimePassed())])
        return changed

    def begin_anew(self, now: float, read: int) -> None:
        """Forget all jobs, which have ended, but how many there were; their ids are not reused.

        Args:
            now: The present, in seconds since the epoch.
            read: How many messages of the inbox were taken in.
        """
        begin, ended = self.plane.requests.begin, self.plane.ended.state()
        snapshot = Snapshot(v=SCHEMA, time=now, read=read, begin=begin, ended=ended)
        self.plane = ControlPlane.restore(snapshot, self._settings)
        self._journal.cut(snapshot)

    def cut(self, now: float, read: int) -> None:
        """Keep what the journal comes to in place of it; all that follows from it must be done.

        Args:
            now: The present, in seconds since the epoch.
            read: How many messages of the inbox were taken in.
        """
        snapshot = Snapshot(
            v=SCHEMA,
            time=now,
            read=read,
            begin=self.plane.requests.begin,
            ended=self.plane.ended.state(),
            plane=self.plane.state(),
        )
        self._journal.cut(snapshot)

    def _fold(self, entries: Sequence[Entry]) -> None:
        """Hand inputs that were taken in together to the plane; one it fails over is put aside.

        The journal has it, and the plane fails over it in the same way when it is folded again.
        """
        for is_progress, run in groupby(entries, lambda one: isinstance(one.input, ProgressMade)):
            together = list(run)
            for part in [together] if is_progress else [[entry] for entry in together]:
                try:
                    self.plane.handle_all([entry.input for entry in part], part[0].time)
                except _FAULTS as error:
                    reason = f"the control plane failed over it: {type(error).__name__}: {error}"
                    for entry in part:
                        self._aside.put("the journal", encode(entry.input), reason)
