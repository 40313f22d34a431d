"""The cluster's key: a file that only its owner can read, with which messages are signed."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from eflib.errors import StoreError
from eflib.store import atomic

NUM_BYTES = 32
LONGEST_FILE = 4096
"""Bytes of a file that may be a key."""


def load_or_create_key(path: str | Path) -> bytes:
    """Return the cluster's key, made at the first call; of many callers at once, one makes it.

    Args:
        path: The key's file. Its folder is made where it is missing.

    Raises:
        StoreError: It cannot be written or read, or others could have read it.
    """
    file = Path(path)
    if not file.exists():
        _create(file)
    return load_key(file)


def load_key(path: str | Path) -> bytes:
    """Return the key that stands in a file.

    Raises:
        StoreError: There is none, it cannot be read, others can read it, or it is not a key.
    """
    file = Path(path)
    try:
        about = file.stat()
        if not stat.S_ISREG(about.st_mode) or about.st_size > LONGEST_FILE:
            raise _not_a_key(file)  # a pipe or a device might be read for ever
        mode = about.st_mode & 0o777
        text = file.read_text(encoding="ascii").strip()
    except FileNotFoundError as cause:
        raise StoreError(
            f"no cluster key at {file}",
            hint="copy it from the node of the coordinator, keeping its mode 600",
        ) from cause
    except OSError as cause:
        raise _failure("read", file, cause) from cause
    except UnicodeDecodeError as cause:
        raise _not_a_key(file) from cause
    if mode & 0o077:
        raise StoreError(
            f"the cluster key {file} can be read or written by others (mode {mode:o})",
            hint=f"chmod 600 {file} (and delete it first if others may have read it)",
        )
    try:
        key = bytes.fromhex(text)
    except ValueError as cause:
        raise _not_a_key(file) from cause
    if len(key) < NUM_BYTES:
        raise _not_a_key(file)
    return key


def _create(file: Path) -> None:
    folder = str(file.parent)
    try:
        Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        value = secrets.token_hex(NUM_BYTES).encode() + b"\n"
        temporary = atomic.write_temporary(folder, value, mode=0o600)
        atomic.create(temporary, os.fspath(file), f"{file}.lock")
    except OSError as cause:
        raise _failure("create", file, cause) from cause


def _not_a_key(file: Path) -> StoreError:
    return StoreError(
        f"{file} is not a cluster key",
        detail=f"a key is {NUM_BYTES} bytes as {2 * NUM_BYTES} hexadecimal digits",
        hint="copy it again from the node of the coordinator",
    )


def _failure(act: str, file: Path, cause: OSError) -> StoreError:
    reason = (cause.strerror or str(cause)).lower()
    return StoreError(
        f"cannot {act} the cluster key {file} ({reason})",
        hint="make its folder readable and writable for this user, or choose another one "
        "with EFLIB_HOME",
    )
