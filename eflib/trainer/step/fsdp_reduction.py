"""A step's gradients where FSDP2 sums them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from eflib.trainer.collectives import all_reduce
from eflib.trainer.state import fsdp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eflib.trainer.step.votes import Number


class FsdpReducer:
    """Gradients that FSDP2 has summed in the backward pass; the control numbers go by themselves.

    Args:
        model: The sharded model.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self._stashed: list[tuple[torch.nn.Parameter, torch.Tensor | None]] = []

    def begin(self, rank: int, world_size: int) -> None:
        """Begin a step: there are no gradients."""
        del rank, world_size
        self._stashed = []
        fsdp.reshard(self._model)
        for parameter in self._model.parameters():
            parameter.grad = None

    def stash(self) -> None:
        """Between two backward passes: take the gradients out of the user's reach."""
        self._stashed = [(parameter, parameter.grad) for parameter in self._model.parameters()]
        for parameter, _ in self._stashed:
            parameter.grad = None

    def restore(self) -> None:
        """Go on after ``stash``, before the next backward pass.

        The model may hold gathered parameters now; gradients are of the rows.
        """
        for parameter, grad in self._stashed:
            parameter.grad = grad

    def take_shard(self, control: Sequence[Number], weight: float) -> bool:
        """Leave the numbers for ``reduce``: there is one shard."""
        del control, weight
        return False

    def arm(self, *, world_size: int) -> None:
        """Do nothing: FSDP2 sends as it goes."""

    def reduce(self, control: Sequence[Number], *, world_size: int) -> list[float]:
        """Sum the control numbers over all ranks.

        Raises:
            PeerLostError: A peer is gone.
        """
        numbers = torch.tensor([float(one) for one in control], dtype=torch.float64)
        if world_size > 1:
            all_reduce(numbers)
        return [float(one) for one in numbers]

    def scale(self, factor: float) -> None:
        """Multiply all gradients by a number, after the reduction."""
        for parameter in self._model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(factor)
