"""Digests of state: equal on all ranks, or the ranks have come apart."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

_PERIOD = 8191  # weights repeat with this period: a prime, so that rows of a matrix differ
_ROWS = 32  # rows that are shifted at a time: two megabytes, which a cache holds
_SMALL_BYTES = 64 * 1024  # smaller tensors are joined, so that many of them cost one pass


def digest(skeleton: str, tensors: Iterable[torch.Tensor]) -> int:
    """Return a 63-bit digest of a flattened state: of every bit of every tensor, and its place.

    Tensors are summed as 64-bit numbers under odd weights, modulo 2**64: a pass at the speed of
    memory, which a cryptographic hash is not. Their upper halves are summed once more by
    themselves: values that differ in their sign alone could change places unseen otherwise, as
    their difference times that of two weights is a multiple of 2**64. It guards against ranks that
    came apart, not against an adversary.
    """
    whole = hashlib.blake2b(skeleton.encode(), digest_size=8)
    small: dict[torch.device, list[torch.Tensor]] = {}
    for tensor in tensors:
        whole.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
        octets = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        if octets.numel() < _SMALL_BYTES:
            small.setdefault(octets.device, []).append(octets)
        else:
            whole.update(_sums(octets))
    for group in small.values():
        whole.update(_sums(torch.cat(group)))
    return int.from_bytes(whole.digest(), "little") >> 1


def _sums(octets: torch.Tensor) -> bytes:
    """Return both sums of a tensor of bytes, and what does not fill a 64-bit number."""
    words = octets.numel() // 8
    head = octets[: words * 8]
    if head.data_ptr() % 8:
        head = head.clone()
    numbers = head.view(torch.int64)
    weights = _weights(numbers.device)
    rows = words // _PERIOD
    columns, rest = numbers[: rows * _PERIOD].view(rows, _PERIOD), numbers[rows * _PERIOD :]
    whole, upper = _product(columns, weights), torch.empty_like(numbers[:rows])
    for first in range(0, rows, _ROWS):
        part = columns[first : first + _ROWS]
        upper[first : first + _ROWS] = _product(part >> 32, weights)
    odd = 2 * torch.arange(rows, dtype=torch.int64, device=numbers.device) + 1
    last = weights[: rest.numel()] * (2 * rows + 1)
    sums = torch.stack([(sums * odd).sum() for sums in (whole, upper)])
    sums += torch.stack([(rest * last).sum(), ((rest >> 32) * last).sum()])
    return repr((sums.tolist(), octets[words * 8 :].tolist())).encode()


def _product(matrix: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return a matrix of whole numbers times a vector: without a temporary where torch can."""
    return matrix @ weights if matrix.device.type == "cpu" else (matrix * weights).sum(1)


@lru_cache(maxsize=8)
def _weights(device: torch.device) -> torch.Tensor:
    numbers = torch.arange(_PERIOD, dtype=torch.int64, device=device)
    return (numbers * -7046029254386353131) | 1  # the golden ratio's odd multiplier (splitmix64)
