"""The coordinator's memory: what it was told and when, synced to disk, cut by snapshots.

The state of the coordinator is what its journal folds to: handing the same inputs to a fresh
control plane gives the same state. So does handing those after a snapshot to a plane in its state.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from eflib.coordinator.segments import DamagedError, SegmentedLog
from eflib.coordinator.snapshot import Snapshot
from eflib.errors import StoreError
from eflib.messages.codec import InvalidMessageError, UnreadableError, decode, encode
from eflib.messages.journal import Entry, EntryHead
from eflib.store.aside import Aside

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from eflib.coordinator.segments import Batches

SCHEMA = 1
REPEATED = frozenset({"time", "progress", "worker_started", "switched", "measured"})
"""Inputs that can be missed: what they say is said again, or costs no more than some time."""
MAX_ENTRIES = 2000
MAX_BYTES = 8 * 1024 * 1024
"""With more entries or bytes since the last snapshot another one is due. Folding so many takes
about a second, which is what a start may take longer than reading a snapshot."""
WAY_OUT = (
    "move that file or folder away to begin with an empty one; running jobs then end by themselves"
)

_log = logging.getLogger(__name__)


class JournalError(StoreError):
    """The journal cannot be read or written."""


class Recovered(NamedTuple):
    """What a journal holds.

    Attributes:
        snapshot: What all entries before it come to; None if there is none.
        batches: The entries after it, those together that were taken in together.
    """

    snapshot: Snapshot | None
    batches: Iterator[list[Entry]]


class Journal:
    """Entries and snapshots in a folder; what a crash tore off is dropped when it is read again.

    Args:
        folder: Where they lie; made if it is not there.
        aside: Where entries go that cannot be read and can be missed.
        old: The file in which a version without snapshots kept its journal: it is taken over.
    """

    def __init__(
        self, folder: Path, aside: Aside | None = None, *, old: Path | None = None
    ) -> None:
        self._log = SegmentedLog(folder)
        self._folder = folder
        self._old = old
        self._aside = aside or Aside()
        self._next_cut = MAX_ENTRIES

    @property
    def is_long(self) -> bool:
        """True when a snapshot is due."""
        if self._old is not None and self._old.exists():
            return True
        return self._log.num_lines >= self._next_cut or self._log.num_bytes >= MAX_BYTES

    def recover(self) -> Recovered:
        """Return what the journal holds.

        Raises:
            JournalError: It cannot be read, now or while the entries are.
        """
        with self._explained("read"):
            found = self._log.recover()
        for problem in found.passed_over:
            _log.warning("%s; the snapshot before it is used", problem)
        if found.snapshot is not None:
            return Recovered(self._snapshot(found.snapshot), self._entries(found.batches))
        return Recovered(None, self._entries(chain(self._of_old(), found.batches)))

    def _of_old(self) -> Batches:
        """Yield the lines of a journal that is one file, each for itself.

        What has no line end was torn off by a crash: it was never acted on.
        """
        if self._old is not None and self._old.exists():
            lines = self._old.read_bytes().split(b"\n")[:-1]
            for number, line in enumerate(lines, start=1):
                if line:
                    yield [(f"{self._old}:{number}", line)]

    def _snapshot(self, payload: bytes) -> Snapshot:
        try:
            snapshot = decode(payload, Snapshot)
        except UnreadableError as error:
            raise JournalError(
                f"the snapshot in {self._folder} cannot be read: {error}",
                hint=f"was it written by another version of eflib? {WAY_OUT}",
            ) from None
        _check(snapshot.v, str(self._folder))
        return snapshot

    def _entries(self, batches: Batches) -> Iterator[list[Entry]]:
        with self._explained("read"):
            for batch in batches:
                entries = [entry_of(place, payload, self._aside) for place, payload in batch]
                yield [entry for entry in entries if entry is not None]

    def open(self) -> None:
        """Begin to write; cuts off what a crash tore first."""
        with self._explained("write"):
            self._log.open()

    def append(self, entries: Sequence[Entry]) -> list[Entry]:
        """Write entries and sync them; what they say may be acted on afterwards.

        Returns:
            The entries that were written: one that could not be read again is put aside.

        Raises:
            JournalError: The disk does not take them.
        """
        if not self._log.is_open:
            raise JournalError(f"the journal {self._folder} is not open")
        written, payloads = [], []
        for entry in entries:
            try:
                payloads.append(encode(entry))
            except InvalidMessageError as error:
                value = repr(entry).encode("utf-8", "replace")
                self._aside.put(str(self._folder), value, str(error))
            else:
                written.append(entry)
        with self._explained("write"):
            self._log.append(payloads)
        return written

    def cut(self, snapshot: Snapshot) -> bool:
        """Keep what all entries so far come to in their place; False if it cannot be written down.

        Raises:
            JournalError: The disk does not take it.
        """
        try:
            payload = encode(snapshot)
        except InvalidMessageError as error:
            # A bug in eflib, and no reason to end: the journal grows, and it is tried again.
            _log.warning("the journal is not cut: %s", error.problem)
            self._next_cut = self._log.num_lines + MAX_ENTRIES
            return False
        with self._explained("write"):
            self._log.cut(payload)
            if self._old is not None and self._old.exists():
                self._old.replace(self._old.with_suffix(".old.jsonl"))
        self._next_cut = MAX_ENTRIES
        return True

    def close(self) -> None:
        """Close the files."""
        with self._explained("write"):
            self._log.close()

    @contextmanager
    def _explained(self, act: str) -> Iterator[None]:
        try:
            yield
        except DamagedError as error:
            raise JournalError(error.problem, hint=WAY_OUT) from None
        except OSError as error:
            raise JournalError(
                f"cannot {act} the journal {self._folder}: {error.strerror or error}",
                hint="jobs keep training; restart the coordinator once the disk can be used",
            ) from error


def entry_of(place: str, line: bytes, aside: Aside) -> Entry | None:
    """Return the entry in a line; None for one that cannot be read and can be missed.

    Args:
        place: Where the line stands: a file and a number.
        line: Its bytes.
        aside: Where it goes if it cannot be read and can be missed.

    Raises:
        JournalError: It cannot be read, and what follows depends on it.
    """
    try:
        head = decode(line, EntryHead)
    except UnreadableError:
        raise JournalError(f"{place}: not a journal entry", hint=WAY_OUT) from None
    _check(head.v, place)
    try:
        return decode(line, Entry)
    except UnreadableError as error:
        if head.input.type not in REPEATED:
            raise JournalError(
                f"{place}: a {head.input.type!r} entry cannot be read: {error}",
                hint=f"was it written by another version of eflib? {WAY_OUT}",
            ) from None
        aside.put(place, line, str(error))
        return None


def _check(schema: int, place: str) -> None:
    if schema != SCHEMA:
        problem = f"{place}: schema {schema!r}, this eflib reads {SCHEMA}"
        raise JournalError(problem, hint=WAY_OUT)
