"""What all ranks tell each other in a step, by name: it rides behind the gradients as numbers."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

Number = float | torch.Tensor
"""A number, or a tensor of one that is on an accelerator and not waited for."""


@dataclass(frozen=True)
class Votes:
    """One rank's part of a step beside its gradients, or the sum over all ranks.

    All fields are summed over the ranks. Those that ask for something are 1 on a rank that asks,
    so that a sum above 0 means that somebody does.

    Attributes:
        loss: Sum of the losses, each weighed as its gradient.
        count: Sum of the counts, where the script gives losses as (sum, count); else 0.
        samples: Samples that went into the gradients.
        generation: Number of the generation to enter after the step; rank 0 alone says it.
        leave: Ranks that were asked to leave the job.
        end: Ranks whose script asked to end training.
        save: 1 when rank 0 asks for a checkpoint.
        halvings: One place per possible number of halvings of the micro-batch, with a 1 where the
            rank is; empty where the size is fixed.
    """

    loss: Number = 0.0
    count: Number = 0.0
    samples: float = 0.0
    generation: float = 0.0
    leave: float = 0.0
    end: float = 0.0
    save: float = 0.0
    halvings: tuple[float, ...] = ()

    def pack(self, size: int) -> list[Number]:
        """Return the votes as so many numbers; places that no vote takes are 0."""
        numbers = [
            self.loss,
            self.count,
            self.samples,
            self.generation,
            self.leave,
            self.end,
            self.save,
            *self.halvings,
        ]
        missing = size - len(numbers)
        return numbers + [0.0] * missing if missing else numbers

    @classmethod
    def unpack(cls, numbers: Sequence[float]) -> Votes:
        """Return the votes that ``pack`` made numbers of, or their sum."""
        loss, count, samples, generation, leave, end, save, *halvings = numbers
        return cls(loss, count, samples, generation, leave, end, save, tuple(halvings))

    def with_sums(self, *, loss: Number, count: Number, samples: float) -> Votes:
        """Return the same votes with what the gradients are made of."""
        return Votes(
            loss,
            count,
            samples,
            self.generation,
            self.leave,
            self.end,
            self.save,
            self.halvings,
        )

    @property
    def mean_loss(self) -> float:
        """The step's loss: per count where counts were given."""
        loss, count = float(self.loss), float(self.count)
        return loss / count if count > 0 else loss


_NUM_NAMED = len(fields(Votes)) - 1  # all but the halvings, which come last


def num_votes(num_halvings: int = 0) -> int:
    """Return how many numbers the votes take, with so many places for halvings."""
    return _NUM_NAMED + num_halvings
