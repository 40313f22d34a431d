"""The coordinator's memory: what it was told and when, one JSON object a line, synced to disk.

The state of the coordinator is what its journal folds to: handing the same inputs to a fresh
control plane gives the same state.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from eflib.errors import StoreError
from eflib.messages.codec import InvalidMessageError, UnreadableError, decode, encode
from eflib.messages.journal import Entry, EntryHead
from eflib.store.aside import Aside

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = 1
REPEATED = frozenset({"time", "progress", "worker_started", "switched", "measured"})
"""Inputs that can be missed: what they say is said again, or costs no more than some time."""
WAY_OUT = "move the file away to begin with an empty one; running jobs then end by themselves"


class JournalError(StoreError):
    """The journal cannot be read or written."""


class Journal:
    """An append-only file; a line that a crash tore off is dropped when it is read again.

    Args:
        file: Where it lies; made if it is not there.
        aside: Where lines go that cannot be read and can be missed.
    """

    def __init__(self, file: Path, aside: Aside | None = None) -> None:
        self._file = file
        self._aside = aside or Aside()
        self._handle: BinaryIO | None = None

    def read(self) -> Iterator[Entry]:
        """Yield the entries in order.

        Raises:
            JournalError: The file cannot be read, or a line before the last is no entry.
        """
        if not self._file.exists():
            return
        with self._explained("read"):
            data = self._file.read_bytes()
        # What has no line end was torn off by a crash: it was never acted on, and open() cuts it.
        for number, line in enumerate(data.split(b"\n")[:-1], start=1):
            entry = self._entry(line, number) if line else None
            if entry is not None:
                yield entry

    def _entry(self, line: bytes, number: int) -> Entry | None:
        """Return the entry in a line; None for one that cannot be read and can be missed.

        Raises:
            JournalError: It cannot be read, and what follows depends on it.
        """
        place = f"{self._file}:{number}"
        try:
            head = decode(line, EntryHead)
        except UnreadableError:
            raise JournalError(f"{place}: not a journal entry", hint=WAY_OUT) from None
        if head.v != SCHEMA:
            raise JournalError(
                f"{place}: schema {head.v!r}, this eflib reads {SCHEMA}", hint=WAY_OUT
            )
        try:
            return decode(line, Entry)
        except UnreadableError as error:
            if head.input.type not in REPEATED:
                raise JournalError(
                    f"{place}: a {head.input.type!r} entry cannot be read: {error}",
                    hint=f"was it written by another version of eflib? {WAY_OUT}",
                ) from None
            self._aside.put(place, line, str(error))
            return None

    def open(self) -> None:
        """Begin to write; cuts off a torn last line first."""
        with self._explained("write"):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            if self._file.exists():
                data = self._file.read_bytes()
                whole = data.rfind(b"\n") + 1
                if whole < len(data):
                    with self._file.open("r+b") as handle:
                        handle.truncate(whole)
            descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            self._handle = os.fdopen(descriptor, "ab")

    def append(self, entries: list[Entry]) -> list[Entry]:
        """Write entries and sync them; what they say may be acted on afterwards.

        Returns:
            The entries that were written: one that could not be read again is put aside.

        Raises:
            JournalError: The disk does not take them.
        """
        if self._handle is None:
            raise JournalError(f"the journal {self._file} is not open")
        written, lines = [], []
        for entry in entries:
            try:
                lines.append(encode(entry) + b"\n")
            except InvalidMessageError as error:
                self._aside.put(str(self._file), repr(entry).encode("utf-8", "replace"), str(error))
            else:
                written.append(entry)
        if lines:
            with self._explained("write"):
                self._handle.write(b"".join(lines))
                self._handle.flush()
                os.fsync(self._handle.fileno())
        return written

    def begin_anew(self, first: Entry, *, keep_old: bool = True) -> None:
        """Replace the file by one with a single entry; the old one is kept beside it if asked."""
        self.close()
        new = self._file.with_suffix(".new.jsonl")
        with self._explained("write"):
            new.unlink(missing_ok=True)
            beginning = Journal(new)
            beginning.open()
            beginning.append([first])
            beginning.close()
            if keep_old and self._file.exists():
                shutil.copyfile(self._file, self._file.with_suffix(".old.jsonl"))
            # In one act: without a journal, the ids of jobs would be used again.
            new.replace(self._file)
        self.open()

    def close(self) -> None:
        """Close the file."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            with self._explained("write"):
                handle.close()

    @contextmanager
    def _explained(self, act: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise JournalError(
                f"cannot {act} the journal {self._file}: {error.strerror or error}",
                hint="jobs keep training; restart the coordinator once the disk can be used",
            ) from error
