"""From summed gradients to new parameters."""

from __future__ import annotations

from typing import Protocol

import torch

from eflib.trainer.collectives import PeerLostError, came_from_transfer, first_words
from eflib.trainer.state.state import Stateful


class Schedule(Stateful, Protocol):
    """A learning rate scheduler: torch's share no public base."""

    def step(self) -> None:
        """Take the next rate."""


class Update:
    """Clips the gradients, then takes the optimizer step and the scheduler's.

    Args:
        model: Its gradients are clipped.
        optimizer: Of its parameters.
        scaler: Of the losses; it skips a step whose gradients overflowed.
        lr_scheduler: Stepped once per optimizer step that was taken, or None.
        max_grad_norm: Clip the global gradient norm to this; None for no clipping.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        *,
        lr_scheduler: Schedule | None,
        max_grad_norm: float | None,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._scaler = scaler
        self._lr_scheduler = lr_scheduler
        self._max_grad_norm = max_grad_norm

    def clip(self) -> None:
        """Clip the gradients, before ``apply``. The norm of a sharded model is a sum over ranks.

        Raises:
            PeerLostError: A peer is gone.
        """
        if self._max_grad_norm is None:
            return
        self._scaler.unscale_(self._optimizer)
        try:
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._max_grad_norm)
        except RuntimeError as error:
            if not came_from_transfer(error):
                raise
            problem = first_words(error)
        else:
            return
        raise PeerLostError(problem)  # outside the handler: its frames hold the connections

    def apply(self, *, past_end: bool) -> None:
        """Take one step with the gradients as they are.

        Args:
            past_end: True in measuring beyond the last step, for which there may be no rate.
        """
        scale = self._scaler.get_scale()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        is_skipped = self._scaler.get_scale() < scale  # fp16 overflowed: the optimizer did nothing
        if self._lr_scheduler is not None and not past_end and not is_skipped:
            self._lr_scheduler.step()
