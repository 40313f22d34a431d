"""Deterministic mode: the same bits at any number of workers.

The global batch is cut into a fixed number of virtual shards. Each shard has its own forward and
backward passes, random state and buffers, whoever computes it. What shards give is summed in a
binary tree over the shards, never over ranks: a rank sums the largest whole subtrees of its
contiguous shards, the roots of these are exchanged by chunks, and each chunk is summed in the
order of the tree. So no sum depends on how many ranks there are.

Control numbers (see ``reduction.py``) ride behind the gradients: a shard's loss and count in its
own leaf, small whole numbers, which float32 adds exactly in any order, in any.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from eflib import env
from eflib.trainer.collectives import all_reduce, all_to_all
from eflib.trainer.data.position import share
from eflib.trainer.step.shard_tree import subtrees, tree
from eflib.trainer.step.sparse import UsedRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableMapping, Sequence

    from eflib.trainer.step.buffers import BufferKeeper
    from eflib.trainer.step.votes import Number

NUM_SHARDS = 8


def fix_arithmetic(device: torch.device, environ: MutableMapping[str, str]) -> None:
    """Make one forward and backward pass give the same bits each time, in this process from now on.

    On the CPU the sums of a matrix product are parted among the threads: one thread, unless
    ``OMP_NUM_THREADS`` says how many, which must then be the same for all workers. On a GPU torch's
    deterministic algorithms are chosen; an operation that has none raises torch's error.
    """
    if not env.says_num_threads(environ):
        torch.set_num_threads(1)
    if device.type == "cuda":
        environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
        torch.use_deterministic_algorithms(mode=True)
        torch.backends.cudnn.benchmark = False


@dataclass
class Node:
    """The sum of the shards ``low`` to ``high`` (exclusive).

    ``flats`` are the gradients by dtype and device, ``views`` the parts of them by parameter,
    ``tail`` the numbers behind the gradients, ``buffers`` the weighted changes of buffers.
    """

    flats: list[torch.Tensor]
    views: list[torch.Tensor]
    tail: torch.Tensor
    low: int = 0
    high: int = 0
    buffers: dict[int, torch.Tensor] = field(default_factory=dict)


class VirtualShardReducer:
    """Sums gradients, control numbers and buffers over virtual shards; a ``GradientReducer``'s kin.

    Args:
        parameters: Parameters that are trained.
        buffers: The model's buffers. Each shard begins with those of the step's start; afterwards
            floating-point ones are the mean over the samples, others are those of shard 0.
        num_shards: How many shards the global batch is cut into.
        num_control: How many control numbers ride along.
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        buffers: BufferKeeper,
        *,
        num_shards: int,
        num_control: int,
    ) -> None:
        self._parameters = [one for one in parameters if one.requires_grad]
        self._buffers = buffers
        self._num_shards = num_shards
        self._num_control = num_control + 1  # the last counts the ranks with sparse gradients
        self._used_rows = UsedRows(self._parameters)
        self._splits = tree(0, num_shards)
        self._free: list[Node] = []
        self._stack: list[Node] = []
        self._leaf: Node | None = None
        self._next, self._stop = 0, 0

    # A step, shard by shard ----------------------------------------------------------------------

    def begin(self, rank: int, world_size: int) -> None:
        """Begin a step, as this rank of so many; those beyond the number of shards hold none."""
        self._free += self._stack
        if self._leaf is not None:
            self._free.append(self._leaf)
        self._stack, self._leaf = [], None
        self._next, self._stop = share(self._num_shards, rank, world_size)
        self._buffers.keep()
        self._used_rows.clear()
        for one in self._parameters:
            one.grad = None

    def stash(self) -> None:
        """Between two backward passes of one shard: keep what there is, out of the user's reach."""
        if self._leaf is None:
            self._leaf = self._take_node()
            self._gather(self._leaf, add=False)
        else:
            self._gather(self._leaf, add=True)

    def restore(self) -> None:
        """Go on after ``stash``: there is nothing to be done."""

    def arm(self, *, world_size: int) -> None:
        """Before the last backward pass: nothing is sent before the shard's subtree is whole."""

    def take_shard(self, control: Sequence[Number], weight: float) -> bool:
        """Close the shard at hand, with its control numbers; sum the subtrees that are whole.

        Args:
            control: The shard's control numbers.
            weight: Its part of the step's samples.
        """
        self._end_shard([*control, 0.0], weight)
        return True

    def _end_shard(self, control: Sequence[Number], weight: float) -> None:
        shard, self._next = self._next, self._next + 1
        changed, flags = self._changes(shard, weight)
        tail = self._tail(control, flags)
        top = self._stack[-1] if self._stack else None
        if self._leaf is None and top and (top.low, shard, shard + 1) in self._splits:
            self._gather(top, add=True)  # the sum with the sibling, without a copy of the leaf
            top.tail.add_(tail)
            top.buffers = _sum_buffers(top.buffers, changed)
            top.high = shard + 1
        else:
            leaf = self._leaf or self._take_node()
            self._gather(leaf, add=leaf is self._leaf)
            self._leaf = None
            leaf.tail.copy_(tail)
            leaf.low, leaf.high, leaf.buffers = shard, shard + 1, changed
            self._stack.append(leaf)
        self._fold()

    def reduce(self, control: Sequence[Number], *, world_size: int) -> list[float]:
        """Sum over all shards; gradients and buffers are then those of the step, on every rank.

        Args:
            control: This rank's control numbers; numbers of shards are zero here.
            world_size: Size of the current process group; with 1 nothing is sent.

        Returns:
            The summed control numbers.

        Raises:
            PeerLostError: A peer is gone; buffers are then as at the start.
        """
        while self._next < self._stop:  # shards without a sample
            self._end_shard([0.0] * self._num_control, 0.0)
        total = self._stack[0] if self._stack else self._take_node()
        own = self._tail([*control, float(bool(self._used_rows))])
        spare = world_size > self._num_shards
        if spare:  # ranks without a shard have no leaf that their numbers could ride on
            all_reduce(own)
        elif self._stack:
            total.tail[: self._num_control].add_(own)
        if world_size > 1:
            for place, flat in enumerate(total.flats):
                roots = [node.flats[place] for node in self._stack]
                self._sum_over_ranks(roots, flat, world_size)
        if spare:
            total.tail[: self._num_control].add_(own)
        numbers: list[float] = total.tail.tolist()
        places = [place for place, flag in enumerate(numbers[self._num_control :]) if flag]
        if places:
            self._set_buffers(places, total, world_size)
        self._stack, self._free = (
            [total],
            self._free + [node for node in self._stack if node is not total],
        )
        *totals, num_sparse = numbers[: self._num_control]
        self._show(total.views, world_size, has_sparse=num_sparse > 0)
        return totals

    def _show(self, sums: list[torch.Tensor], world_size: int, *, has_sparse: bool) -> None:
        """Let the parameters' gradients be the sums, sparse where those of all shards were."""
        sparse = self._used_rows.restore(sums, world_size) if has_sparse else {}
        for place, (parameter, total) in enumerate(zip(self._parameters, sums, strict=True)):
            parameter.grad = sparse.get(place, total)

    def scale(self, factor: float) -> None:
        """Multiply all gradients by a number, after the reduction."""
        for one in self._parameters:
            if one.grad is not None:
                one.grad.mul_(factor)

    def _tail(self, control: Sequence[Number], flags: Sequence[float] = ()) -> torch.Tensor:
        """Return numbers as a tensor beside the gradients; those on a GPU are not waited for."""
        known = [0.0 if isinstance(one, torch.Tensor) else one for one in (*control, *flags)]
        device = self._parameters[0].device if self._parameters else None
        tail = torch.tensor(known, dtype=torch.float32, device=device)
        for place, one in enumerate(control):
            if isinstance(one, torch.Tensor):
                tail[place].copy_(one)
        return tail

    # Nodes ---------------------------------------------------------------------------------------

    def _take_node(self) -> Node:
        return self._free.pop() if self._free else self._make_node()

    def _make_node(self) -> Node:
        """Allocate a node: one flat tensor for each dtype and device, the numbers behind one."""
        kinds: dict[tuple[torch.dtype, torch.device], int] = {}
        for one in self._parameters:
            kind = (one.dtype, one.device)
            kinds[kind] = kinds.get(kind, 0) + one.numel()
        carrier = next(
            (kind for kind in kinds if kind[0] == torch.float32),
            (torch.float32, self._parameters[0].device if self._parameters else _CPU),
        )
        size = self._num_control + len(self._buffers)
        kinds[carrier] = kinds.get(carrier, 0) + size
        flats = {
            (dtype, device): torch.zeros(total, dtype=dtype, device=device)
            for (dtype, device), total in kinds.items()
        }
        filled = dict.fromkeys(kinds, 0)
        views = []
        for one in self._parameters:
            kind = (one.dtype, one.device)
            first = filled[kind]
            filled[kind] += one.numel()
            views.append(flats[kind][first : filled[kind]].view(one.shape))
        tail = flats[carrier][-size:]
        return Node(list(flats.values()), views, tail)

    def _gather(self, node: Node, *, add: bool) -> None:
        """Move the gradients that autograd left at the parameters into a node."""
        views, grads = [], []
        for place, (parameter, view) in enumerate(zip(self._parameters, node.views, strict=True)):
            grad, parameter.grad = parameter.grad, None
            if grad is not None:
                views.append(view)
                grads.append(self._used_rows.to_dense(place, grad))
            elif add:
                view.add_(0.0)  # as a leaf of zeros would be: -0.0 becomes 0.0
            else:
                view.zero_()
        with torch.no_grad():
            if views and add:
                torch._foreach_add_(views, grads)
            elif views:
                torch._foreach_copy_(views, grads)

    def _fold(self) -> None:
        while len(self._stack) > 1:
            left, right = self._stack[-2:]
            if (left.low, right.low, right.high) not in self._splits:
                return
            for mine, other in zip(left.flats, right.flats, strict=True):
                mine.add_(other)
            left.buffers = _sum_buffers(left.buffers, right.buffers)
            left.high = right.high
            self._free.append(self._stack.pop())

    # Buffers -------------------------------------------------------------------------------------

    def _changes(self, shard: int, weight: float) -> tuple[dict[int, torch.Tensor], list[float]]:
        """Return what a shard adds to each buffer, and which it changed; go back to the start."""
        changed: dict[int, torch.Tensor] = {}
        flags = [0.0] * len(self._buffers)
        for place, buffer in self._buffers.restore().items():
            flags[place] = 1.0
            if buffer.is_floating_point():
                base = _finite(self._buffers.start[place])
                changed[place] = weight * (buffer.double() - base).reshape(-1)
            elif shard == 0:
                changed[place] = _as_numbers(buffer)
        return changed, flags

    def _set_buffers(self, places: list[int], total: Node, world_size: int) -> None:
        """Set the buffers that any shard changed to the start's and the sum of all changes."""
        starts = [self._buffers.start[place] for place in places]
        sizes = [
            start.numel() * (1 if start.is_floating_point() else start.element_size())
            for start in starts
        ]
        device = starts[0].device
        rows = []
        for node in [total] if world_size == 1 else self._stack:
            parts = []
            for place, start, size in zip(places, starts, sizes, strict=True):
                part = node.buffers.get(place)
                if part is None and node.low == 0 and not start.is_floating_point():
                    part = _as_numbers(start)
                if part is None:
                    part = torch.zeros(size, dtype=torch.float64)
                parts.append(part.to(device))
            rows.append(torch.cat(parts))
        summed = rows[0] if rows else torch.zeros(sum(sizes), dtype=torch.float64, device=device)
        if world_size > 1:
            self._sum_over_ranks(rows, summed, world_size)
        for place, part in zip(places, torch.split(summed, sizes), strict=True):
            self._buffers.write(place, _applier(part))

    # Between ranks -------------------------------------------------------------------------------

    def _sum_over_ranks(self, roots: list[torch.Tensor], out: torch.Tensor, world: int) -> None:
        """Sum the roots of all ranks in the order of the tree, into ``out`` on every rank."""
        spans = [
            subtrees(self._splits, *share(self._num_shards, rank, world)) for rank in range(world)
        ]
        if world == 2 and len(spans[0]) == len(spans[1]) == 1 and out.dtype in _EXACT:
            all_reduce(out)  # of two numbers there is but one sum
            return
        rank = dist.get_rank()
        bounds = [share(out.numel(), other, world) for other in range(world)]
        sizes = [high - low for low, high in bounds]
        if len(roots) == 1:
            mine = roots[0]
        else:
            mine = torch.cat([out[:0], *(one[a:b] for a, b in bounds for one in roots)])
        own = sizes[rank]
        received = out.new_empty(own * sum(len(one) for one in spans))
        all_to_all(
            received,
            mine,
            received_sizes=[own * len(one) for one in spans],
            sent_sizes=[size * len(roots) for size in sizes],
        )
        flat_spans = [span for one in spans for span in one]
        rows = [received[own * place : own * (place + 1)] for place in range(len(flat_spans))]
        chunk = self._sum_in_order(flat_spans, rows)
        all_to_all(out, chunk.repeat(world), received_sizes=sizes, sent_sizes=[own] * world)

    def _sum_in_order(self, spans: list[tuple[int, int]], rows: list[torch.Tensor]) -> torch.Tensor:
        stack: list[tuple[int, int, torch.Tensor]] = []
        for (low, high), row in zip(spans, rows, strict=True):
            stack.append((low, high, row))
            while len(stack) > 1 and (stack[-2][0], *stack[-1][:2]) in self._splits:
                _, end, right = stack.pop()
                start, _, left = stack.pop()
                stack.append((start, end, left.add_(right)))
        return stack[0][2]


_CPU = torch.device("cpu")
_EXACT = (torch.float32, torch.float64)  # dtypes that every backend adds with one rounding


def _sum_buffers(
    left: dict[int, torch.Tensor], right: dict[int, torch.Tensor]
) -> dict[int, torch.Tensor]:
    """Add two nodes' changes; what one lacks counts as zeros there, as when it is exchanged."""
    none = torch.zeros(())
    return {
        place: left.get(place, none) + right.get(place, none)
        for place in left.keys() | right.keys()
    }


def _finite(start: torch.Tensor) -> torch.Tensor:
    """Return what changes are counted from: 0 where the start is infinite or no number."""
    return torch.nan_to_num(start.double(), nan=0.0, posinf=0.0, neginf=0.0)


def _as_numbers(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor's bytes as numbers, which are summed with zeros exactly."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).double()


def _applier(part: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return how a buffer's new value is made of its start and the summed part."""

    def apply(start: torch.Tensor) -> torch.Tensor:
        if start.is_floating_point():
            return (_finite(start) + part.view(start.shape)).to(start.dtype)
        return part.to(torch.uint8).view(start.dtype).view(start.shape)

    return apply
