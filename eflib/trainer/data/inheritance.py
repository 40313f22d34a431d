"""What a DataLoader's process must not inherit: the connections of a process group.

A forked process holds copies of its parent's sockets. A rank closes its group's connections, or is
killed, so that its peers notice; as long as a copy is open anywhere, they would not.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from multiprocessing import get_start_method
from pathlib import Path

_OPEN = Path("/proc/self/fd")  # Linux; elsewhere DataLoader does not fork


def open_connections() -> frozenset[int]:
    """Return the file descriptors of this process's internet sockets."""
    found = set()
    with suppress(OSError):
        for name in os.listdir(_OPEN):  # noqa: PTH208 - numbers, not paths
            with suppress(OSError):
                if _is_connection(int(name)):
                    found.add(int(name))
    return frozenset(found)


def _is_connection(number: int) -> bool:
    if not stat.S_ISSOCK(os.fstat(number).st_mode):
        return False
    view = socket.socket(fileno=number)
    try:
        return view.family in {socket.AF_INET, socket.AF_INET6}
    finally:
        view.detach()


class CloseInheritedSockets:
    """Runs first in a DataLoader's process: closes what it inherited beyond what it may keep.

    Args:
        keep: Connections from before training began; a data set may need them.
    """

    def __init__(self, keep: frozenset[int]) -> None:
        self._keep = keep
        self._is_forked = get_start_method() == "fork"

    def __call__(self, worker_id: int) -> None:
        """Close the rest."""
        del worker_id
        if self._is_forked:
            for number in open_connections() - self._keep:
                with suppress(OSError):
                    os.close(number)
