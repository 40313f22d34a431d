"""A temporary folder whose sockets can be reached: a socket's path has to be short."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

from eflib.errors import UsageError

LONGEST = 60
"""Bytes of a folder's path. A socket's may have 107 on Linux, 103 on macOS; multiprocessing puts 32
behind the folder's, and torch, for tensors that processes share, some more."""
OTHERS = ("/tmp", "/var/tmp")

_log = logging.getLogger(__name__)


def shorten() -> None:
    """Take another temporary folder for this process and its children if its own is too long.

    Raises:
        UsageError: There is no other.
    """
    own = tempfile.gettempdir()
    if len(os.fsencode(own)) <= LONGEST:
        return
    for other in OTHERS:
        if Path(other).is_dir() and os.access(other, os.W_OK | os.X_OK):
            _log.warning("sockets cannot have paths as long as below %s: uses %s", own, other)
            os.environ["TMPDIR"] = tempfile.tempdir = other
            return
    raise UsageError(
        f"the temporary folder {own} has too long a path for sockets",
        hint=f"set TMPDIR to a folder whose path has at most {LONGEST} bytes",
    )
