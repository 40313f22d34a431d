"""Random state as a function of (seed, place in the data), never of the rank.

Before a micro-batch is fetched, the generators of torch, numpy and Python are seeded from it, so
that a step drawn again after a failure draws the same numbers, on whichever rank it lands.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from eflib.trainer.position import Block

_MASK = (1 << 64) - 1


def block_seed(seed: int, block: Block) -> int:
    """Return a 64-bit seed from the run's seed and a block's place (splitmix64's mixing)."""
    value = seed & _MASK
    for part in (block.epoch, block.start):
        value = (value + 0x9E3779B97F4A7C15 + part) & _MASK
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
        value ^= value >> 31
    return value


def seed_block(seed: int, block: Block) -> None:
    """Seed the global generators of torch, numpy and Python for one micro-batch."""
    value = block_seed(seed, block)
    torch.manual_seed(value & (_MASK >> 1))
    np.random.seed(value & 0xFFFFFFFF)
    random.seed(value)
