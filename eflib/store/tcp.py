"""A store on torch's TCPStore, for nodes that share no disk; the only store file that needs torch.

torch gives get, set, compare-and-set and delete of one key. What it lacks is made here: a get that
does not wait (torch's blocks, and with it the whole connection), exact compare-and-set (torch's
cannot tell *I wrote it* from *it was so already*), a list of keys (new in torch, and older ones are
supported), and a bound on every call.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from torch.distributed import TCPStore as TorchStore  # type: ignore[attr-defined]

from eflib.errors import StoreError
from eflib.store.base import STREAMS, Keys, Store, check_key, check_value
from eflib.store.bounded import BoundedCalls

if TYPE_CHECKING:
    from collections.abc import Callable

LOOPBACK = "127.0.0.1"
CONNECT_SECONDS = 5.0
"""How long a server may take to appear: it may be starting beside us."""
CALL_SECONDS = 10.0
"""How long a server may take to answer one call; an idle one answers in under a millisecond."""

_log = logging.getLogger(__name__)

_NONCE_BYTES = 8
_ABSENT = "-"  # shorter than any stored value, which starts with a nonce
_FOLDERS = "folders/"  # below it, the names in each folder: the index that ``list`` reads
_VALUES = "values/"


class TcpStore(Store):
    """Keys on a server that ``serve`` made; see ``Store`` for what it promises.

    It connects at its first call, and again after the connection broke. A value is stored behind a
    random nonce, so that no two writes are ever equal and the server's compare-and-set is exact.

    Args:
        host: Name or address of the server.
        port: Its port.
        connect_seconds: How long to try to connect.
        call_seconds: How long to wait for an answer.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        connect_seconds: float = CONNECT_SECONDS,
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        self._host = host
        self._port = port
        self._connect_seconds = connect_seconds
        self._call_seconds = call_seconds
        self._calls: BoundedCalls | None = None
        self._client: TorchStore | None = None

    @property
    def url(self) -> str:
        """The server's address, as ``tcp://host:port``."""
        return f"tcp://{_address(self._host, self._port)}"

    def check(self) -> None:
        """Connect, so that a wrong address is told at once.

        Raises:
            StoreError: Nothing there answers as a store.
        """
        self._raw("nothing")

    def get(self, key: str) -> bytes | None:
        """Return the value of a key, or None; one message there and back."""
        raw = self._raw(_VALUES + key)
        return None if raw is None else raw[_NONCE_BYTES:]

    def set(self, key: str, value: bytes) -> None:
        """Write the value of a key, and its name where it is new."""
        check_key(key)
        check_value(key, value)
        raw = self._raw(_VALUES + key)
        while True:
            won, raw = self._exchange(key, raw, value)
            if won:
                return

    def compare_and_set(self, key: str, expected: bytes | None, value: bytes) -> bool:
        """Write ``value`` if the key holds ``expected`` (None: if it is absent)."""
        check_key(key)
        check_value(key, value)
        raw = self._raw(_VALUES + key)
        while expected == (None if raw is None else raw[_NONCE_BYTES:]):
            won, raw = self._exchange(key, raw, value)
            if won:
                return True
        return False

    def delete(self, key: str) -> bool:
        """Remove a key and its name; True if it was there."""
        removed = bool(self._call(lambda client: client.delete_key(_VALUES + key)))
        if removed and not key.startswith(STREAMS):
            self._unlist(key)
            if self._raw(_VALUES + key) is not None:
                self._list_in_folders(key)  # written again meanwhile
        return removed

    def list(self, prefix: str = "") -> Keys:
        """Return the keys that start with ``prefix``, sorted; streams are not listed."""
        found: Keys = []
        self._walk(prefix.rpartition("/")[0], prefix, found)
        return sorted(key for key in found if self._raw(_VALUES + key) is not None)

    def close(self) -> None:
        """Close the connection; a later call opens another."""
        self._client = None
        if self._calls is not None:
            self._calls.end()
            self._calls = None

    def _exchange(self, key: str, raw: bytes | None, value: bytes) -> tuple[bool, bytes | None]:
        """Write ``value`` in the place of ``raw``; return whether we did, and what stands there."""
        new = os.urandom(_NONCE_BYTES) + value
        listed = raw is None and not key.startswith(STREAMS)
        if listed:
            self._list_in_folders(key)  # before: a key must not exist unlisted if we die here
        held = self._compare_set(_VALUES + key, b"" if raw is None else raw, new)
        won = held == new
        stands: bytes | None = held
        if listed and won:
            self._list_in_folders(key)  # after: a delete may have taken the name away meanwhile
        if not won and raw is not None and held == raw:
            stands = self._raw(_VALUES + key)  # the server answers so when the key is absent
        return won, stands

    def _raw(self, name: str) -> bytes | None:
        # Where the key is absent, the server changes nothing and answers with what was expected.
        held: bytes = self._call(lambda client: client.compare_set(name, _ABSENT, _ABSENT))
        return None if held == _ABSENT.encode() else held

    def _compare_set(self, name: str, expected: bytes, desired: bytes) -> bytes:
        def call(client: Any) -> bytes:  # noqa: ANN401 - torch's stub says str; bytes are taken too
            held: bytes = client.compare_set(name, expected, desired)
            return held

        answer: bytes = self._call(call)
        return answer

    def _list_in_folders(self, key: str) -> None:
        *folders, name = key.split("/")
        if name in self._names("/".join(folders)):
            return
        for depth, folder in enumerate(folders):  # from the top: who is listed, can be reached
            self._change_folder("/".join(folders[:depth]), f"{folder}/", present=True)
        self._change_folder("/".join(folders), name, present=True)

    def _unlist(self, key: str) -> None:
        folder, _, name = key.rpartition("/")
        self._change_folder(folder, name, present=False)

    def _change_folder(self, folder: str, name: str, *, present: bool) -> None:
        index = f"{_FOLDERS}{folder}"
        raw = self._raw(index)
        while True:
            names = set(self._read_names(folder, raw))
            if (name in names) == present:
                return
            names ^= {name}
            new = os.urandom(_NONCE_BYTES) + json.dumps(sorted(names)).encode()
            held = self._compare_set(index, raw or b"", new)
            if held == new:
                return
            raw = held

    def _names(self, folder: str) -> Keys:
        return self._read_names(folder, self._raw(f"{_FOLDERS}{folder}"))

    def _read_names(self, folder: str, raw: bytes | None) -> Keys:
        """Return what a folder's index says; one that cannot be read is made anew, if it can be."""
        names = [] if raw is None else index_names(raw[_NONCE_BYTES:])
        if names is not None:
            return names
        if folder not in self.reported:
            self.reported.add(folder)
            _log.warning("the list of keys below %r cannot be read; making it anew", folder)
        return self._found_names(folder)

    def _found_names(self, folder: str) -> Keys:
        """Return the names in a folder, asked of the server itself; an older torch cannot."""

        def call(client: object) -> Keys:
            list_keys = getattr(client, "list_keys", list)
            return [str(key) for key in list_keys()]

        names = set()
        prefix = f"{_VALUES}{folder}/" if folder else _VALUES
        for key in self._call(call):
            inside = str(key).removeprefix(prefix)
            if key.startswith(prefix) and not key.startswith(_VALUES + STREAMS):
                name, more, _ = inside.partition("/")
                names.add(name + more)
        return sorted(names)

    def _walk(self, folder: str, prefix: str, found: Keys) -> None:
        for name in self._names(folder):
            path = f"{folder}/{name}" if folder else name
            if name.endswith("/"):
                if path.startswith(prefix) or prefix.startswith(path):
                    self._walk(path.rstrip("/"), prefix, found)
            elif path.startswith(prefix):
                found.append(path)

    def _call(self, call: Callable[[TorchStore], Any]) -> Any:  # noqa: ANN401 - as the call has it
        if self._client is None or self._calls is None:
            self._connect()
        client, calls = self._client, self._calls
        if client is None or calls is None:
            raise StoreError(f"the store at {self.url} was closed")
        try:
            return calls(lambda: call(client), self._call_seconds)
        except (RuntimeError, TimeoutError) as cause:
            self.close()
            raise StoreError(
                f"lost the store at {_address(self._host, self._port)} ({_first_line(cause)})",
                hint="see that the process that serves it still runs, and that no firewall "
                "stands between",
            ) from cause

    def _connect(self) -> None:
        _knock(self._host, self._port, self._connect_seconds)
        calls = BoundedCalls()
        # Torch asks the name service for the name of every address it meets, and a lost answer
        # costs it 5 s: somebody listens there, so it is given the time.
        handshake_seconds = 3 * self._connect_seconds
        bound = timedelta(seconds=handshake_seconds)
        try:
            self._client = calls(
                lambda: TorchStore(
                    host_name=self._host,
                    port=self._port,
                    is_master=False,
                    timeout=bound,
                    wait_for_workers=False,
                ),
                handshake_seconds + 1,
            )
        except (RuntimeError, TimeoutError) as cause:
            raise StoreError(
                f"what listens at {_address(self._host, self._port)} did not answer as a store in "
                f"{handshake_seconds:g} s",
                detail=_first_line(cause),
                hint="give the address that the store's server printed at its start; if it is "
                "this one, the server hangs",
            ) from cause
        self._calls = calls


def index_names(text: bytes) -> Keys | None:
    """Return the names in a folder's index, which anybody can write; None if it is no index."""
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(names, list):
        return None
    return names if all(isinstance(name, str) and _is_name(name) for name in names) else None


def _is_name(name: str) -> bool:
    part = name.removesuffix("/")
    return bool(part) and "/" not in part and part.isprintable()


def _knock(host: str, port: int, seconds: float) -> None:
    """Wait until somebody listens at an address; torch's own wait would print stack traces."""
    end = time.monotonic() + seconds
    while True:
        left = max(0.05, end - time.monotonic())
        try:
            socket.create_connection((host, port), timeout=left).close()
        except OSError as cause:
            if time.monotonic() + 0.1 >= end:
                raise _unreachable(host, port, seconds, cause) from cause
            time.sleep(0.1)
        else:
            return


def _unreachable(host: str, port: int, seconds: float, cause: OSError) -> StoreError:
    if isinstance(cause, ConnectionRefusedError):
        reason = "refused"
    elif isinstance(cause, socket.gaierror):
        reason = "unknown host name"
    elif isinstance(cause, TimeoutError):
        reason = "no answer"
    else:
        reason = (cause.strerror or str(cause)).lower()
    return StoreError(
        f"cannot reach {_address(host, port)} ({reason}) after {seconds:g} s",
        hint=f"start it there with: python -m eflib.store.server --port {port}; "
        "if it runs, look for a firewall between",
    )


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _first_line(cause: BaseException) -> str:
    return (str(cause).splitlines() or [type(cause).__name__])[0].rstrip(".")


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
            f"cannot listen at {_address(host, port)} ({_reason(cause)})",
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
        problem = f"cannot serve at {_address(host, port)} ({_first_line(cause)})"
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
