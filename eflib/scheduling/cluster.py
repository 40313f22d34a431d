"""Which GPUs there are, and the position of each in the line in which blocks are aligned."""

from __future__ import annotations

from eflib.errors import UsageError
from eflib.scheduling.buddy import positions
from eflib.scheduling.events import Gpu

REMEMBERED = 1000
"""Lost nodes whose positions are kept for them; with more the one that was lost first is forgotten.

Names that are new each time (pods, spot instances) would fill memory and snapshots for ever.
"""


class Cluster:
    """Nodes side by side on one line of positions.

    A node starts at a multiple of the largest power of two that divides its size, so equal nodes
    lie without gaps (as ``node * gpus_per_node + index``) and a node of a power of two is itself a
    block. A node that comes back, or another of its size, takes the place of the lost one.
    """

    def __init__(self) -> None:
        self._first: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        self._gpus: dict[int, Gpu] = {}
        self.available = 0

    @property
    def nodes(self) -> dict[str, int]:
        """GPUs by node, of the nodes that are there."""
        return dict(self._sizes)

    @property
    def num_gpus(self) -> int:
        """GPUs that are there."""
        return self.available.bit_count()

    def join(self, node: str, num_gpus: int) -> None:
        """Add a node.

        Args:
            node: Its name.
            num_gpus: Its size, at least 1.

        Raises:
            UsageError: The size is below 1.
        """
        if num_gpus < 1:
            raise UsageError(f"node {node!r} cannot join with {num_gpus} GPUs")
        self.lose(node)
        want = (1 << num_gpus) - 1
        # A node that comes back takes its old positions: jobs that kept part of their blocks on
        # other nodes are then aligned as before.
        first = self._first.get(node)
        if first is None or self.available & (want << first):
            # Aligned to the largest power of two in its size, so that its GPUs form blocks of at
            # least that size with no hole that nobody can use.
            first, step = 0, num_gpus & -num_gpus
            while self.available & (want << first):
                first += step
        self._first[node] = first
        self._add(node, first, num_gpus)

    def lose(self, node: str) -> int:
        """Remove a node; return the positions that went with it (0 if it was not there)."""
        if node not in self._sizes:
            return 0
        first = self._first.pop(node)
        self._first[node] = first  # last in the order of being lost
        gone = ((1 << self._sizes.pop(node)) - 1) << first
        self.available &= ~gone
        for position in positions(gone):
            del self._gpus[position]
        lost = [name for name in self._first if name not in self._sizes]
        for name in lost[: max(len(lost) - REMEMBERED, 0)]:
            del self._first[name]
        return gone

    def known(self) -> list[tuple[str, int, int]]:
        """Return ``(name, first position, GPUs)`` of each node, then of lost ones, with 0 GPUs."""
        there = [(node, self._first[node], size) for node, size in self._sizes.items()]
        return there + [(n, first, 0) for n, first in self._first.items() if n not in self._sizes]

    def restore(self, node: str, first: int, num_gpus: int) -> None:
        """Take in a node at its position, or remember the position of one that is lost.

        Args:
            node: Its name.
            first: Its first position.
            num_gpus: Its size; 0 if it is lost.

        Raises:
            UsageError: The positions are out of range or another node's.
        """
        positions_of = (1 << max(num_gpus, 0)) - 1 << max(first, 0)
        if num_gpus < 0 or first < 0 or self.available & positions_of:
            raise UsageError(f"node {node!r} cannot be at position {first} with {num_gpus} GPUs")
        self._first[node] = first
        if num_gpus:
            self._add(node, first, num_gpus)

    def _add(self, node: str, first: int, num_gpus: int) -> None:
        """Note a node's GPUs."""
        self._sizes[node] = num_gpus
        self.available |= (1 << num_gpus) - 1 << first
        for index in range(num_gpus):
            self._gpus[first + index] = Gpu(node, index)

    def node_masks(self) -> tuple[int, ...]:
        """Return the positions of each node."""
        return tuple(((1 << self._sizes[n]) - 1) << self._first[n] for n in self._sizes)

    def gpus(self, mask: int) -> tuple[Gpu, ...]:
        """Return the GPUs at a set of positions, in the order of the line."""
        return tuple(self._gpus[p] for p in positions(mask))
