"""Moving batches to a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable


def to_device(batch: object, device: torch.device) -> object:
    """Return the batch with every tensor on the device; other values as they are."""
    if isinstance(batch, torch.Tensor):
        return batch if batch.device == device else batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {name: to_device(item, device) for name, item in batch.items()}
    if isinstance(batch, (list, tuple)):
        make: Callable[..., object] = type(batch)
        items = [to_device(item, device) for item in batch]
        return make(*items) if hasattr(batch, "_fields") else make(items)
    return batch
