"""Who uses a checkpoint folder: the workers of one job at a time.

Each worker of a job holds a shared lock on ``.owner``, which names the job. While one of them
lives, a worker of another job is refused; once all have ended, however they ended, the next job may
take the folder and go on from what is there. The kernel frees the lock of a process that dies, and
a DataLoader's process does not inherit it.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from eflib.errors import StoreError, UsageError
from eflib.store.atomic import locked

FILE = ".owner"
_MOST = 4096  # bytes of a name that is read
_held: dict[str, tuple[int, int]] = {}  # descriptor, and how many trainers of this process hold it


class FolderOwner:
    """A job's hold on its checkpoint folder.

    Closing any descriptor of a file drops all locks that a process has on it, so the trainers of a
    process share one.

    Args:
        folder: The checkpoint folder; made if it is missing.
        job: Names the job; the same for all its workers.
    """

    def __init__(self, folder: Path, job: str) -> None:
        self._folder = folder
        self._job = job
        self._path = ""

    def take(self) -> None:
        """Hold the folder. Where files cannot be locked or written, nothing is held.

        Raises:
            UsageError: Another job that lives holds it.
        """
        if self._path:
            return
        with suppress(OSError, NotImplementedError, StoreError):
            self._folder.mkdir(parents=True, exist_ok=True)
            path = os.fspath(self._folder.resolve() / FILE)
            with locked(f"{path}.lock"):
                self._take(path)

    def _take(self, path: str) -> None:
        descriptor, holders = _held.get(path, (-1, 0))
        if not holders:
            descriptor = _open(path, self._job)
        _held[path] = (descriptor, holders + 1)
        self._path = path

    def release(self) -> None:
        """Let the folder go, unless another trainer of this process holds it too."""
        path, self._path = self._path, ""
        if not path:
            return
        descriptor, holders = _held.pop(path)
        if holders > 1:
            _held[path] = (descriptor, holders - 1)
        else:
            os.close(descriptor)


def _open(path: str, job: str) -> int:
    """Return a descriptor that holds the file's lock for a job.

    Raises:
        OSError: The file cannot be opened or locked.
        UsageError: Another job holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, _MOST, 0).decode(errors="replace").strip()
            if holder != job:
                raise UsageError(
                    f"checkpoint_dir {Path(path).parent} is in use by another job: "
                    f"{holder or 'one without a name'}",
                    hint="give each job a checkpoint_dir of its own, or wait until that one ends",
                ) from None
        else:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{job}\n".encode(), 0)
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
