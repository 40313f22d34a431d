"""What the agents of a node remember on its disk: who is the agent, and whom it ever started.

A worker is run at most once, even if the agent is killed and another takes its place; so each
start is written down before it is made.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from filelock import FileLock, Timeout

from eflib.errors import StoreError, UsageError
from eflib.store import atomic

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger(__name__)

KEPT = 10_000
"""How many old starts are kept when an agent begins: far more than one assignment ever names."""

ERROR_BYTES = 400 * 1024
"""Room for a worker's error: a message and a traceback, as long as they are sent, in JSON."""


class Ledger:
    """A node's folder, held by one agent at a time.

    Args:
        home: The folder of eflib's state; the node's own lies below it.
        node: The node's name.
    """

    def __init__(self, home: str | Path, node: str) -> None:
        self.folder = Path(home).expanduser().absolute() / "agents" / quote(node, safe="")
        self._node = node
        self._lock = FileLock(self.folder / "lock")
        self.previous_tag: str | None = None
        self._is_silent = False  # a fault that lasts is said once

    def open(self, tag: str) -> frozenset[str]:
        """Take the folder for the agent with this tag.

        Returns:
            The workers that earlier agents started.

        Raises:
            UsageError: An agent of this node runs already.
            StoreError: The folder cannot be used.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            earlier = self._read()
            self.previous_tag = earlier.get("tag")
            started = self._started()[-KEPT:]
            self._write("started", "".join(f"{name}\n" for name in started))
            for old in (*self.folder.glob("*.pulse"), *self.folder.glob("*.error.json")):
                old.unlink(missing_ok=True)
            self._write("agent.json", json.dumps({"tag": tag, "pid": os.getpid()}))
        except Timeout:
            pid = self._read().get("pid")
            raise UsageError(
                f"an agent of node {self._node!r} runs already (pid {pid})",
                hint="end it first, or give this one another name with --node",
            ) from None
        except OSError as cause:
            reason = (cause.strerror or str(cause)).lower()
            raise StoreError(
                f"cannot use the state folder {self.folder} ({reason})",
                hint="choose another one with EFLIB_HOME",
            ) from cause
        return frozenset(started)

    def note_start(self, worker: str) -> None:
        """Remember that a worker is about to be started; on a full disk that is only said.

        Such a worker would be started again by an agent that takes the place of this one.
        """
        try:
            with self._file("started").open("a", encoding="utf-8") as file:
                file.write(f"{worker}\n")
        except OSError as error:
            if not self._is_silent:
                _log.error("cannot note starts in %s (%s)", self.folder, error.strerror or error)
            self._is_silent = True
        else:
            self._is_silent = False

    def close(self) -> None:
        """Give the folder up."""
        self._lock.release()

    def error_file(self, worker: str) -> str:
        """Return where a worker writes its exception, with room kept for it.

        What ends a worker may be that the disk has become full. Without room now the file is left
        out, and a worker's end is told by its exit code.
        """
        file = self.error_file_of(worker)
        with suppress(OSError):
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(handle, 0, ERROR_BYTES)
            finally:
                os.close(handle)
        return str(file)

    def forget(self, worker: str) -> None:
        """Take the files of a worker away that was not started."""
        for file in (self.error_file_of(worker), Path(self.pulse_file(worker))):
            with suppress(OSError):
                file.unlink(missing_ok=True)

    def error_file_of(self, worker: str) -> Path:
        """Return where the error file of a worker is."""
        return self._file(f"{quote(worker, safe='')}.error.json")

    def pulse_file(self, worker: str) -> str:
        """Return where a worker gives signs of life."""
        return str(self.folder / f"{quote(worker, safe='')}.pulse")

    def _file(self, name: str) -> Path:
        return self.folder / name

    def _write(self, name: str, content: str) -> None:
        atomic.replace(self._file(name), content.encode())

    def _read(self) -> dict[str, str]:
        with suppress(OSError, ValueError, RecursionError):
            content = json.loads(self._file("agent.json").read_text("utf-8"))
            if isinstance(content, dict):
                return {str(name): str(value) for name, value in content.items()}
        return {}

    def _started(self) -> Sequence[str]:
        with suppress(FileNotFoundError):
            return self._file("started").read_text("utf-8", "replace").split()
        return ()
