"""Where a cluster's own files lie on this machine: the home folder and the paths below it."""

from __future__ import annotations

import os
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


def make_home(home: Path) -> Path:
    """Create the home folder, for its owner alone, and check that it can be used.

    Raises:
        StoreError: The folder cannot be made, read or written.
    """
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
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


def store_folder(home: Path) -> Path:
    """Return where the folder store lies."""
    return home / "store"


def default_store_url(home: Path) -> str:
    """Return ``$EFLIB_STORE`` or the folder store below the home."""
    return os.environ.get("EFLIB_STORE") or f"file://{store_folder(home)}"


def key_file(home: Path) -> Path:
    """Return where the cluster's key lies."""
    return home / "cluster.key"


def journal_file(home: Path) -> Path:
    """Return where the coordinator's journal lies."""
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


def job_folder(home: Path, job: str) -> Path:
    """Return the folder of one job: logs and checkpoints."""
    return jobs_folder(home) / job


def aside_folder(home: Path) -> Path:
    """Return where values are kept that could not be read, for a person to look at."""
    return home / "aside"


def profile_folder(home: Path) -> Path:
    """Return where measured scaling curves are kept."""
    return home / "profiles"
