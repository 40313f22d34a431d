"""The names of keys on a TCP server, by folder: what ``list`` reads there.

An older torch cannot list a server's keys. So each folder has an index: its names as JSON, those of
folders with a slash at the end. Nobody signs it; one that cannot be read is made anew.
"""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from eflib.store.base import Keys

NONCE_BYTES = 8
"""Bytes before each value, different for each write; see ``TcpStore``."""

_FOLDERS = "folders/"

_log = logging.getLogger(__name__)


class KeyIndex:
    """The indices of all folders.

    Args:
        raw: Returns what stands under a name on the server, its nonce included; None: nothing.
        compare_set: Writes under a name if another value stands there (empty: none); returns what
            stands there then.
        all_keys: Returns all keys, if the server can tell; else nothing.
    """

    def __init__(
        self,
        raw: Callable[[str], bytes | None],
        compare_set: Callable[[str, bytes, bytes], bytes],
        all_keys: Callable[[], Keys],
    ) -> None:
        self._raw = raw
        self._compare_set = compare_set
        self._all_keys = all_keys
        self._reported: set[str] = set()

    def add(self, key: str) -> None:
        """Write a key down, and the folders above it."""
        *folders, name = key.split("/")
        if name in self._names("/".join(folders)):
            return
        for depth, folder in enumerate(folders):  # from the top: who is listed, can be reached
            self._change("/".join(folders[:depth]), f"{folder}/", present=True)
        self._change("/".join(folders), name, present=True)

    def remove(self, key: str) -> None:
        """Cross a key out; its folders stay."""
        folder, _, name = key.rpartition("/")
        self._change(folder, name, present=False)

    def find(self, prefix: str) -> Keys:
        """Return the keys that start with ``prefix``, in no order; some may have gone."""
        found: Keys = []
        self._walk(prefix.rpartition("/")[0], prefix, found)
        return found

    def _walk(self, folder: str, prefix: str, found: Keys) -> None:
        for name in self._names(folder):
            path = f"{folder}/{name}" if folder else name
            if name.endswith("/"):
                if path.startswith(prefix) or prefix.startswith(path):
                    self._walk(path.rstrip("/"), prefix, found)
            elif path.startswith(prefix):
                found.append(path)

    def _change(self, folder: str, name: str, *, present: bool) -> None:
        index = f"{_FOLDERS}{folder}"
        raw = self._raw(index)
        while True:
            names = set(self._read(folder, raw))
            is_index = raw is None or index_names(raw[NONCE_BYTES:]) is not None
            if (name in names) == present and is_index:
                return
            names = names | {name} if present else names - {name}
            new = os.urandom(NONCE_BYTES) + json.dumps(sorted(names)).encode()
            held = self._compare_set(index, raw or b"", new)
            if held == new:
                return
            raw = held

    def _names(self, folder: str) -> Keys:
        return self._read(folder, self._raw(f"{_FOLDERS}{folder}"))

    def _read(self, folder: str, raw: bytes | None) -> Keys:
        """Return what a folder's index says; one that cannot be read is made anew, if it can be."""
        names = [] if raw is None else index_names(raw[NONCE_BYTES:])
        if names is not None:
            return names
        if folder not in self._reported:
            self._reported.add(folder)
            _log.warning("the list of keys below %r cannot be read; rebuilding it", folder)
        prefix = f"{folder}/" if folder else ""
        inside = [key[len(prefix) :] for key in self._all_keys() if key.startswith(prefix)]
        return sorted({"".join(rest.partition("/")[:2]) for rest in inside})


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
