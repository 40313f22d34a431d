"""Gradients to the mean over the global batch: flat buckets, one sum over ranks each.

Each rank's loss is weighted by its number of samples over the global batch size before the backward
pass, so the plain sum over ranks is the mean over the global batch, however unevenly it is shared,
and a rank without samples adds zeros. That, and raw models in the loop form, is why this is not
DistributedDataParallel: it averages over ranks, needs a forward pass on each and wraps the model.

A few more numbers ride behind the gradients in the last bucket (the control numbers): what ranks
must agree on at a step boundary costs no collective of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BUCKET_BYTES = 25 * 1024 * 1024  # as DistributedDataParallel's default bucket


class GradientReducer:
    """Owns the flat gradient buffers of a model's parameters.

    Args:
        parameters: Parameters that are trained.
        num_control: How many control numbers ride along.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], *, num_control: int) -> None:
        trained = [one for one in parameters if one.requires_grad]
        groups = _group(trained)
        carrier = _last_float32(groups)
        if carrier == len(groups):
            groups.append([])
        self._buckets: list[torch.Tensor] = []
        self._views: list[tuple[torch.nn.Parameter, torch.Tensor]] = []
        for place, group in enumerate(groups):
            self._allocate(group, extra=num_control if place == carrier else 0)
        flat = self._buckets[carrier]
        self._control = flat[flat.numel() - num_control :]

    def _allocate(self, parameters: Sequence[torch.nn.Parameter], *, extra: int) -> None:
        dtype, device = torch.float32, torch.device("cpu")
        if parameters:
            dtype, device = parameters[0].dtype, parameters[0].device
        size = sum(one.numel() for one in parameters)
        flat = torch.zeros(size + extra, dtype=dtype, device=device)
        offset = 0
        for one in parameters:
            self._views.append((one, flat[offset : offset + one.numel()].view_as(one)))
            offset += one.numel()
        self._buckets.append(flat)

    def zero(self) -> None:
        """Begin a step: gradients are zero and lie in the buckets."""
        for bucket in self._buckets:
            bucket.zero_()
        for parameter, view in self._views:
            parameter.grad = view

    def reduce(self, control: Sequence[float], *, world_size: int) -> list[float]:
        """Sum the gradients and the control numbers over all ranks, in place.

        Args:
            control: This rank's control numbers.
            world_size: Size of the current process group; with 1 nothing is sent.

        Returns:
            The summed control numbers.

        Raises:
            RuntimeError: A peer is gone (as torch raises it); gradients are then worthless.
        """
        self._gather()
        self._control.copy_(torch.tensor(control, dtype=torch.float32))
        if world_size > 1:
            works = [dist.all_reduce(bucket, async_op=True) for bucket in self._buckets]
            for work in works:
                work.wait()
        return self._control.tolist()

    def put_away(self) -> None:
        """Between two backward passes of a step: take the gradients out of the user's reach.

        Many loops call ``optimizer.zero_grad()`` for each batch; what the micro-batches before
        have left must outlive that.
        """
        self._gather()
        for parameter, _ in self._views:
            parameter.grad = None

    def take_up(self) -> None:
        """Go on after ``put_away``, before the next backward pass."""
        for parameter, view in self._views:
            parameter.grad = view

    def scale(self, factor: float) -> None:
        """Multiply all gradients by a number, after the reduction."""
        for _, view in self._views:
            view.mul_(factor)

    def _gather(self) -> None:
        """Take gradients that autograd or the user's code put elsewhere into the buckets."""
        for parameter, view in self._views:
            grad = parameter.grad
            if grad is view:
                continue
            if grad is None:
                view.zero_()
            else:
                view.copy_(grad)
            parameter.grad = view


def _last_float32(groups: Sequence[Sequence[torch.nn.Parameter]]) -> int:
    """Return which bucket can carry the control numbers; one past the end when none can."""
    for place in reversed(range(len(groups))):
        if groups[place][0].dtype == torch.float32:
            return place
    return len(groups)


def _group(parameters: Sequence[torch.nn.Parameter]) -> list[list[torch.nn.Parameter]]:
    """Split parameters into buckets of one dtype and device, at most ``BUCKET_BYTES`` each."""
    buckets: list[list[torch.nn.Parameter]] = []
    kinds: dict[tuple[torch.dtype, torch.device], tuple[int, int]] = {}
    for one in parameters:
        kind = (one.dtype, one.device)
        size = one.numel() * one.element_size()
        place, filled = kinds.get(kind, (-1, 0))
        if place < 0 or filled + size > BUCKET_BYTES:
            buckets.append([])
            place, filled = len(buckets) - 1, 0
        buckets[place].append(one)
        kinds[kind] = (place, filled + size)
    return buckets
