"""Lines on disk that outlive a crash, cut by snapshots so that they do not grow for ever.

In the folder lie segments, ``00000001.log``, ``00000002.log``, ..., and snapshots: the one numbered
n holds what all segments before n come to. A snapshot is written whole or not at all; then a new
segment begins, and what the last but one snapshot made needless is deleted. One older snapshot with
its segments always stays, in case the newest cannot be read.

A line is ``<checksum> <batch>.<number>/<of> <payload>``. Lines that were appended together are a
batch, which counts as a whole. A batch that a crash tore is dropped, since nobody has acted on it.
Anything else that does not add up is damage, and is said.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, NamedTuple

from eflib.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Batches = Iterator[list[tuple[str, bytes]]]
"""Per batch its lines, each with the place where it stands."""

_LINE = re.compile(rb"([0-9a-f]{8}) (\d+)\.(\d+)/(\d+) (.*)", re.DOTALL)
_NAME = re.compile(r"(\d{8})\.(log|snapshot)")


class DamagedError(StoreError):
    """A file of the log says something else than what was written."""


class Recovered(NamedTuple):
    """What a log holds.

    Attributes:
        snapshot: The newest snapshot that can be read; None if there is none.
        batches: What was appended after it, in order: per batch its lines, each with its place.
        passed_over: What is wrong with each newer snapshot that cannot be read.
    """

    snapshot: bytes | None
    batches: Batches
    passed_over: list[str]


class _Line(NamedTuple):
    batch: int
    number: int
    of: int
    payload: bytes


def _sealed(batch: int, number: int, of: int, payload: bytes) -> bytes:
    """Return a line with its checksum."""
    body = b"%d.%d/%d %s" % (batch, number, of, payload)
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _opened(line: bytes) -> _Line | None:
    """Return what a line says; None if it is not as it was written."""
    match = _LINE.fullmatch(line)
    if match is None or int(match[1], 16) != zlib.crc32(line[9:]):
        return None
    return _Line(int(match[2]), int(match[3]), int(match[4]), match[5])


class SegmentedLog:
    """Appended lines and snapshots in one folder, for one writer.

    Args:
        folder: Where they lie; made when it is first written to.

    Attributes:
        num_lines: Lines in the newest segment, which grow until the next ``cut``.
        num_bytes: Bytes in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._handle: IO[bytes] | None = None
        self._number = 0
        self._batch = 0
        self._unreadable: list[int] = []
        self.num_lines = 0
        self.num_bytes = 0

    @property
    def is_open(self) -> bool:
        """True between ``open`` and ``close``."""
        return self._handle is not None

    # Reading -------------------------------------------------------------------------------------

    def recover(self) -> Recovered:
        """Return the newest snapshot that can be read, and the lines after it.

        Raises:
            DamagedError: A segment that is needed is missing or damaged, while the lines are read.
            StoreError: A file cannot be read.
        """
        snapshots, segments = self._numbers("snapshot"), self._numbers("log")
        passed_over: list[str] = []
        for number in reversed(snapshots):
            try:
                snapshot = self._read_snapshot(number)
            except DamagedError as error:
                passed_over.append(error.problem)
                self._unreadable.append(number)
            else:
                return Recovered(snapshot, self._batches(number, segments), passed_over)
        return Recovered(None, self._batches(1, segments), passed_over)

    def _numbers(self, kind: str) -> list[int]:
        """Return the numbers of the files of a kind, ascending."""
        try:
            names = [file.name for file in self._folder.iterdir()] if self._folder.exists() else []
        except OSError as error:
            raise StoreError(f"cannot read {self._folder}: {error.strerror or error}") from error
        matches = [match for name in names if (match := _NAME.fullmatch(name))]
        return sorted(int(match[1]) for match in matches if match[2] == kind)

    def _file(self, number: int, kind: str) -> Path:
        return self._folder / f"{number:08d}.{kind}"

    def _bytes(self, file: Path) -> bytes:
        try:
            return file.read_bytes()
        except OSError as error:
            raise StoreError(f"cannot read {file}: {error.strerror or error}") from error

    def _read_snapshot(self, number: int) -> bytes:
        file = self._file(number, "snapshot")
        line = _opened(self._bytes(file).removesuffix(b"\n"))
        if line is None:
            raise DamagedError(f"{file}: not as it was written")
        return line.payload

    def _batches(self, first: int, segments: Sequence[int]) -> Batches:
        """Yield what was appended from a segment on.

        A segment that a snapshot has begun may not be there yet: the crash came between the two.
        """
        wanted = [number for number in segments if number >= first]
        for place, number in enumerate(wanted):
            if number != first + place:
                raise DamagedError(f"{self._file(first + place, 'log')}: missing")
            yield from self._segment(number, is_last=number == wanted[-1])

    def _segment(self, number: int, *, is_last: bool) -> Batches:
        file = self._file(number, "log")
        lines, _, problem = _whole_batches(self._bytes(file))
        if problem and not (is_last and problem.is_torn):
            raise DamagedError(f"{file}:{problem.line}: {problem.text}")
        batch: list[tuple[str, bytes]] = []
        for place, line in enumerate(lines, start=1):
            batch.append((f"{file}:{place}", line.payload))
            if line.number == line.of:
                yield batch
                batch = []

    # Writing -------------------------------------------------------------------------------------

    def open(self) -> None:
        """Begin to write; cuts off a batch that a crash tore.

        Raises:
            DamagedError: The newest segment is damaged.
            StoreError: A file cannot be written.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in self._unreadable:  # or it would be kept as the older one that can be read
            file = self._file(number, "snapshot")
            file.replace(file.with_suffix(".damaged"))
        self._unreadable.clear()
        self._number = max([*self._numbers("log"), *self._numbers("snapshot"), 1])
        file = self._file(self._number, "log")
        data = self._bytes(file) if file.exists() else b""
        lines, size, problem = _whole_batches(data)
        if problem and not problem.is_torn:
            raise DamagedError(f"{file}:{problem.line}: {problem.text}")
        self._batch = lines[-1].batch if lines else 0
        self.num_lines, self.num_bytes = len(lines), size
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._handle = os.fdopen(descriptor, "ab")
        if size < len(data):
            self._handle.truncate(size)
        self._sync_folder()

    def append(self, payloads: Sequence[bytes]) -> None:
        """Write lines as one batch and sync them; what they say may be acted on afterwards.

        Args:
            payloads: What each line holds; no line ends in them.
        """
        if self._handle is None or not payloads:
            return
        self._batch += 1
        num = len(payloads)
        data = b"".join(
            _sealed(self._batch, number, num, payload)
            for number, payload in enumerate(payloads, start=1)
        )
        self._handle.write(data)
        self._handle.flush()
        os.fsync(self._handle.fileno())
        self.num_lines += len(payloads)
        self.num_bytes += len(data)

    def cut(self, snapshot: bytes) -> None:
        """Write what all lines so far come to, and begin a new segment.

        Args:
            snapshot: It; no line ends in it.
        """
        number = self._number + 1
        new = self._file(number, "new")
        descriptor = os.open(new, os.O_WRONLY | os.O_TRUNC | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(_sealed(0, 1, 1, snapshot))
            handle.flush()
            os.fsync(handle.fileno())
        new.replace(self._file(number, "snapshot"))
        self._sync_folder()
        self.close()
        self.open()
        self._forget(number)

    def _forget(self, newest: int) -> None:
        """Delete what is older than the snapshot before the newest one."""
        older = [number for number in self._numbers("snapshot") if number < newest]
        if not older:
            return
        for kind in ("snapshot", "log"):
            for number in self._numbers(kind):
                if number < older[-1]:
                    self._file(number, kind).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            handle.close()

    def _sync_folder(self) -> None:
        """See that the names of files are on disk, not their contents alone."""
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class _Problem(NamedTuple):
    """Where a segment does not add up.

    Attributes:
        line: Number of the line, from 1.
        text: What is wrong.
        is_torn: Whether nothing that was synced can have stood there.
    """

    line: int
    text: str
    is_torn: bool


def _whole_batches(data: bytes) -> tuple[list[_Line], int, _Problem | None]:
    """Return the lines of whole batches, how many bytes these are, and what is wrong behind them.

    A crash leaves any part of the last batch on disk, in whatever order its blocks were written. So
    a line that cannot be read is torn if no later line belongs to another batch, damaged if one
    does.

    Args:
        data: The bytes of a segment.
    """
    raw = data.split(b"\n")
    found = [_opened(line) for line in raw[:-1]]
    whole, size, ahead = 0, 0, 0  # lines and bytes of whole batches; bytes of the batch begun
    batch, number, of = 0, 0, 0
    for place, line in enumerate(found):
        batch, number = (batch + 1, 1) if number == of else (batch, number + 1)
        of = line.of if line is not None and number == 1 else of
        if line is None or (line.batch, line.number, line.of) != (batch, number, of):
            # A tear leaves lines that cannot be read, not good ones in a wrong place.
            later = line is not None or any(one and one.batch > batch for one in found[place:])
            problem = _Problem(place + 1, "not as it was written", is_torn=not later)
            return _only(found[:whole]), size, problem
        ahead += len(raw[place]) + 1
        if number == of:
            whole, size, ahead = place + 1, size + ahead, 0
    if ahead or raw[-1]:
        return _only(found[:whole]), size, _Problem(whole + 1, "torn off", is_torn=True)
    return _only(found), size, None


def _only(lines: Sequence[_Line | None]) -> list[_Line]:
    return [line for line in lines if line is not None]
