"""Ends the waits of a process group early: while it connects, and for a member that is lost.

A member that dies while gloo connects leaves the others waiting for five times the group's timeout.
Nothing in torch ends that wait from outside, but the end of a connection does. Who waits to be
called by the one that died has no connection yet: it is called by us, and then left.

So it is with a collective operation whose peer cannot close its connection any more, as its machine
is gone.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from eflib.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from collections.abc import Set as AbstractSet

_DESCRIPTORS = Path("/proc/self/fd")
_CHOSEN_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_POLL = 0.02  # seconds between two looks


@contextmanager
def interrupted_when(
    is_lost: Callable[[], bool], *, store_port: int = 0, world_size: int = 0
) -> Iterator[None]:
    """End what the group waits for inside as soon as ``is_lost`` says so.

    These are the connections to the store that it meets at, and those opened inside that can be
    gloo's: they lead from or to a port that the system chose. What other threads open meanwhile
    leads to a service's own port, and stays. A second attempt opens all of them anew.

    Where the system does not list a process's descriptors nothing is done, and torch's bound holds.

    Args:
        is_lost: Called again and again on a thread of its own.
        store_port: Where the store listens; 0 leaves connections from before alone.
        world_size: How many members the group has, this one among them.
    """
    before = set(sockets())
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_POLL):
            with suppress(StoreError):  # whoever asks next hears of it
                if is_lost():
                    break
        else:
            return
        for identity, descriptor in sockets().items():
            _shut_down(identity, descriptor, lambda one: one.getpeername()[1] == store_port)
        called: set[int] = set()
        while not ended.wait(_POLL):  # more may be opened: one connection comes after another
            for identity, descriptor in sockets().items():
                if identity in before:
                    continue
                _shut_down(identity, descriptor, _may_be_gloos)
                if identity not in called and _call(descriptor, world_size):
                    called.add(identity)

    thread = threading.Thread(target=watch, name="eflib-interrupt", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def end_links(links: AbstractSet[int]) -> None:
    """End what a group waits for, by closing its connections to peers.

    Args:
        links: Which sockets were opened while it connected, as keys of ``sockets``. Those that
            cannot be gloo's stay.
    """
    for identity, descriptor in sockets().items():
        if identity in links:
            _shut_down(identity, descriptor, _may_be_gloos)


def sockets() -> dict[int, int]:
    """Return the descriptors of all sockets; keys are never used twice, descriptors are."""
    found = {}
    with suppress(OSError):
        for entry in _DESCRIPTORS.iterdir():
            with suppress(OSError):
                status = os.fstat(int(entry.name))
                if stat.S_ISSOCK(status.st_mode):
                    found[status.st_ino] = int(entry.name)
    return found


def _may_be_gloos(connection: socket.socket) -> bool:
    """Tell whether both ends have a port that the system chose: gloo listens at no other."""
    first, last = (int(word) for word in _CHOSEN_PORTS.read_text().split())
    return all(
        first <= end[1] <= last for end in (connection.getsockname(), connection.getpeername())
    )


def _call(descriptor: int, world_size: int) -> bool:
    """Call where we listen as every other member would, and hang up; False if we do not listen.

    A caller of gloo begins with the number of the connection: eight bytes, counted from zero.
    """
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as listener:
        internet = listener.family in (socket.AF_INET, socket.AF_INET6)
        if internet and listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            for number in range(world_size):
                with socket.create_connection(listener.getsockname()[:2], timeout=1.0) as caller:
                    caller.sendall(struct.pack("=q", number))
            return True
    return False


def _shut_down(identity: int, descriptor: int, is_meant: Callable[[socket.socket], bool]) -> None:
    """End a connection; a socket that listens stays, because gloo does not survive its end."""
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as connection:
        internet = connection.family in (socket.AF_INET, socket.AF_INET6)
        is_same = os.fstat(connection.fileno()).st_ino == identity  # closed meanwhile, used anew
        if internet and is_same and is_meant(connection):  # a listener has no peer: an OSError
            connection.shutdown(socket.SHUT_RDWR)
