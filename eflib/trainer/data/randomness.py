"""Random state as a function of (seed, place in the data), never of the rank.

Before a micro-batch is fetched, the generators of torch, numpy and Python are seeded from it, so
that a step drawn again after a failure draws the same numbers, on whichever rank it lands.
"""

from __future__ import annotations

import random
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from types import ModuleType

    from eflib.trainer.data.position import Block

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
    """Seed the global generators of torch, numpy and Python for fetching one micro-batch."""
    value = block_seed(seed, block)
    seed_torch(value)
    np.random.seed(value & 0xFFFFFFFF)
    random.seed(value)


def seed_forward(seed: int, block: Block) -> None:
    """Seed torch's generators for the forward pass over a micro-batch.

    Apart from ``seed_block``, so that dropout does not depend on what the data set drew, nor on
    whether it did so in this process.
    """
    seed_torch(block_seed(~seed, block))


def seed_torch(value: int) -> None:
    """Seed torch's generators of the CPU and of the accelerator in use.

    ``torch.manual_seed`` does the same and takes over a millisecond where a device of its list
    was never used: for each it notes the call, with its stack, for the day it will be.
    """
    value &= _MASK >> 1
    torch.default_generator.manual_seed(value)
    device = _accelerator()
    if device is not None and getattr(device, "is_initialized", lambda: True)():
        getattr(device, "manual_seed_all", device.manual_seed)(value)


@lru_cache(maxsize=1)
def _accelerator() -> ModuleType | None:
    device = torch.accelerator.current_accelerator(check_available=True)
    return torch.get_device_module(device) if device is not None else None
