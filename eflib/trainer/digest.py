"""Digests of state: equal on all ranks, or the ranks have come apart."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

_PERIOD = 8191  # weights repeat with this period: a prime, so that rows of a matrix differ


def digest(skeleton: str, tensors: Iterable[torch.Tensor]) -> int:
    """Return a 63-bit digest of a flattened state: of every bit of every tensor, and its place.

    Tensors are summed as whole numbers under odd weights, modulo 2**64: a pass at the speed of
    memory, which a cryptographic hash is not. It guards against ranks that came apart, not against
    an adversary.
    """
    whole = hashlib.blake2b(skeleton.encode(), digest_size=8)
    for tensor in tensors:
        whole.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
        whole.update(_sum(tensor).to_bytes(8, "little", signed=True))
    return int.from_bytes(whole.digest(), "little") >> 1


def _sum(tensor: torch.Tensor) -> int:
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    words = flat.numel() // 8
    head = flat[: words * 8]
    if head.data_ptr() % 8:
        head = head.clone()
    numbers = head.view(torch.int64)
    weights = _weights(numbers.device)
    rows = numbers.numel() // _PERIOD
    total = 0
    if rows:
        columns = numbers[: rows * _PERIOD].view(rows, _PERIOD)
        places = 2 * torch.arange(rows, dtype=torch.int64, device=numbers.device) + 1
        total += int(((columns * weights).sum(1) * places).sum())
    rest = numbers[rows * _PERIOD :]
    total += int((rest * weights[: rest.numel()]).sum()) * 3
    tail = flat[words * 8 :].to(torch.int64)
    total += int((tail * weights[: tail.numel()]).sum()) * 5
    return ((total + (1 << 63)) % (1 << 64)) - (1 << 63)


def _weights(device: torch.device) -> torch.Tensor:
    numbers = torch.arange(_PERIOD, dtype=torch.int64, device=device)
    return (numbers * -7046029254386353131) | 1  # the golden ratio's odd multiplier (splitmix64)
