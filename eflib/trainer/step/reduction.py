"""Gradients to the mean over the global batch: flat buckets, one sum over ranks each.

Each rank's loss is weighted by its number of samples over the global batch size before the backward
pass, so the plain sum over ranks is the mean over the global batch, however unevenly it is shared,
and a rank without samples adds zeros. That, and raw models in the loop form, is why this is not
DistributedDataParallel: it averages over ranks, needs a forward pass on each and wraps the model.

As there, buckets are filled from the last parameter to the first, and one is sent while the
backward pass goes on, as soon as its gradients are there. All ranks send all buckets in one order,
whatever they used: what is not complete by then is sent after the backward pass.

A few more numbers ride behind the gradients in the last bucket (the control numbers): what ranks
must agree on at a step boundary costs no collective of its own.
"""

from __future__ import annotations

from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import torch

from eflib.trainer.collectives import PeerLostError, Transfer, all_reduce, start_all_reduce
from eflib.trainer.step.buckets import Bucket, group_parameters, make_flat
from eflib.trainer.step.sparse import add_over_ranks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from eflib.trainer.step.votes import Number

BUCKET_BYTES = 25 * 1024 * 1024  # as DistributedDataParallel's default bucket
FIRST_BUCKET_BYTES = 1024 * 1024  # as its first one: it is on its way early

_CARRIERS = (torch.float32, torch.float64)  # what holds the control numbers exactly


class GradientReducer:
    """Owns the flat gradient buffers of a model's parameters.

    A step is ``begin``, backward passes with ``stash`` and ``restore`` between them, ``arm``
    before the last one, and ``reduce``. A rank may leave out all but ``begin`` and ``reduce``. A
    step that broke off before ``reduce`` may begin again: buckets that were on their way already
    held the whole gradients of this rank's samples, and are not sent again.

    Args:
        parameters: Parameters that are trained.
        num_control: How many control numbers ride along.
        sparse: Those of them whose gradients are sparse: they have no room in the buckets, and are
            summed by their rows. A sparse gradient of another parameter is as well, but there is
            room for it, which is sent.
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        *,
        num_control: int,
        sparse: Sequence[torch.nn.Parameter] = (),
    ) -> None:
        own = {id(one) for one in sparse}
        groups = group_parameters(
            [one for one in parameters if one.requires_grad and id(one) not in own],
            first_bytes=FIRST_BUCKET_BYTES,
            bucket_bytes=BUCKET_BYTES,
        )
        self._sparse = list(sparse)
        self._stashed: list[torch.Tensor | None] = [None] * len(self._sparse)
        carriers = [place for place, group in enumerate(groups) if group[0].dtype in _CARRIERS]
        groups.append(groups.pop(carriers[-1]) if carriers else [])
        home = next(iter([*groups[-1], *groups[0], *self._sparse]), None)
        self._buckets = [Bucket(group, make_flat(group)) for group in groups[:-1]]
        self._buckets.append(Bucket(groups[-1], make_flat(groups[-1], num_control + 2, home)))
        # The last two count the ranks with latecomers, and those with sparse gradients in buckets.
        self._control = self._buckets[-1].flat[-num_control - 2 :]
        self._works: list[Transfer] = []  # of the buckets that are on their way, in order
        self._kept = 0  # how many of these an attempt before this one sent
        self._armed = False
        self._hooked = False
        self._overlaps = True
        self._failure = ""

    def begin(self, rank: int = 0, world_size: int = 1) -> None:
        """Begin a step: there are no gradients."""
        del rank, world_size
        self._armed = False
        self._kept = len(self._works)
        for number, bucket in enumerate(self._buckets):
            if number >= self._kept:
                bucket.clear()
            bucket.hide()
        self._stashed = [None] * len(self._sparse)
        self._show_sparse()

    def stash(self) -> None:
        """Between two backward passes of a step: take the gradients out of the user's reach.

        Many loops call ``optimizer.zero_grad()`` for each batch; what the micro-batches before
        have left must outlive that.
        """
        for bucket in self._buckets[self._kept :]:
            bucket.gather()
        for bucket in self._buckets:
            bucket.hide()
        self._stashed = [_compact(one.grad) for one in self._sparse]
        for one in self._sparse:
            one.grad = None

    def restore(self) -> None:
        """Go on after ``stash``, before the next backward pass."""
        for bucket in self._buckets[self._kept :]:
            bucket.show_found()
        self._show_sparse()

    def take_shard(self, control: Sequence[Number], weight: float) -> bool:
        """Leave the numbers for ``reduce``: there is one shard."""
        del control, weight
        return False

    def arm(self, *, world_size: int) -> None:
        """Before the last backward pass of a step: send each bucket once it is complete."""
        if world_size == 1 or not self._overlaps:
            return
        if not self._hooked:
            self._hooked = True
            for bucket in self._buckets[:-1]:  # nothing waits for the last one's gradients
                for place, parameter in enumerate(bucket.parameters):
                    parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                        partial(self._arrived, bucket, place)
                    )
        for number, bucket in enumerate(self._buckets):
            bucket.missing = set(range(len(bucket.parameters) if number >= self._kept else 0))
        self._armed = True

    def reduce(self, control: Sequence[Number], *, world_size: int) -> list[float]:
        """Sum the gradients and the control numbers over all ranks, in place.

        Args:
            control: This rank's control numbers; tensors of one element are not waited for.
            world_size: Size of the current process group; with 1 nothing is sent.

        Returns:
            The summed control numbers.

        Raises:
            PeerLostError: A peer is gone; gradients are then worthless.
        """
        self._armed = False
        if world_size == 1:
            return self._take_alone(control)
        try:
            late = self._hide_late()
            for bucket in self._buckets[len(self._works) :]:
                bucket.gather()
                if bucket is self._buckets[-1]:
                    self._write(control, has_late=bool(late))
                self._send(bucket)
            if self._failure:
                raise PeerLostError(self._failure)
            for work in self._works:
                work.wait()
        finally:
            self._works, self._kept, self._failure = [], 0, ""
        *totals, num_late, num_sparse = self._control.tolist()
        if num_late:
            self._overlaps = False  # on all ranks alike: they see the same number
            self._add_late(late)
        for bucket in self._buckets:
            bucket.show()
        self._add_sparse(in_buckets=num_sparse > 0)
        return totals

    def scale(self, factor: float) -> None:
        """Multiply all gradients by a number, after the reduction."""
        in_buckets = (one for bucket in self._buckets for one in bucket.parameters)
        for parameter in chain(in_buckets, self._sparse):
            if parameter.grad is not None:
                parameter.grad.mul_(factor)

    def _show_sparse(self) -> None:
        for parameter, grad in zip(self._sparse, self._stashed, strict=True):
            parameter.grad = grad

    def _add_sparse(self, *, in_buckets: bool) -> None:
        """Sum sparse gradients over all ranks; those in buckets where a rank says it has some."""
        if self._sparse:
            sums = add_over_ranks(self._sparse, [one.grad for one in self._sparse])
            for parameter, grad in zip(self._sparse, sums, strict=True):
                parameter.grad = grad
        if not in_buckets:
            return
        for bucket in self._buckets:
            own = [bucket.sparse.get(place) for place in range(len(bucket.parameters))]
            for place, grad in enumerate(add_over_ranks(bucket.parameters, own)):
                view = bucket.views[place]
                if grad is None:
                    continue
                if view.any():  # on all ranks alike: some have a dense one, which is summed
                    bucket.parameters[place].grad = view.add_(grad)
                else:
                    bucket.parameters[place].grad = grad

    def _arrived(self, bucket: Bucket, place: int, parameter: torch.nn.Parameter) -> None:
        """In a backward pass: a parameter's gradient is there."""
        del parameter
        if not self._armed or place not in bucket.missing:
            return  # if it came before, it was added in place, or _hide_late finds it
        bucket.gather_one(place)
        bucket.missing.discard(place)
        while len(self._works) < len(self._buckets) - 1:
            following = self._buckets[len(self._works)]
            if following.missing or self._failure:
                return
            self._send(following)
            following.hide()  # what comes now would be lost in a buffer that is on its way

    def _send(self, bucket: Bucket) -> None:
        """Send a bucket off; a loss is kept for ``reduce``, as autograd is no place for it."""
        if self._failure:
            return
        try:
            self._works.append(start_all_reduce(bucket.flat))
        except PeerLostError as error:
            self._failure = str(error)

    def _take_alone(self, control: Sequence[Number]) -> list[float]:
        """Leave the gradients where autograd put them; parameters without one get zeros."""
        for bucket in self._buckets:
            for place, parameter in enumerate(bucket.parameters):
                if parameter.grad is None:
                    bucket.gather_one(place)
        # A sparse gradient that there is none of stays none: dense zeros are refused by optimizers.
        return [float(one) for one in control]

    def _write(self, control: Sequence[Number], *, has_late: bool) -> None:
        known = [0.0 if isinstance(one, torch.Tensor) else one for one in control]
        has_sparse = any(bucket.sparse for bucket in self._buckets)
        self._control.copy_(torch.tensor([*known, float(has_late), float(has_sparse)]))
        for place, one in enumerate(control):
            if isinstance(one, torch.Tensor):
                self._control[place].copy_(one)

    def _hide_late(self) -> list[tuple[int, int, torch.Tensor]]:
        """Return gradients that came when their bucket was on its way: (bucket, place, gradient).

        Activation checkpointing in its reentrant form runs several backward passes within one, and
        a parameter that several of its parts use has a gradient in each.
        """
        late = []
        for number, bucket in enumerate(self._buckets[: len(self._works)]):
            if number >= self._kept:
                for place, parameter in enumerate(bucket.parameters):
                    if parameter.grad is None:
                        continue
                    if parameter.grad.is_sparse:
                        bucket.add_sparse(place, parameter.grad)
                    else:
                        late.append((number, place, parameter.grad))
            bucket.hide()
        return late

    def _add_late(self, late: list[tuple[int, int, torch.Tensor]]) -> None:
        """Some rank had latecomers: all send once more, and add that."""
        for number, bucket in enumerate(self._buckets[:-1]):
            more = Bucket(bucket.parameters, torch.zeros_like(bucket.flat))
            for where, place, grad in late:
                if where == number:
                    more.views[place].copy_(grad)
            all_reduce(more.flat)
            bucket.flat.add_(more.flat)


def unread(number: float | torch.Tensor) -> float | torch.Tensor:
    """Return a control number: one on an accelerator as a tensor, so that nobody waits for it."""
    if not isinstance(number, torch.Tensor):
        return float(number)
    number = number.detach()
    return number.reshape(()) if number.device.type != "cpu" else float(number)


def _compact(grad: torch.Tensor | None) -> torch.Tensor | None:
    """Return a gradient without doubled rows."""
    return grad.coalesce() if grad is not None and grad.is_sparse else grad
