"""A step's gradients: micro-batches go in one by one, the sum over all ranks comes out."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from eflib.errors import StateMismatchError
from eflib.trainer.step.buffers import BufferKeeper
from eflib.trainer.step.deterministic import ShardReducer
from eflib.trainer.step.reduction import GradientReducer, unread
from eflib.trainer.step.sharded_reduction import ShardedReducer

if TYPE_CHECKING:
    from eflib.trainer.data.position import Block
    from eflib.trainer.step.sync_batchnorm import RankSum

LOSS, COUNT, DECISION, LEAVING, ENDING, SAMPLES, SAVING = range(7)  # a step's control numbers
NUM_CONTROL = 7


class Accumulation:
    """Accumulates the gradients of one step at a time.

    Args:
        model: The model whose parameters are trained.
        scaler: Scales losses before the backward pass.
        num_shards: Number of virtual shards (deterministic mode), or None.
        num_control: Number of control numbers: ``NUM_CONTROL``, and what else ranks agree on.
        undoable: Keep the buffers of each step's start, so that ``undo`` can go back to them.
        rank_sum: Of BatchNorm layers that sum over ranks, or None.
        sharded: FSDP2 sums the gradients: all ranks take as many turns.
    """

    def __init__(  # noqa: PLR0913 - each is a choice of the script
        self,
        model: torch.nn.Module,
        scaler: torch.amp.GradScaler,
        *,
        num_shards: int | None,
        num_control: int,
        undoable: bool,
        rank_sum: RankSum | None = None,
        sharded: bool = False,
    ) -> None:
        self._scaler = scaler
        self._buffers = BufferKeeper(model)
        self._undoable = undoable
        self._rank_sum = rank_sum
        parameters = model.parameters()
        self._reducer: GradientReducer | ShardReducer | ShardedReducer
        if sharded:
            self._reducer = ShardedReducer(model)
            self._padded = BufferKeeper(model)
        elif num_shards is None:
            self._reducer = GradientReducer(parameters, num_control=num_control)
        else:
            self._reducer = ShardReducer(
                parameters, self._buffers, num_shards=num_shards, num_control=num_control
            )
        self._num_control = num_control
        self._numbers: list[Any] = []
        self._firsts: tuple[Block, ...] = ()
        self._lasts: dict[Block, int] = {}  # the size of the shard that each ends
        self._world_size = 1
        self._num_taken = 0
        self.blocks: tuple[Block, ...] = ()
        self.turns: tuple[Block, ...] = ()
        self.step_size = 1

    def begin(
        self,
        shards: tuple[tuple[Block, ...], ...],
        step_size: int,
        *,
        rank: int,
        world_size: int,
        is_even: bool = False,
        padding: tuple[Block, ...] = (),
    ) -> None:
        """Begin a step.

        Args:
            shards: This rank's micro-batches by shard.
            step_size: Samples of the step over all ranks.
            rank: This worker's rank.
            world_size: Number of workers.
            is_even: True when all ranks have as many micro-batches.
            padding: Micro-batches that count for nothing, so that all ranks take as many turns.
        """
        self.blocks, self.step_size = tuple(chain(*shards)), step_size
        self.turns, self._num_taken = (*self.blocks, *padding), 0
        self._firsts = tuple(shard[0] for shard in shards)
        self._lasts = {shard[-1]: sum(block.size for block in shard) for shard in shards}
        self._numbers = [0.0] * self._num_control
        self._world_size = world_size
        if self._undoable:
            self._buffers.keep()
        if self._rank_sum is not None:
            self._rank_sum.open(everybody=is_even)
        if isinstance(self._reducer, ShardReducer):
            self._reducer.begin(rank, world_size)
        else:
            self._reducer.zero()
        if padding and not self.blocks:
            self._padded.keep()

    @property
    def is_complete(self) -> bool:
        """True when the micro-batches of the step have all been added."""
        return self._num_taken == len(self.turns)

    def add(self, block: Block, loss: torch.Tensor | tuple[torch.Tensor, Any]) -> None:
        """Run the backward pass of one micro-batch."""
        if isinstance(loss, tuple):
            total, count = loss
        else:
            total, count = loss * (block.size / self.step_size), 0.0
        self._num_taken += 1
        if isinstance(self._reducer, ShardedReducer):
            self._add_sharded(self._reducer, total, count)
            return
        if block not in self._firsts:
            self._reducer.take_up()
        if block == self.blocks[-1] and self._rank_sum is None:  # all ranks sum in one order
            self._reducer.arm(world_size=self._world_size)
        self._scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        self._numbers[LOSS] += unread(total)
        self._numbers[COUNT] += unread(count)
        if block not in self._lasts:
            self._reducer.put_away()
        elif isinstance(self._reducer, ShardReducer):
            self._reducer.end_shard(self._numbers, self._lasts[block] / self.step_size)
            self._numbers = [0.0] * self._num_control

    def _add_sharded(self, reducer: ShardedReducer, total: torch.Tensor, count: Any) -> None:  # noqa: ANN401 - a number or a tensor
        """Run a backward pass in which all ranks take part; padding is weighted with nothing."""
        if self._num_taken > len(self.blocks):
            total, count = total * 0.0, 0.0
        if self._num_taken > 1:
            reducer.take_up()
        total.backward()  # type: ignore[no-untyped-call]
        self._numbers[LOSS] += unread(total)
        self._numbers[COUNT] += unread(count)
        if not self.is_complete:
            reducer.put_away()
        if len(self.turns) > len(self.blocks):
            if self._num_taken == len(self.blocks):
                self._padded.keep()
            if self.is_complete:
                self._padded.restore()

    def undo(self) -> None:
        """Take back what the forward passes of the step at hand did to buffers."""
        if self._undoable:
            self._buffers.restore()

    def reduce(self, control: dict[int, float]) -> list[float]:
        """Sum over all ranks; afterwards gradients are those of the whole batch.

        Args:
            control: Control numbers by their place; loss, count and samples are known here.

        Raises:
            PeerLostError: A peer is gone.
            StateMismatchError: The shares of all ranks are not the batch that this one knows.
        """
        self._numbers[SAMPLES] = float(sum(block.size for block in self.blocks))
        for place, number in control.items():
            self._numbers[place] = number
        if self._rank_sum is not None:
            self._rank_sum.close(self._numbers[SAMPLES] / max(self.step_size, 1))
        totals = self._reducer.reduce(self._numbers, world_size=self._world_size)
        if totals[SAMPLES] != self.step_size:
            raise StateMismatchError(
                f"the ranks hold {totals[SAMPLES]:g} samples of a step that has {self.step_size}",
                hint="an iterable data set must give all ranks the same stream: let it depend on "
                "neither rank nor world size",
            )
        if totals[COUNT] > 0:
            self._reducer.scale(1.0 / totals[COUNT])
        return totals
