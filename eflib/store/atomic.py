"""Files that appear whole or not at all, whatever kills their writer."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path

from filelock import FileLock, Timeout

from eflib.errors import StoreError

LOCK_SECONDS = 10.0
"""How long a lock is waited for. Its holder does a few file operations: more means it hangs."""

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_count = itertools.count()


def write_temporary(folder: str, value: bytes, *, mode: int = 0o600) -> str:
    """Write ``value`` to a new file in ``folder``, which must exist, and return its path."""
    path = f"{folder}/{os.getpid()}-{next(_count)}-{os.urandom(4).hex()}"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        view = memoryview(value)
        while view:
            view = view[os.write(handle, view) :]
    except OSError:
        Path(path).unlink(missing_ok=True)  # it would keep a full disk full
        raise
    finally:
        os.close(handle)
    return path


def replace(target: str | Path, value: bytes, *, mode: int = 0o600) -> None:
    """Write a file whole: a reader sees the old content or the new one, never a part.

    Nothing is synced to the disk. Where it fails, nothing is left behind.

    Args:
        target: The file; its folder must exist.
        value: The content.
        mode: The file's permissions.

    Raises:
        OSError: It cannot be written.
    """
    path = os.fspath(target)
    temporary = write_temporary(os.path.dirname(path) or ".", value, mode=mode)  # noqa: PTH120
    try:
        os.replace(temporary, path)  # noqa: PTH105 - plain strings, as above
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def create(temporary: str, target: str, lock: str) -> bool:
    """Give a whole temporary file its name unless that is taken; the temporary file is used up.

    A hard link does this without a lock. A file system that has none is served under ``lock``.

    Returns:
        Whether the name was free.
    """
    try:
        os.link(temporary, target)
    except FileExistsError:
        Path(temporary).unlink()
        return False
    except OSError as cause:
        if cause.errno not in _NO_LINKS:
            raise
    else:
        Path(temporary).unlink()
        return True
    with locked(lock):
        if Path(target).exists():
            Path(temporary).unlink()
            return False
        os.replace(temporary, target)  # noqa: PTH105 - called on plain strings for speed
        return True


class locked:  # noqa: N801 - reads as a word in ``with locked(path):``
    """Hold the lock at ``path``; the kernel frees it when its holder dies, however it dies."""

    def __init__(self, path: str, *, seconds: float = LOCK_SECONDS) -> None:
        self._path = path
        self._seconds = seconds
        self._lock = FileLock(path, timeout=seconds)

    def __enter__(self) -> None:
        """Take the lock.

        Raises:
            StoreError: Another process held it for the whole bound.
        """
        try:
            self._lock.acquire()
        except Timeout as cause:
            raise StoreError(
                f"waited {self._seconds:g} s for the lock {self._path}",
                hint=f"a stopped process may hold it; find it with: fuser {self._path}",
            ) from cause

    def __exit__(self, *exception: object) -> None:
        """Free the lock."""
        self._lock.release()
