"""The binary tree in which virtual shards are summed, whoever holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

Split = tuple[int, int, int]  # a node of the tree: where it begins, is parted, ends


def tree(low: int, high: int) -> set[Split]:
    """Return the inner nodes of the binary tree over the shards ``low`` to ``high``.

    Examples:
        >>> sorted(tree(0, 4))
        [(0, 1, 2), (0, 2, 4), (2, 3, 4)]
    """
    if high - low < 2:
        return set()
    middle = (low + high) // 2
    return {(low, middle, high)} | tree(low, middle) | tree(middle, high)


def subtrees(splits: AbstractSet[Split], low: int, high: int) -> list[tuple[int, int]]:
    """Return the largest whole subtrees of the shards ``low`` to ``high``, from left to right.

    Examples:
        >>> subtrees(tree(0, 8), 3, 6)
        [(3, 4), (4, 6)]
    """
    spans: list[tuple[int, int]] = []
    for leaf in range(low, high):
        spans.append((leaf, leaf + 1))
        while len(spans) > 1 and (spans[-2][0], spans[-1][0], spans[-1][1]) in splits:
            right, left = spans.pop(), spans.pop()
            spans.append((left[0], right[1]))
    return spans
