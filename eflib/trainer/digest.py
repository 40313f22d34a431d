"""Digests of state: equal on all ranks, or the ranks have come apart."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

_PERIOD = 8191  # weights repeat with this period: a prime, so that rows of a matrix differ
_ROWS = 256  # rows of weights that are summed at a time: what a pass needs beside the tensor


def digest(skeleton: str, tensors: Iterable[torch.Tensor]) -> int:
    """Return a 63-bit digest of a flattened state: of every bit of every tensor, and its place.

    Tensors are summed as 32-bit numbers under odd weights, modulo 2**64: a pass at the speed of
    memory, which a cryptographic hash is not. Numbers of 32 bits, so that the difference of two of
    them times the difference of two weights cannot be a multiple of 2**64: with 64 bits, values
    that differ in their sign alone could change places unseen. It guards against ranks that came
    apart, not against an adversary.
    """
    whole = hashlib.blake2b(skeleton.encode(), digest_size=8)
    for tensor in tensors:
        whole.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
        whole.update(_sum(tensor).to_bytes(8, "little", signed=True))
    return int.from_bytes(whole.digest(), "little") >> 1


def _sum(tensor: torch.Tensor) -> int:
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    words = flat.numel() // 4
    head = flat[: words * 4]
    if head.data_ptr() % 4:
        head = head.clone()
    numbers = head.view(torch.int32)
    weights = _weights(numbers.device)
    rows = numbers.numel() // _PERIOD
    columns = numbers[: rows * _PERIOD].view(rows, _PERIOD)
    total = 0
    for first in range(0, rows, _ROWS):
        part = columns[first : first + _ROWS]
        places = torch.arange(first, first + len(part), dtype=torch.int64, device=part.device)
        total += int(((part * weights).sum(1) * (2 * places + 1)).sum())
    rest = numbers[rows * _PERIOD :]
    total += int((rest * weights[: rest.numel()]).sum()) * 3
    tail = flat[words * 4 :].to(torch.int64)
    total += int((tail * weights[: tail.numel()]).sum()) * 5
    return ((total + (1 << 63)) % (1 << 64)) - (1 << 63)


def _weights(device: torch.device) -> torch.Tensor:
    numbers = torch.arange(_PERIOD, dtype=torch.int64, device=device)
    return (numbers * -7046029254386353131) | 1  # the golden ratio's odd multiplier (splitmix64)
