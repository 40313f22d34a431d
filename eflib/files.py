"""Files that a person names: read within a bound, or refused with the reason and the way out."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from eflib.errors import UsageError, os_reason

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 2**30
"""Size of the largest file that is read whole, in bytes."""

_HINTS = {
    errno.EACCES: "see its permissions, or choose another path",
    errno.EPERM: "see its permissions, or choose another path",
    errno.EROFS: "choose a path on a disk that can be written",
    errno.EISDIR: "give the path of a file",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENXIO: "it is a named pipe that nobody reads: give the path of a file",
    errno.ENOSPC: "free some space, or choose a path on another disk",
}


def read_text(path: str | Path, what: str, *, hint: str = "", max_bytes: int = MAX_BYTES) -> str:
    """Return the text of a file, without a byte order mark.

    Args:
        path: The file.
        what: What it is, for messages, as in "the trace".
        hint: What to do where there is no such file; by default the folder it was looked for in.
        max_bytes: The largest size that is read.

    Raises:
        UsageError: It is missing, not a regular file, too large, not UTF-8, or cannot be read. A
            named pipe without a writer is refused, not waited for.
    """
    file = Path(path)
    problem = f"cannot read {what} {file}"
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise UsageError(f"{problem} (it is {kind})", hint="give the path of a file")
        if status.st_size > max_bytes:
            raise UsageError(
                f"{problem} (it has {status.st_size} bytes)", hint=f"at most {max_bytes} are read"
            )
        return file.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError) as cause:
        looked = hint or f"paths are relative to the folder {working_folder()}"
        raise UsageError(f"{problem} (no such file)", hint=looked) from cause
    except UnicodeDecodeError as cause:
        raise UsageError(
            f"{problem} (byte {cause.start} is not UTF-8)", hint="save it as text in UTF-8"
        ) from cause
    except OSError as cause:
        raise _refusal(problem, file, cause) from cause


def expanded(path: str | Path) -> Path:
    """Return an absolute path, with ``~`` and ``~user`` replaced by a home folder.

    Raises:
        UsageError: There is no such user, the user has no home folder, or the path has a NUL byte.
    """
    text = str(path)
    if "\0" in text:
        raise UsageError(f"the path {text!r} has a NUL byte", hint="leave it out")
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as cause:
        raise UsageError(
            f"the path {text!r} names a user without a home folder", hint="give the whole path"
        ) from cause


def working_folder() -> Path:
    """Return the working folder.

    Raises:
        UsageError: It was deleted, or cannot be read.
    """
    try:
        return Path.cwd()
    except OSError as cause:
        raise UsageError(
            f"cannot use the working folder ({os_reason(cause)})", hint="cd to one that exists"
        ) from cause


@contextmanager
def writing(path: str | Path, what: str) -> Iterator[None]:
    """Turn what the operating system refuses while a path is written into a usage error.

    Args:
        path: The file or folder that is written.
        what: What it is, for messages, as in "the trace".

    Raises:
        UsageError: An OSError came up; names the path and the reason. A named pipe that nobody
            reads is refused, not waited for.
    """
    try:
        _check_read(Path(path))
        yield
    except OSError as cause:
        raise _refusal(f"cannot write {what} {path}", Path(path), cause) from cause


def is_folder(path: str | Path) -> bool:
    """Tell whether there is a folder at a path; what cannot be looked at is none."""
    try:
        return stat.S_ISDIR(Path(path).stat().st_mode)
    except (OSError, ValueError):
        return False


def _check_read(path: Path) -> None:
    """Raise OSError for a named pipe without a reader: to open it for writing would block."""
    if path.is_fifo():
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))


def _refusal(problem: str, path: Path, cause: OSError) -> UsageError:
    hint = _HINTS.get(cause.errno or 0, "choose another path")
    if cause.errno == errno.ENOENT:
        hint = f"make its folder first: mkdir -p {path.parent}"
    elif cause.errno in (errno.ENOTDIR, errno.EEXIST):
        hint = f"a part of {path} is a file, not a folder"
    return UsageError(f"{problem} ({os_reason(cause)})", hint=hint)
