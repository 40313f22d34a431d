"""What a script may give as the loss of a micro-batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from eflib.errors import UsageError

if TYPE_CHECKING:
    from eflib.trainer.step.votes import Number

_HINT = "give loss_fn's or the loop's loss as a tensor of one value, or as a pair (sum, count)"


@dataclass(frozen=True)
class Loss:
    """A loss that was checked; ``count`` is None for a mean over the samples."""

    total: torch.Tensor
    count: Number | None


def read_loss(loss: object) -> Loss:
    """Return the loss of a micro-batch as its parts.

    A count that lies on an accelerator is not waited for; ``check_count`` sees the step's sum.

    Raises:
        UsageError: It is neither a tensor of one value nor a pair (sum, count), it has no gradient,
            or the count is negative or not a number.
    """
    if isinstance(loss, tuple) and len(loss) == 2:
        total, count = loss
        return Loss(_scalar(total), _count(count))
    return Loss(_scalar(loss), None)


def check_count(count: float) -> None:
    """Refuse the sum of a step's counts over all ranks, by which its gradients are divided.

    Raises:
        UsageError: It is not a positive number.
    """
    if not (count > 0 and math.isfinite(count)):
        raise UsageError(
            f"the counts of a step's losses (sum, count) add up to {count:g}",
            hint="the count says how many items the sum is over: at least one in every step",
        )


def _scalar(total: object) -> torch.Tensor:
    if not isinstance(total, torch.Tensor):
        raise UsageError(f"the loss is a {type(total).__name__}, not a tensor", hint=_HINT)
    if total.numel() != 1:
        raise UsageError(f"the loss has the shape {tuple(total.shape)}, not one value", hint=_HINT)
    if not total.requires_grad:
        raise UsageError(
            "the loss depends on no parameter that is trained",
            hint="do not detach it, nor compute it under torch.no_grad(); and some parameter of "
            "the model must require a gradient",
        )
    return total


def _count(count: object) -> Number:
    if isinstance(count, torch.Tensor):
        if count.numel() != 1:
            raise UsageError(
                f"the count of a loss has the shape {tuple(count.shape)}, not one value",
                hint=_HINT,
            )
        if count.device.type != "cpu":
            return count
        count = count.item()
    if isinstance(count, bool) or not isinstance(count, (int, float)):
        raise UsageError(f"the count of a loss is {count!r}, not a number", hint=_HINT)
    if not (count >= 0 and math.isfinite(count)):
        raise UsageError(
            f"the count of a loss is {count!r}; a number of at least 0 is needed", hint=_HINT
        )
    return float(count)
