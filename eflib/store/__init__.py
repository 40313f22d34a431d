"""What processes share: bytes under keys, in a folder or on a TCP server, and signed messages."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from eflib.errors import StoreError, UsageError
from eflib.store import keys, quiet
from eflib.store.base import Store, wait_for
from eflib.store.file import FolderStore
from eflib.store.secret import load_key, load_or_create_key
from eflib.store.signed import SignedStore

__all__ = [
    "FolderStore",
    "SignedStore",
    "Store",
    "StoreError",
    "keys",
    "load_key",
    "load_or_create_key",
    "open_store",
    "wait_for",
]

_FORMS = "a folder, file:///a/folder or tcp://host:port"


def open_store(url: str | Path) -> Store:
    """Return the store at an address, having seen that it can be used.

    Args:
        url: A folder, ``file:///folder`` or ``tcp://host:port``.

    Raises:
        UsageError: The address has none of these forms.
        StoreError: The store there cannot be used.
    """
    text = str(url)
    scheme, mark, _ = text.partition("://")
    if not text.strip():
        raise UsageError("the store's address is empty", hint=f"give {_FORMS}")
    if not mark:
        if text.startswith(("tcp:", "file:")):
            raise UsageError(f"cannot read the store's address {text!r}", hint=f"give {_FORMS}")
        return _folder(text)
    if scheme == "file":
        path = text.removeprefix("file://").removeprefix("localhost")
        if not path.startswith("/"):
            raise UsageError(
                f"cannot read the store's address {text!r}: a file address has three slashes",
                hint="write file:///a/folder",
            )
        return _folder(unquote(path))
    if scheme == "tcp":
        return _tcp(text)
    raise UsageError(f"no store is known by {scheme + '://'!r}, in {text!r}", hint=f"give {_FORMS}")


def _folder(path: str) -> Store:
    store = FolderStore(path)
    store.check()
    return store


def _tcp(text: str) -> Store:
    parts = urlsplit(text)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port or parts.path not in ("", "/"):
        raise UsageError(
            f"cannot read the store's address {text!r}: it needs a host and a port",
            hint="write tcp://host:port, as in tcp://node0:29500",
        )
    # Loading torch takes seconds: who keeps the store in a folder does not pay for it.
    quiet.import_torch()
    from eflib.store.tcp import TcpStore  # noqa: PLC0415

    store = TcpStore(host, port)
    store.check()
    return store
