"""The coordinator's memory: what it was told and when, one JSON object a line, synced to disk.

The state of the coordinator is what its journal folds to: handing the same inputs to a fresh
control plane gives the same state.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eflib.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = 1


class Journal:
    """An append-only file; a line that a crash tore off is dropped when it is read again.

    Args:
        file: Where it lies; made if it is not there.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._handle: Any = None

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the entries in order.

        Raises:
            StoreError: The file cannot be read, or a line before the last is no entry.
        """
        if not self._file.exists():
            return
        try:
            data = self._file.read_bytes()
        except OSError as error:
            raise StoreError(
                f"cannot read the journal {self._file}: {error.strerror or error}"
            ) from error
        # What has no line end was torn off by a crash: it was never acted on, and open() cuts it.
        for number, line in enumerate(data.split(b"\n")[:-1], start=1):
            if line:
                yield self._entry(line, number)

    def _entry(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            entry = dict(json.loads(line))
        except (ValueError, TypeError):
            raise StoreError(
                f"{self._file}:{number}: not a journal entry",
                hint="move the file away to begin anew; jobs that run then end by themselves",
            ) from None
        if entry.get("v") != SCHEMA:
            raise StoreError(
                f"{self._file}:{number}: schema {entry.get('v')!r}, this eflib reads {SCHEMA}"
            )
        return entry

    def open(self) -> None:
        """Begin to write; cuts off a torn last line first."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        if self._file.exists():
            data = self._file.read_bytes()
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                with self._file.open("r+b") as handle:
                    handle.truncate(whole)
        self._handle = self._file.open("a", encoding="utf-8")

    def append(self, entries: list[dict[str, Any]]) -> None:
        """Write entries and sync them; what they say may be acted on afterwards."""
        for entry in entries:
            self._handle.write(json.dumps({"v": SCHEMA, **entry}, separators=(",", ":")) + "\n")
        self._handle.flush()
        os.fsync(self._handle.fileno())

    def begin_anew(self, first: dict[str, Any], *, keep_old: bool = True) -> None:
        """Replace the file by one with a single entry; the old one is kept beside it if asked."""
        self.close()
        new = self._file.with_suffix(".new.jsonl")
        new.unlink(missing_ok=True)
        beginning = Journal(new)
        beginning.open()
        beginning.append([first])
        beginning.close()
        if keep_old and self._file.exists():
            shutil.copyfile(self._file, self._file.with_suffix(".old.jsonl"))
        new.replace(
            self._file
        )  # in one act: without a journal, the ids of jobs would be used again
        self.open()

    def close(self) -> None:
        """Close the file."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None
