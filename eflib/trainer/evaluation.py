"""The mean of a metric over a data set, on one rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from eflib import pulse
from eflib.trainer.data.batches import to_device
from eflib.trainer.data.datasets import as_map
from eflib.trainer.step.forward import ForwardPass, split_batch
from eflib.trainer.values import whole_number

if TYPE_CHECKING:
    from collections.abc import Callable


def evaluate(  # noqa: PLR0913 - the script's three, and the trainer's three
    dataset: object,
    metric_fn: Callable[[Any, Any], Any],
    batch_size: int,
    *,
    model: torch.nn.Module,
    forward: ForwardPass,
    collate: Callable[[list[Any]], Any],
    device: torch.device,
) -> float:
    """Return the mean of ``metric_fn(outputs, targets)``, with the model in evaluation mode.

    Raises:
        UsageError: The data set has no length or no samples, or the batch size is not a number.
    """
    samples = as_map(dataset)
    size = whole_number("the size of the data set", len(samples), least=1, most=2**62)
    batch_size = whole_number("batch_size", batch_size, least=1, most=2**24)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    total = 0.0
    try:
        with pulse.own().idling(), torch.no_grad(), forward.autocast():
            for low in range(0, size, batch_size):
                places = range(low, min(low + batch_size, size))
                batch = to_device(collate([samples[i] for i in places]), device)
                inputs, targets = split_batch(batch, "evaluate()")
                total += float(metric_fn(forward.call(inputs), targets)) * len(places)
    finally:
        for module, mode in modes:
            module.training = mode
    return total / size
