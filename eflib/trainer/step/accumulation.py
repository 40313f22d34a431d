"""A step's gradients: micro-batches go in one by one, the sum over all ranks comes out."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

from eflib.errors import StateMismatchError, UsageError
from eflib.trainer.step.buffers import BufferKeeper
from eflib.trainer.step.deterministic import VirtualShardReducer
from eflib.trainer.step.fsdp_reduction import FsdpReducer
from eflib.trainer.step.losses import check_count, read_loss
from eflib.trainer.step.reduction import GradientReducer, unread
from eflib.trainer.step.sparse import sparse_parameters
from eflib.trainer.step.votes import Number, Votes, num_votes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from eflib.trainer.data.position import Block
    from eflib.trainer.data.split import StepShare
    from eflib.trainer.step.sync_batchnorm import RankSum


class Reducer(Protocol):
    """Sums the gradients of one step over its micro-batches and ranks."""

    def begin(self, rank: int, world_size: int) -> None:
        """Begin a step: there are no gradients."""

    def stash(self) -> None:
        """Between two backward passes: take the gradients out of the user's reach."""

    def restore(self) -> None:
        """Go on after ``stash``, before the next backward pass."""

    def arm(self, *, world_size: int) -> None:
        """Before the last backward pass: gradients may be sent while it goes on."""

    def take_shard(self, control: Sequence[Number], weight: float) -> bool:
        """A virtual shard is complete: take its control numbers; False where there are none."""

    def reduce(self, control: Sequence[Number], *, world_size: int) -> list[float]:
        """Sum gradients and control numbers over all ranks."""

    def scale(self, factor: float) -> None:
        """Multiply all gradients by a number, after the reduction."""


def describe_trained(model: torch.nn.Module) -> str:
    """Name the gradients that are exchanged, in a few words: they must be the same on all ranks."""
    sparse = {id(one) for one in sparse_parameters(model)}
    trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
    lines = [f"{name}: {id(one) in sparse}" for name, one in trained.items()]
    size = sum(one.numel() for one in trained.values())
    mark = hashlib.blake2b("\n".join(lines).encode(), digest_size=4).hexdigest()
    return f"{size} values in {len(trained)} tensors ({mark})"


class Accumulation:
    """Accumulates the gradients of one step at a time.

    Args:
        model: The model whose parameters are trained.
        scaler: Scales losses before the backward pass.
        num_shards: Number of virtual shards (deterministic mode), or None.
        num_halvings: Places in the votes for halvings of the micro-batch.
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
        num_halvings: int = 0,
        undoable: bool,
        rank_sum: RankSum | None = None,
        sharded: bool = False,
    ) -> None:
        self._scaler = scaler
        self._buffers = BufferKeeper(model)
        self._undoable = undoable
        self._rank_sum = rank_sum
        self.trained = describe_trained(model)
        parameters = model.parameters()
        self._num_votes = num_control = num_votes(num_halvings)
        self._reducer: Reducer
        self._before_padding = BufferKeeper(model) if sharded else None
        if sharded:
            self._reducer = FsdpReducer(model)
        elif num_shards is None:
            self._reducer = GradientReducer(
                parameters, num_control=num_control, sparse=sparse_parameters(model)
            )
        else:
            self._reducer = VirtualShardReducer(
                parameters, self._buffers, num_shards=num_shards, num_control=num_control
            )
        self._loss: Number = 0.0  # of the micro-batches that were taken, or of the shard at hand
        self._count: Number = 0.0
        self._has_counts: bool | None = None  # None before the first loss of a step
        self._firsts: tuple[Block, ...] = ()
        self._lasts: dict[Block, int] = {}  # the size of the shard that each ends
        self._world_size = 1
        self._num_taken = 0
        self.blocks: tuple[Block, ...] = ()
        self.turns: tuple[Block, ...] = ()
        self.step_size = 1

    def begin(
        self,
        share: StepShare,
        *,
        rank: int,
        world_size: int,
    ) -> None:
        """Begin a step.

        Args:
            share: This rank's micro-batches.
            rank: This worker's rank.
            world_size: Number of workers.
        """
        self.blocks, self.step_size = share.blocks, share.batch.size
        self.turns, self._num_taken = (*self.blocks, *share.padding), 0
        self._firsts = tuple(shard[0] for shard in share.shards)
        self._lasts = {shard[-1]: sum(block.size for block in shard) for shard in share.shards}
        self._loss, self._count, self._has_counts = 0.0, 0.0, None
        self._world_size = world_size
        if self._undoable:
            self._buffers.keep()
        if self._rank_sum is not None:
            self._rank_sum.open(everybody=share.is_even)
        self._reducer.begin(rank, world_size)
        if self._before_padding is not None and share.padding and not self.blocks:
            self._before_padding.keep()

    @property
    def is_complete(self) -> bool:
        """True when the micro-batches of the step have all been added."""
        return self._num_taken == len(self.turns)

    def add(self, block: Block, loss: object) -> None:
        """Run the backward pass of one micro-batch.

        Args:
            block: Its samples.
            loss: The mean over them, or a pair (sum, count).

        Raises:
            UsageError: The loss cannot be used, or only some losses of a step come with a count.
        """
        given = read_loss(loss)
        has_count = given.count is not None
        if self._has_counts not in {None, has_count}:
            raise UsageError(
                "some losses of a step come with a count and others do not",
                hint="give each micro-batch's loss in the same form",
            )
        self._has_counts = has_count
        total, count = given.total, 0.0 if given.count is None else given.count
        if not has_count:
            total = total * (block.size / self.step_size)
        self._num_taken += 1
        is_padding = self._num_taken > len(self.blocks)
        if is_padding:  # weighted with nothing: all ranks must take as many turns
            total, count = total * 0.0, 0.0
        if is_padding or block not in self._firsts:
            self._reducer.restore()
        if self.is_complete and self._rank_sum is None:  # with it all ranks sum in one order
            self._reducer.arm(world_size=self._world_size)
        self._scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        self._loss += unread(total)
        self._count += unread(count)
        if len(self.turns) > len(self.blocks):
            self._end_padded_turn()
        elif block not in self._lasts:
            self._reducer.stash()
        elif self._reducer.take_shard(
            Votes(loss=self._loss, count=self._count).pack(self._num_votes),
            self._lasts[block] / self.step_size,
        ):
            self._loss, self._count = 0.0, 0.0

    def _end_padded_turn(self) -> None:
        """End a turn of a step with padding, which leaves neither gradients nor buffers."""
        if not self.is_complete:
            self._reducer.stash()
        if self._before_padding is None:
            return
        if self._num_taken == len(self.blocks):
            self._before_padding.keep()
        if self.is_complete:
            self._before_padding.restore()

    def undo(self) -> None:
        """Take back what the forward passes of the step at hand did to buffers."""
        if self._undoable:
            self._buffers.restore()

    def reduce(self, votes: Votes) -> Votes:
        """Sum over all ranks; afterwards gradients are those of the whole batch.

        Args:
            votes: What this rank asks for; loss, count and samples are known here.

        Returns:
            The sum of all ranks' votes.

        Raises:
            PeerLostError: A peer is gone.
            StateMismatchError: The shares of all ranks are not the batch that this one knows.
            UsageError: Losses came with counts that add up to nothing.
        """
        samples = float(sum(block.size for block in self.blocks))
        own = votes.with_sums(loss=self._loss, count=self._count, samples=samples)
        if self._rank_sum is not None:
            self._rank_sum.close(samples / max(self.step_size, 1))
        numbers = self._reducer.reduce(own.pack(self._num_votes), world_size=self._world_size)
        totals = Votes.unpack(numbers)
        if totals.samples != self.step_size:
            raise StateMismatchError(
                f"the ranks hold {totals.samples:g} samples of a step that has {self.step_size}",
                hint="an iterable data set must give all ranks the same stream: let it depend on "
                "neither rank nor world size",
            )
        count = float(totals.count)
        if self._has_counts:
            check_count(count)
        if count > 0:
            self._reducer.scale(1.0 / count)
        return totals
