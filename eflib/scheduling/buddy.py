"""Sets of GPUs as bits of one integer, and the aligned power-of-two blocks among them.

Position p of the cluster is bit p. A buddy block of size s starts at a multiple of s. Integers make
the algebra short and quick: the starts of all free blocks of twice a size follow from those of the
size by one shift and two ands.
"""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=256)
def aligned_starts(exponent: int, width: int) -> int:
    """Return the bits at multiples of ``2**exponent`` below ``width``."""
    starts = 0
    for position in range(0, width, 1 << exponent):
        starts |= 1 << position
    return starts


def _width(free: int) -> int:
    """Return a power of two beyond the highest position: few values, so that they are kept."""
    return 1 << free.bit_length().bit_length()


def free_starts(free: int, exponent: int) -> list[int]:
    """Return, per exponent from 0 to ``exponent``, the starts of all wholly free aligned blocks."""
    width = _width(free)
    levels = [free]
    for e in range(1, exponent + 1):
        below = levels[-1]
        # A block of twice the size is free where a block is free and so is its right neighbour, at
        # an aligned start.
        levels.append(below and below & (below >> (1 << (e - 1))) & aligned_starts(e, width))
    return levels


def block(start: int, exponent: int) -> int:
    """Return the set of the ``2**exponent`` positions from ``start`` on."""
    return ((1 << (1 << exponent)) - 1) << start


def is_block(mask: int) -> bool:
    """True for an aligned block of a power-of-two size.

    Examples:
        >>> is_block(0b1100), is_block(0b0110), is_block(0b0111)
        (True, False, False)
    """
    size = mask.bit_count()
    if size == 0 or size & (size - 1):
        return False
    start = (mask & -mask).bit_length() - 1
    return start % size == 0 and mask >> start == (1 << size) - 1


def best_fit(free: int, exponent: int, *, low: bool) -> int:
    """Return a free aligned block inside the smallest free buddy that holds one, or 0.

    Args:
        free: The free positions.
        exponent: Log2 of the block's size.
        low: Take the lowest of equals; else the highest.
    """
    levels = free_starts(free, exponent)
    whole = levels[exponent]
    if not whole:
        return 0
    width = _width(free)
    size, e = 1 << exponent, exponent
    while True:
        # Best fit: a block whose buddy is free as well belongs to a larger free block, which is
        # kept whole for a job that needs it. Go up until one stands alone.
        parents = whole & (whole >> (1 << e)) & aligned_starts(e + 1, width)
        alone = whole & ~(parents | (parents << (1 << e)))
        if alone:
            break
        whole, e = parents, e + 1
    # Jobs that end late gather at one end, early ones at the other: what the early ones leave is
    # then one large block.
    if low:
        return block((alone & -alone).bit_length() - 1, exponent)
    return block(alone.bit_length() - 1 + (1 << e) - size, exponent)


def enclosing(mask: int, exponent: int) -> int:
    """Return the aligned block of size ``2**exponent`` in which the lowest bit of ``mask`` lies."""
    lowest = (mask & -mask).bit_length() - 1
    return block(lowest >> exponent << exponent, exponent)


def capacity_by_exponent(available: int) -> list[int]:
    """Return, per exponent, how many GPUs lie in whole aligned blocks of that size.

    A set of power-of-two counts can be placed, moving jobs where needed, exactly if for every size
    s the counts of at least s add up to no more than the entry of s.
    """
    # Positions beyond the highest available one hold nothing, so no larger block can exist.
    top = max(available.bit_length() - 1, 0).bit_length()
    return [s.bit_count() << e for e, s in enumerate(free_starts(available, top)) if s]


def positions(mask: int) -> list[int]:
    """Return the positions in a set, ascending."""
    found = []
    while mask:
        lowest = mask & -mask
        found.append(lowest.bit_length() - 1)
        mask ^= lowest
    return found
