"""The size of a forward pass: as the script says, or the largest that was found to fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from eflib.errors import WorkerFailedError

if TYPE_CHECKING:
    from collections.abc import Sequence

AUTO = "auto"


class MicrobatchSize:
    """Most samples of one forward pass, and how often it was halved; travels with the state.

    A rank that runs out of memory halves the size and takes the step again. Which halving it came
    to rides with the step's votes, so that all ranks hold the same when the step is
    committed, and a step that fails changes nothing that ranks compare.

    Args:
        setting: A number, None for no limit, or ``auto``.
        global_batch_size: The size that is halved.
        least: Fewest samples that a forward pass can do with: 2 where BatchNorm is.
    """

    def __init__(self, setting: int | str | None, global_batch_size: int, least: int) -> None:
        self.is_auto = setting == AUTO
        self._fixed = setting if isinstance(setting, int) else None
        self._whole = global_batch_size
        self._least = least
        self._agreed = 0
        self._tried = 0

    @property
    def limit(self) -> int | None:
        """Most samples of one forward pass on this rank; None for no limit."""
        return -(-self._whole // 2**self._tried) if self.is_auto else self._fixed

    @property
    def num_places(self) -> int:
        """How many numbers of halvings are possible: as many places the votes need."""
        return (self._whole - 1).bit_length() + 1 if self.is_auto else 0

    def votes(self) -> tuple[float, ...]:
        """Return this rank's vote: a one at its number of halvings."""
        return tuple(float(place == self._tried) for place in range(self.num_places))

    def agree(self, totals: Sequence[float]) -> bool:
        """Take the smallest size that any rank came to; return whether this rank's has changed."""
        reached = [place for place, total in enumerate(totals) if total > 0]
        before, self._agreed = self._tried, max(reached, default=self._agreed)
        self._tried = self._agreed
        return self._tried != before

    def halve(self, num_samples: int, problem: str) -> None:
        """A forward or backward pass of so many samples did not fit: allow half as many.

        Raises:
            WorkerFailedError: There is nothing to halve.
        """
        smallest = 1 if self._least == 1 else 3  # of 3 and more no part is a single sample
        tried = self._tried
        while -(-self._whole // 2**tried) >= num_samples and tried < self.num_places - 1:
            tried += 1
        size = -(-self._whole // 2**tried)
        if not self.is_auto or size >= num_samples or size < min(smallest, num_samples):
            raise WorkerFailedError(
                f"out of memory in a pass of {num_samples} "
                f"{'sample' if num_samples == 1 else 'samples'}, and fewer cannot be tried",
                detail=problem,
                hint="take a smaller model, precision='bf16', or activation checkpointing "
                "(torch.utils.checkpoint)",
            )
        self._tried = tried

    def state_dict(self) -> dict[str, Any]:
        """Return what all ranks agreed on."""
        return {"halvings": self._agreed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what another rank or run found."""
        if self.is_auto:
            self._agreed = min(int(state_dict["halvings"]), self.num_places - 1)
            self._tried = self._agreed


def is_out_of_memory(error: BaseException) -> bool:
    """True when an error of torch says that memory ran out, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
