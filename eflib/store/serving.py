"""The serving side of a TCP store: torch's, bound to the address that it is given."""

from __future__ import annotations

import errno
import socket
from datetime import timedelta

from torch.distributed import TCPStore as TorchStore  # type: ignore[attr-defined]

from eflib.errors import StoreError
from eflib.store.base import LOOPBACK
from eflib.store.tcp import CALL_SECONDS, address, first_line


class Server:
    """The process's side that holds the values; they live as long as it does.

    Args:
        port: Where to listen; 0 takes a free port.
        host: The address of this machine to listen at; others do not reach the server.

    Raises:
        StoreError: The port is taken, or the address is none of this machine's.
    """

    def __init__(self, port: int = 0, host: str = LOOPBACK) -> None:
        self._held: TorchStore | None = listen(host, port)
        self.port: int = self._held.port

    def close(self) -> None:
        """Stop serving; what was stored is gone."""
        self._held = None


def serve(port: int = 0, host: str = LOOPBACK) -> Server:
    """Serve a store from this process until the returned server is closed.

    Args:
        port: Where to listen; 0 takes a free port, which is then in ``Server.port``.
        host: The address of this machine to listen at: by default that which only this machine
            itself reaches; ``0.0.0.0`` for all its addresses.

    Raises:
        StoreError: The port is taken, or the address is none of this machine's.
    """
    return Server(port, host)


def listen(host: str, port: int = 0) -> TorchStore:
    """Return the serving side of torch's store, bound to one address; torch itself binds to all.

    Args:
        host: Name or address of this machine; ``0.0.0.0`` or ``::`` for all its addresses.
        port: The port; 0 takes a free one.

    Raises:
        StoreError: The port is taken, or the address is none of this machine's.
    """
    try:
        listener = _bound(host, port)
    except (OSError, OverflowError) as cause:
        is_taken = isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE
        raise StoreError(
            f"cannot listen at {address(host, port)} ({_reason(cause)})",
            hint="choose another port, or 0 for a free one"
            if is_taken
            else "give an address of this machine, or 0.0.0.0 for all of them",
        ) from cause
    try:
        return TorchStore(
            host_name=host,
            port=listener.getsockname()[1],
            is_master=True,
            timeout=timedelta(seconds=CALL_SECONDS),
            wait_for_workers=False,
            master_listen_fd=listener.detach(),
        )
    except RuntimeError as cause:
        problem = f"cannot serve at {address(host, port)} ({first_line(cause)})"
        raise StoreError(problem, hint="give 127.0.0.1 or 0.0.0.0") from cause


def _bound(host: str, port: int) -> socket.socket:
    if not 0 <= port < 2**16:
        raise OverflowError("a port is a number from 0 to 65535")
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _reason(cause: BaseException) -> str:
    if isinstance(cause, socket.gaierror):
        return "unknown host name"
    if isinstance(cause, OSError):
        return (cause.strerror or str(cause)).lower()
    return str(cause)
