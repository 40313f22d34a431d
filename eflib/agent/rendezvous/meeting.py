"""Where the nodes of a torchrun job meet: its keys in an eflib store, signed.

| key, below ``rendezvous/<run>/`` | written by | holds |
|---|---|---|
| ``nodes/<node>`` | that node | ``beat, waiting, host, address`` |
| ``generations/<g>`` | one node, by compare-and-set on absence | ``members``: the nodes by rank |
| ``stores/<g>`` | rank 0 of g | ``host, port`` of its store for the process groups |
| ``closed`` | any node | that no further generation will be formed |

A torchrun job is not a job of the coordinator's, so its keys are spelled here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from eflib.messages.rendezvous import Closed, Formed, Participant, StoreAddress
from eflib.store import keys

if TYPE_CHECKING:
    from eflib.store import SignedStore

    Nodes = dict[str, Participant]


_NUMBER = re.compile(r"[0-9]{8}")


@dataclass(frozen=True)
class NodeGeneration:
    """One formed generation of nodes; number 0, without members, stands before the first."""

    number: int = 0
    members: tuple[str, ...] = ()


class Meeting:
    """One run's keys. What cannot be read or verified counts as absent.

    Args:
        store: The store.
        run: What torchrun was given as ``--rdzv-id``.
    """

    def __init__(self, store: SignedStore, run: str) -> None:
        self._store = store
        self._prefix = f"rendezvous/{quote(run, safe='')}/"

    def nodes(self) -> Nodes:
        """Return every node's own words."""
        found = {}
        for key in self._store.list(f"{self._prefix}nodes/"):
            words = self._store.fetch(key, Participant)
            if words is not None:
                found[keys.last_part(key)] = words
        return found

    def say(self, node: str, words: Participant) -> None:
        """Write a node's own words."""
        self._store.put(f"{self._prefix}nodes/{node}", words)

    def leave(self, node: str) -> None:
        """Take a node's words away."""
        self._store.delete(f"{self._prefix}nodes/{node}")

    def newest(self) -> NodeGeneration:
        """Return the newest generation that can be read."""
        for key in reversed(self._store.list(f"{self._prefix}generations/")):
            number = keys.last_part(key)
            record = self._store.fetch(key, Formed) if _NUMBER.fullmatch(number) else None
            if record is not None:
                return NodeGeneration(int(number), record.members)
        return NodeGeneration()

    def form(self, generation: NodeGeneration) -> bool:
        """Make a generation if nobody has made one with this number."""
        key = f"{self._prefix}generations/{generation.number:08d}"
        return self._store.claim(key, Formed(generation.members))

    def publish_store(self, generation: int, host: str, port: int) -> None:
        """Say where the store of a generation is."""
        self._store.put(f"{self._prefix}stores/{generation}", StoreAddress(host, port))

    def find_store(self, generation: int) -> tuple[str, int] | None:
        """Return where the store of a generation is, or None so far."""
        found = self._store.fetch(f"{self._prefix}stores/{generation}", StoreAddress)
        return None if found is None else (found.host, found.port)

    def is_closed(self) -> bool:
        """Tell whether the run has been closed."""
        return self._store.fetch(f"{self._prefix}closed", Closed) is not None

    def close(self, node: str) -> None:
        """Close the run."""
        self._store.put(f"{self._prefix}closed", Closed(node))

    def reopen(self) -> None:
        """Open a closed run again, for its next use."""
        self._store.delete(f"{self._prefix}closed")
