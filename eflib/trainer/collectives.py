"""Small collectives over the current process group, and the error for a peer that is lost."""

from __future__ import annotations

import torch
import torch.distributed as dist


def is_peer_loss(error: BaseException | None) -> bool:
    """Tell whether an error says that a member of the process group is gone."""
    if isinstance(error, dist.DistError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("gloo" in text or "NCCL" in text)


def gather_rows(row: torch.Tensor) -> list[torch.Tensor]:
    """Return the rows of all ranks, in order."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return [row]
    rows = [torch.empty_like(row) for _ in range(dist.get_world_size())]
    dist.all_gather(rows, row)
    return rows


def gather_text(text: str) -> list[str]:
    """Return the texts of all ranks, in order."""
    data = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    sizes = [int(row[0]) for row in gather_rows(torch.tensor([data.numel()]))]
    padded = torch.zeros(max(sizes), dtype=torch.uint8)
    padded[: data.numel()] = data
    rows = gather_rows(padded)
    return [bytes(row[:size].tolist()).decode() for row, size in zip(rows, sizes, strict=True)]


def broadcast_text(text: str, source: int) -> str:
    """Return the text of one rank, on all."""
    data = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    size = torch.tensor([data.numel()])
    dist.broadcast(size, src=source)
    if dist.get_rank() != source:
        data = torch.empty(int(size[0]), dtype=torch.uint8)
    dist.broadcast(data, src=source)
    return data.numpy().tobytes().decode()
