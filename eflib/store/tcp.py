"""A store on torch's TCPStore, for nodes that share no disk; the only store file that needs torch.

torch gives get, set, compare-and-set and delete of one key. What it lacks is made here: a get that
does not wait (torch's blocks, and with it the whole connection), exact compare-and-set (torch's
cannot tell *I wrote it* from *it was so already*), a list of keys (new in torch, and older ones are
supported), and a bound on every call.
"""

from __future__ import annotations

import os
import socket
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from torch.distributed import TCPStore as TorchStore  # type: ignore[attr-defined]

from eflib.errors import StoreError
from eflib.store.base import STREAMS, Keys, Store, check_key, check_value
from eflib.store.bounded import BoundedCalls
from eflib.store.index import NONCE_BYTES, KeyIndex

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

CONNECT_SECONDS = 5.0
"""How long a server may take to appear: it may be starting beside us."""
CALL_SECONDS = 10.0
"""How long a server may take to answer one call; an idle one answers in under a millisecond."""

_ABSENT = "-"  # shorter than any stored value, which starts with a nonce
_VALUES = "values/"


class _TakesBytes(Protocol):
    """What torch's store takes as well, though its stub says text."""

    def compare_set(self, key: str, expected: bytes, desired: bytes) -> bytes:
        """Write ``desired`` if ``expected`` stands there; returns what stands there then."""


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
        self._index = KeyIndex(self._raw, self._compare_set, self._all_keys)

    @property
    def url(self) -> str:
        """The server's address, as ``tcp://host:port``."""
        return f"tcp://{address(self._host, self._port)}"

    def check(self) -> None:
        """Connect, so that a wrong address is told at once.

        Raises:
            StoreError: Nothing there answers as a store.
        """
        self._raw("nothing")

    def get(self, key: str) -> bytes | None:
        """Return the value of a key, or None; one message there and back."""
        raw = self._raw(_VALUES + key)
        return None if raw is None else raw[NONCE_BYTES:]

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
        while expected == (None if raw is None else raw[NONCE_BYTES:]):
            won, raw = self._exchange(key, raw, value)
            if won:
                return True
        return False

    def delete(self, key: str) -> bool:
        """Remove a key and its name; True if it was there."""
        removed = bool(self._call(lambda client: client.delete_key(_VALUES + key)))
        if removed and not key.startswith(STREAMS):
            self._index.remove(key)
            if self._raw(_VALUES + key) is not None:
                self._index.add(key)  # written again meanwhile
        return removed

    def list(self, prefix: str = "") -> Keys:
        """Return the keys that start with ``prefix``, sorted; streams are not listed."""
        found = self._index.find(prefix)
        return sorted(key for key in found if self._raw(_VALUES + key) is not None)

    def list_all(self, prefix: str) -> Keys:
        """Return the keys that start with ``prefix``, of streams too; none with an older torch."""
        return [key for key in self._server_keys() if key.startswith(prefix)]

    def close(self) -> None:
        """Close the connection; a later call opens another."""
        self._client = None
        if self._calls is not None:
            self._calls.end()
            self._calls = None

    def _exchange(self, key: str, raw: bytes | None, value: bytes) -> tuple[bool, bytes | None]:
        """Write ``value`` in the place of ``raw``; return whether we did, and what stands there."""
        new = os.urandom(NONCE_BYTES) + value
        listed = raw is None and not key.startswith(STREAMS)
        if listed:
            self._index.add(key)  # before: a key must not exist unlisted if we die here
        held = self._compare_set(_VALUES + key, b"" if raw is None else raw, new)
        if held == _ABSENT.encode():  # not of ours: it was written past this class, and means none
            held = self._compare_set(_VALUES + key, held, new)
        won = held == new
        stands: bytes | None = held
        if listed and won:
            self._index.add(key)  # after: a delete may have taken the name away meanwhile
        if not won and raw is not None and held == raw:
            stands = self._raw(_VALUES + key)  # the server answers so when the key is absent
        return won, stands

    def _raw(self, name: str) -> bytes | None:
        # Where the key is absent, the server changes nothing and answers with what was expected.
        held: bytes = self._call(lambda client: client.compare_set(name, _ABSENT, _ABSENT))
        return None if held == _ABSENT.encode() else held

    def _compare_set(self, name: str, expected: bytes, desired: bytes) -> bytes:
        def call(client: TorchStore) -> bytes:
            return cast("_TakesBytes", client).compare_set(name, expected, desired)

        return self._call(call)

    def _all_keys(self) -> Keys:
        """Return the values' keys without those of streams."""
        return [key for key in self._server_keys() if not key.startswith(STREAMS)]

    def _server_keys(self) -> Keys:
        """Return the values' keys as the server itself lists them; an older torch cannot."""

        def call(client: TorchStore) -> Keys:
            list_keys = getattr(client, "list_keys", list)
            return [str(name) for name in list_keys()]

        names = self._call(call)
        return [name.removeprefix(_VALUES) for name in names if name.startswith(_VALUES)]

    def _call(self, call: Callable[[TorchStore], T]) -> T:
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
                f"lost the store at {address(self._host, self._port)} ({first_line(cause)})",
                hint="check that the process that serves it is running, and that no firewall "
                "is in the way",
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
                f"what listens at {address(self._host, self._port)} did not answer as a store in "
                f"{handshake_seconds:g} s",
                detail=first_line(cause),
                hint="give the address that the store's server printed at its start; if it is "
                "this one, the server hangs",
            ) from cause
        self._calls = calls


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
        f"cannot reach {address(host, port)} ({reason}) after {seconds:g} s",
        hint=f"start it there with: python -m eflib.store.server --port {port}; "
        "if it runs, look for a firewall between",
    )


def address(host: str, port: int) -> str:
    """Return a host and a port as one text."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def first_line(cause: BaseException) -> str:
    """Return what an error of torch says, without its C++ frames."""
    return (str(cause).splitlines() or [type(cause).__name__])[0].rstrip(".")
