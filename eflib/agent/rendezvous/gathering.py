"""Who forms the next generation of a torchrun job: the rules, without a store and a clock.

Nodes that wait gather until they are enough and nobody came for a while, or until there is no more
room. As long as a member of the standing generation trains, nobody forms a generation without it:
a newcomer that did would split the job into two.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    Names = tuple[str, ...]


@dataclass(frozen=True)
class Bounds:
    """What a generation must look like.

    Args:
        min_nodes: It has at least so many nodes.
        max_nodes: And at most so many.
        last_call: How long nobody new must have come, in seconds.
    """

    min_nodes: int
    max_nodes: int
    last_call: float


@dataclass
class Liveness:
    """Tells the living from the dead by counters, each of which only its owner moves.

    Clocks of different nodes are never compared: what counts is when this node last saw a change.

    Args:
        keep_alive: After so many seconds without a change a node counts as dead.
    """

    keep_alive: float
    _seen: dict[str, tuple[int, float]] = field(default_factory=dict)

    def alive(self, beats: Mapping[str, int], now: float) -> frozenset[str]:
        """Return who is alive.

        Args:
            beats: The counters as they stand.
            now: Seconds that only grow.
        """
        living = []
        for node, beat in beats.items():
            last, since = self._seen.get(node, (None, now))
            if beat != last:
                since = now
            self._seen[node] = (beat, since)
            if now - since < self.keep_alive:
                living.append(node)
        return frozenset(living)


@dataclass
class Quiet:
    """Tells for how long a set has stayed as it is."""

    _last: frozenset[str] | None = None
    _since: float = 0.0

    def seconds(self, names: Collection[str], now: float) -> float:
        """Return for how long ``names`` have been these, in seconds."""
        current = frozenset(names)
        if current != self._last:
            self._last, self._since = current, now
        return now - self._since


def busy(standing: Sequence[str], waiting: Collection[str], living: Collection[str]) -> Names:
    """Return the members of the standing generation that live and do not wait: they train."""
    return tuple(node for node in standing if node in living and node not in waiting)


def next_members(
    standing: Sequence[str], waiting: Collection[str], bounds: Bounds, quiet: float
) -> Names | None:
    """Return the next generation, in order of rank, or None while it is too early.

    Survivors come first, in the order they had, so that rank 0 holds the newest state.

    Args:
        standing: The generation that stands; none of its living members trains.
        waiting: The living nodes that wait.
        bounds: What the generation must look like.
        quiet: For how long these have been the ones that wait, in seconds.

    Examples:
        >>> next_members(("b", "x"), {"a", "b", "c"}, Bounds(2, 4, 5.0), quiet=5.0)
        ('b', 'a', 'c')
    """
    survivors = [node for node in standing if node in waiting]
    newcomers = sorted(set(waiting) - set(survivors))
    order = (*survivors, *newcomers)
    if len(order) < bounds.min_nodes:
        return None
    if len(order) < bounds.max_nodes and quiet < bounds.last_call:
        return None
    return order[: bounds.max_nodes]
