"""A store in a folder: one file per key, for one machine or a disk that several nodes share.

Values are renamed or linked into place, so a reader needs no lock and a writer that is killed
leaves at most a temporary file. Only an exchange of one value for another takes a lock.
"""

from __future__ import annotations

import os
import stat
import time
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from eflib.errors import StoreError
from eflib.files import is_folder
from eflib.store import atomic
from eflib.store.base import LONGEST_VALUE, STREAMS, Keys, Store, check_key, check_value

if TYPE_CHECKING:
    from collections.abc import Iterator

NUM_LOCKS = 64
LEFTOVER_SECONDS = 86400.0
"""Age at which a temporary file cannot be in use any more, though writing one takes milliseconds:
ages of files go by clocks that people set."""
LONGEST_NAME = 250
"""Bytes in an escaped part of a key: common file systems end a name at 255."""


class FolderStore(Store):
    """Keys as files below a folder; see ``Store`` for what it promises.

    A key's last part becomes ``@part`` and the others folders, so that ``a`` and ``a/b`` can both
    be keys; what a file name cannot hold is percent-encoded. Nothing is synced to the disk: values
    outlive every process, not a power cut.

    Args:
        root: The folder; it is made at the first write.
    """

    def __init__(self, root: str | Path) -> None:
        self._root = str(Path(root).expanduser().absolute())
        self._temporary = f"{self._root}/.temporary"
        self._locks = f"{self._root}/.locks"
        self._paths: dict[str, str] = {}
        self._handle: int | None = None  # of the folder, so that its loss is noticed

    @property
    def url(self) -> str:
        """The folder, as an absolute path."""
        return self._root

    def was_used(self) -> bool:
        """Tell whether the folder is a store already: somebody has opened it as one."""
        return is_folder(self._temporary)

    def check(self) -> None:
        """Make the folder where it is missing, and see that it can be written and read.

        Raises:
            StoreError: It cannot.
        """
        with self._explained("use"):
            self._make_root()
            if self._handle is None:
                self._handle = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            probe = atomic.write_temporary(self._temporary, b"probe")
            Path(probe).read_bytes()
            Path(probe).unlink()
            os.listdir(self._root)  # noqa: PTH208 - asks whether it may be listed
            self._sweep()

    def get(self, key: str) -> bytes | None:
        """Return the value of a key, or None; one open and one read."""
        path = self._paths.get(key) or self._path(key)
        try:
            return _read(path)
        except FileNotFoundError:
            self._see_that_it_is_there()
            return None
        except OSError as cause:
            raise self._failure("read", cause) from cause

    def set(self, key: str, value: bytes) -> None:
        """Write the value of a key by renaming a whole file into place."""
        check_value(key, value)
        path = self._path(key)
        with self._explained("write"):
            self._place(path, value)

    def compare_and_set(self, key: str, expected: bytes | None, value: bytes) -> bool:
        """Write ``value`` if the key holds ``expected`` (None: if it is absent)."""
        check_value(key, value)
        path = self._path(key)
        lock = f"{self._locks}/{zlib.crc32(key.encode()) % NUM_LOCKS}"
        with self._explained("write"):
            if expected is None:
                return self._create(path, value, lock)
            if not Path(self._locks).is_dir():
                self._make_root()
            with atomic.locked(lock):
                if self.get(key) != expected:
                    return False
                self._place(path, value)
                return True

    def delete(self, key: str) -> bool:
        """Remove a key; True if it was there."""
        path = self._path(key)
        with self._explained("write"):
            try:
                os.unlink(path)  # noqa: PTH108 - a plain string
            except (FileNotFoundError, NotADirectoryError):
                self._see_that_it_is_there()
                return False
            return True

    def list(self, prefix: str = "") -> Keys:
        """Return the keys that start with ``prefix``, sorted."""
        folder = prefix.rpartition("/")[0]
        top = "/".join([self._root, *(_escape(part) for part in folder.split("/") if part)])
        keys = []
        with self._explained("read"):
            for key in _walk(top, f"{folder}/" if folder else ""):
                hidden = key.startswith(STREAMS) and not prefix.startswith(STREAMS)
                if key.startswith(prefix) and not hidden:
                    keys.append(key)
        if not keys:
            self._see_that_it_is_there()
        return sorted(keys)

    def close(self) -> None:
        """Let go of the folder."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _path(self, key: str) -> str:
        path = self._paths.get(key)
        if path is None:
            check_key(key)
            *folders, name = [_escape(part) for part in key.split("/")]
            path = "/".join([self._root, *folders, f"@{name}"])
            if len(self._paths) > 10_000:
                self._paths.clear()
            self._paths[key] = path
        return path

    def _place(self, path: str, value: bytes) -> None:
        temporary = self._write(value)
        try:
            os.replace(temporary, path)  # noqa: PTH105 - plain strings
        except FileNotFoundError:
            self._make_folders(path)
            os.replace(temporary, path)  # noqa: PTH105

    def _create(self, path: str, value: bytes, lock: str) -> bool:
        if os.path.exists(path):  # noqa: PTH110 - most losers need no file
            return False
        temporary = self._write(value)
        try:
            return atomic.create(temporary, path, lock)
        except FileNotFoundError:
            self._make_folders(path)
            return atomic.create(temporary, path, lock)

    def _write(self, value: bytes) -> str:
        self._see_that_it_is_there()
        try:
            return atomic.write_temporary(self._temporary, value)
        except FileNotFoundError:
            self._make_root()
            return atomic.write_temporary(self._temporary, value)

    def _make_folders(self, path: str) -> None:
        """Make the folders of a key, for their owner alone: names of keys are nobody's either."""
        self._see_that_it_is_there()
        folder = self._root
        for name in path[len(folder) + 1 :].split("/")[:-1]:
            folder = f"{folder}/{name}"
            Path(folder).mkdir(mode=0o700, exist_ok=True)

    def _see_that_it_is_there(self) -> None:
        """See that the folder that was opened stands where it stood.

        Raises:
            StoreError: It was deleted, moved or unmounted, or another stands in its place.
        """
        if self._handle is None:
            return
        try:
            held, standing = os.fstat(self._handle), os.stat(self._root)  # noqa: PTH116 - polled
            if held.st_nlink and (held.st_dev, held.st_ino) == (standing.st_dev, standing.st_ino):
                return
            what = "was deleted or moved while it was in use, and another one made"
        except OSError as cause:
            what = f"has gone while it was in use ({(cause.strerror or str(cause)).lower()})"
        raise StoreError(
            f"the store's folder {self._root} {what}",
            hint="put it back, or restart the coordinator and the agents",
        )

    def _make_root(self) -> None:
        self._see_that_it_is_there()
        for folder in (self._root, self._temporary, self._locks):
            Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)

    def _sweep(self) -> None:
        oldest = time.time() - LEFTOVER_SECONDS
        with os.scandir(self._temporary) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if entry.stat().st_mtime < oldest:
                        Path(entry.path).unlink()

    @contextmanager
    def _explained(self, act: str) -> Iterator[None]:
        try:
            yield
        except OSError as cause:
            raise self._failure(act, cause) from cause

    def _failure(self, act: str, cause: OSError) -> StoreError:
        reason = cause.strerror or str(cause)
        return StoreError(
            f"cannot {act} the store in {self._root} ({reason.lower()})",
            detail=f"at {cause.filename}" if cause.filename else "",
            hint="make the folder readable and writable for this user, or choose another one "
            "with EFLIB_HOME or --store",
        )


def _escape(part: str) -> str:
    """Return a part of a key as a file name: never hidden, never ``..``, never with an ``@``."""
    name = quote(part, safe="")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name) > LONGEST_NAME:
        raise StoreError(f"a part of a key is longer than {LONGEST_NAME} bytes: {part[:40]}...")
    return name


def _read(path: str) -> bytes:
    """Return a file's bytes; none where something else than a file stands, as a pipe or a folder.

    Such a thing was not put there by a store: the value is one that nobody can use, not absent.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not block
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode) or about.st_size > 2 * LONGEST_VALUE:
            return b""
        parts = [os.read(handle, about.st_size + 1)]
        while parts[-1] and sum(map(len, parts)) < about.st_size:
            parts.append(os.read(handle, about.st_size))
        return b"".join(parts)
    finally:
        os.close(handle)


def _walk(folder: str, prefix: str) -> Iterator[str]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names only
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        part = unquote(name.removeprefix("@"))
        if not _is_ours(name.removeprefix("@"), part):
            continue
        if name.startswith("@"):
            yield prefix + part
        else:
            yield from _walk(f"{folder}/{name}", f"{prefix}{part}/")


def _is_ours(name: str, part: str) -> bool:
    """Tell whether a file's name is how this store writes a part of a key."""
    try:
        return bool(part) and _escape(part) == name
    except (StoreError, UnicodeEncodeError):
        return False
