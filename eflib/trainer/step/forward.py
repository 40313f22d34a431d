"""The forward pass of a batch: precision, the model's arguments, the loss."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from eflib.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

AUTOCAST: dict[str, torch.dtype | None] = {
    "fp32": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


class ForwardPass:
    """Runs a model on batches of (inputs, targets).

    Args:
        model: The model.
        device: Where it lives.
        precision: A key of ``AUTOCAST``.
        loss_fn: ``loss_fn(outputs, targets)``; None where the script has a loop of its own.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        device: torch.device,
        precision: str,
        loss_fn: Callable[[Any, Any], Any] | None,
    ) -> None:
        self._model = model
        self._device = device
        self._dtype = AUTOCAST[precision]
        self._loss_fn = loss_fn

    @property
    def has_loss(self) -> bool:
        """True when there is a loss function."""
        return self._loss_fn is not None

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context for a forward pass in the chosen precision."""
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self._device.type, dtype=self._dtype)

    def loss(self, batch: object) -> object:
        """Return what the loss function makes of a batch.

        Raises:
            UsageError: The batch is no pair, or there is no loss function.
        """
        if self._loss_fn is None:
            raise UsageError("fit() needs loss_fn", hint="pass loss_fn=..., or use the loop form")
        inputs, targets = split_batch(batch)
        with self.autocast():
            return self._loss_fn(self.call(inputs), targets)

    def call(self, inputs: object) -> object:
        """Call the model with inputs: a dict as keywords, a tuple or list as positions."""
        if isinstance(inputs, dict):
            return self._model(**inputs)
        if isinstance(inputs, (list, tuple)):
            return self._model(*inputs)
        return self._model(inputs)


def split_batch(batch: object, caller: str = "fit()") -> tuple[Any, Any]:
    """Return (inputs, targets) of a batch.

    Args:
        batch: What the collate function made.
        caller: Who needs it, for an error.

    Raises:
        UsageError: It is no pair.
    """
    if isinstance(batch, (list, tuple)) and len(batch) == 2:
        return batch[0], batch[1]
    raise UsageError(
        f"{caller} needs batches of (inputs, targets), not a {type(batch).__name__}",
        hint="let the data set's items be such pairs, or use a loop of your own: "
        "for batch in trainer: ...; trainer.step(loss)",
    )
