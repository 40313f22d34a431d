"""Where a cluster's own files lie on this machine: the home folder and the paths below it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from eflib.errors import StoreError
from eflib.files import expanded

if TYPE_CHECKING:
    from collections.abc import Mapping


def home_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Return ``$EFLIB_HOME``, or ``eflib`` in the user's state folder (XDG base directories).

    Raises:
        UsageError: It is below the home folder of a user who has none.
    """
    environ = os.environ if environ is None else environ
    if environ.get("EFLIB_HOME"):
        return expanded(environ["EFLIB_HOME"])
    return expanded(environ.get("XDG_STATE_HOME") or "~/.local/state") / "eflib"


_MADE = ("agents", "coordinator", "jobs", "profiles")
"""Folders of every home. Jobs' environments are in them, so they are for their owner alone."""
_MADE_LATER = ("store", "aside")


def make_home(home: Path) -> Path:
    """Create the home folder, for its owner alone, and check that it can be used.

    A home that was there is left as it is, since it may be a folder with more in it; what eflib
    itself made in it is closed to others.

    Raises:
        StoreError: The folder cannot be made, read or written, or something in it not be closed.
    """
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in _MADE:
            (home / name).mkdir(mode=0o700, exist_ok=True)
        for name in (*_MADE, *_MADE_LATER):
            _close(home / name)
        probe = home / f".probe-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
        next(iter(home.iterdir()), None)
    except OSError as error:
        raise StoreError(
            f"cannot use the state folder {home}: {error.strerror or error}",
            hint="give another one: EFLIB_HOME=/some/folder, or mend its permissions",
        ) from error
    return home


def _close(folder: Path) -> None:
    """Take the rights of all but the owner from a folder, if it is there.

    Raises:
        StoreError: It belongs to somebody else.
    """
    try:
        mode = stat.S_IMODE(folder.stat().st_mode)
    except FileNotFoundError:
        return
    if not mode & 0o077:
        return
    try:
        folder.chmod(mode & 0o700)
    except PermissionError as error:
        raise StoreError(
            f"others can read {folder} (mode {mode:o}), and it is not ours to change",
            hint=f"let its owner run: chmod 700 {folder}; or give another home: EFLIB_HOME=...",
        ) from error


def store_folder(home: Path) -> Path:
    """Return where the folder store lies."""
    return home / "store"


def default_store_url(home: Path) -> str:
    """Return ``$EFLIB_STORE`` or the folder store below the home."""
    return os.environ.get("EFLIB_STORE") or f"file://{store_folder(home)}"


def key_file(home: Path) -> Path:
    """Return where the cluster's key lies."""
    return home / "cluster.key"


def journal_folder(home: Path) -> Path:
    """Return where the coordinator's journal lies."""
    return home / "coordinator" / "journal"


def old_journal_file(home: Path) -> Path:
    """Return where the journal lay before it was cut by snapshots."""
    return home / "coordinator" / "journal.jsonl"


def coordinator_lock(home: Path) -> Path:
    """Return the lock that the living coordinator holds."""
    return home / "coordinator" / "lock"


def coordinator_log(home: Path) -> Path:
    """Return where a coordinator that runs in the background writes."""
    return home / "coordinator" / "coordinator.log"


def agent_log(home: Path, node: str) -> Path:
    """Return where an agent that runs in the background writes."""
    return home / "agents" / f"{node}.log"


def jobs_folder(home: Path) -> Path:
    """Return the folder in which each job has its own."""
    return home / "jobs"


def aside_folder(home: Path) -> Path:
    """Return where values are kept that could not be read, for a person to look at."""
    return home / "aside"


def profile_folder(home: Path) -> Path:
    """Return where measured scaling curves are kept."""
    return home / "profiles"
