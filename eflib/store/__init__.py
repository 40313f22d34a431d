"""What processes share: bytes under keys, in a folder or on a TCP server, and signed messages."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from eflib.errors import StoreError, UsageError
from eflib.files import expanded
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


def open_store(url: str | Path, *, must_exist: bool = False) -> Store:
    """Return the store at an address, having seen that it can be used.

    Args:
        url: A folder, ``file:///folder`` or ``tcp://host:port``.
        must_exist: A folder is not made where there is none.

    Raises:
        UsageError: The address has none of these forms.
        StoreError: The store there cannot be used, or there must be one and is none.
    """
    text = str(url)
    scheme, mark, _ = text.partition("://")
    if not text.strip():
        raise UsageError("the store's address is empty", hint=f"give {_FORMS}")
    if not mark:
        if text.startswith(("tcp:", "file:")):
            raise UsageError(f"cannot read the store's address {text!r}", hint=f"give {_FORMS}")
        return _folder(text, must_exist=must_exist)
    if scheme == "file":
        path = text.removeprefix("file://").removeprefix("localhost")
        if not path.startswith("/"):
            raise UsageError(
                f"cannot read the store's address {text!r}: a file address has three slashes",
                hint="write file:///a/folder",
            )
        return _folder(unquote(path), must_exist=must_exist)
    if scheme == "tcp":
        return _tcp(text)
    raise UsageError(f"no store is known by {scheme + '://'!r}, in {text!r}", hint=f"give {_FORMS}")


def _folder(path: str, *, must_exist: bool) -> Store:
    store = FolderStore(expanded(path))
    if must_exist and not store.was_used():
        raise StoreError(
            f"there is no store at {store.url}",
            hint="give the address that the coordinator was started with",
        )
    store.check()
    return store


def _tcp(text: str) -> Store:
    try:
        parts = urlsplit(text)
        host, port, path = parts.hostname, parts.port, parts.path
    except ValueError:  # brackets that do not match, a port that is not one
        host, port, path = None, None, ""
    if not host or not port or path not in ("", "/"):
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
