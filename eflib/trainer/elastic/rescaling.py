"""Times a job's changes of size: from the last step at the old size to the first at the new one."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eflib.messages.fields import shortened
from eflib.messages.inbox import Switched
from eflib.trainer.data.position import share

if TYPE_CHECKING:
    from eflib.messages.generations import Generation


@dataclass
class Rescale:
    """One change of a job's membership, with its pause by part, in seconds.

    Attributes:
        generation: Number of the generation that was entered.
        step: The step at which it was.
        from_: Number of workers in the last step before; 0 for a job's first generation.
        to: Number of workers since.
        pause_s: Time in which no step was done.
        parts: What it was spent on.
        reason: Why the generation was made.
        shares: Samples of each rank, before and after.
        passes: Forward passes that rank 0 takes for its own, before and after.
    """

    generation: int
    step: int
    from_: int
    to: int
    pause_s: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    shares: str = ""
    passes: str = ""

    def to_message(self, job: str) -> Switched:
        """Return what the coordinator is told of it."""
        return Switched(
            job=job,
            generation=self.generation,
            step=self.step,
            from_=self.from_,
            to=self.to,
            pause_s=max(self.pause_s, 0.0),
            parts=self.parts,
            reason=self.reason,
            shares=shortened(self.shares),
            passes=self.passes,
        )

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {seconds:.3f}" for name, seconds in self.parts.items())
        return (
            f"rescaled {self.from_} -> {self.to} workers at step {self.step}: "
            f"{self.shares} samples a rank, in {self.passes} passes on rank 0; "
            f"pause {self.pause_s:.3f} s ({parts})"
        )


class RescaleClock:
    """Follows one worker from generation to generation.

    Args:
        global_batch_size: Samples of a step over all ranks.
        least_share: Fewest samples that a rank gets, if it gets any.
    """

    def __init__(self, global_batch_size: int, least_share: int) -> None:
        self._batch = (global_batch_size, least_share)
        self._rescale: Rescale | None = None
        self._size = 0  # workers in the last step
        self._passes = 0
        self._begin = self._left = self._entered = self._last_step = time.perf_counter()

    def leave(self) -> None:
        """A generation is left in order, between two steps."""
        self._left = time.perf_counter()
        self._begin = self._left if self._is_between_steps() else self._last_step

    def lose(self) -> None:
        """A peer was lost: the pause began with the end of the last step."""
        self._left = time.perf_counter()
        self._begin = self._last_step

    def _is_between_steps(self) -> bool:
        """False where a change of size follows another, with no step in between."""
        return self._rescale is None

    def enter(self, generation: Generation, step: int, parts: dict[str, float]) -> None:
        """A generation was entered.

        Args:
            generation: The generation.
            step: The step at which its state is.
            parts: Seconds that entering took, by part.
        """
        self._entered = time.perf_counter()
        before = {} if self._begin == self._left else {"lost": self._left - self._begin}
        agree = max(0.0, self._entered - self._left - sum(parts.values()))
        self._rescale = Rescale(
            generation=generation.number,
            step=step,
            from_=self._size,
            to=generation.world_size,
            parts={**before, "agree": agree, **parts},
            reason=generation.reason,
        )

    def step_done(self, passes: int) -> Rescale | None:
        """A step was done, in so many forward passes; return the change of size that it ends."""
        now = self._last_step = time.perf_counter()
        rescale, self._rescale = self._rescale, None
        passes_before, self._passes = self._passes, passes
        if rescale is None:
            return None
        rescale.parts["first_step"] = now - self._entered
        rescale.pause_s = now - self._begin
        shares = [spell_shares(*self._batch, size) for size in (rescale.from_, rescale.to)]
        rescale.shares = " -> ".join(shares)
        rescale.passes = f"{passes_before if rescale.from_ else 0} -> {passes}"
        self._size = rescale.to
        return rescale


def spell_shares(total: int, least: int, world_size: int) -> str:
    """Spell how a global batch is shared: ``22+21+21``, or ``16x4``.

    Examples:
        >>> spell_shares(64, 1, 3), spell_shares(64, 1, 4), spell_shares(64, 1, 0)
        ('22+21+21', '16x4', '0')
    """
    if world_size < 1:
        return "0"
    shares = [share(total, rank, world_size, least) for rank in range(world_size)]
    sizes = [stop - start for start, stop in shares]
    if len(set(sizes)) == 1:
        return f"{sizes[0]}x{world_size}"
    return "+".join(str(size) for size in sizes)
