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
from typing import TYPE_CHECKING, Any

import torch

from eflib.trainer.collectives import PeerLostError, Transfer, all_reduce, start_all_reduce

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BUCKET_BYTES = 25 * 1024 * 1024  # as DistributedDataParallel's default bucket
FIRST_BUCKET_BYTES = 1024 * 1024  # as its first one: it is on its way early

_CARRIERS = (torch.float32, torch.float64)  # what holds the control numbers exactly


class _Bucket:
    """A flat buffer, and the parameters whose gradients it holds."""

    def __init__(self, parameters: list[torch.nn.Parameter], flat: torch.Tensor) -> None:
        self.parameters = parameters
        self.flat = flat
        self.views: list[torch.Tensor] = []
        self.missing: set[int] = set()  # places whose gradient the last backward pass is to bring
        offset = 0
        for one in parameters:
            self.views.append(flat[offset : offset + one.numel()].view_as(one))
            offset += one.numel()

    def gather(self) -> None:
        """Take all gradients into the buffer, wherever autograd or the user's code put them."""
        for place in range(len(self.parameters)):
            self.gather_one(place)

    def gather_one(self, place: int) -> None:
        """Take one parameter's gradient into the buffer."""
        parameter, view = self.parameters[place], self.views[place]
        grad = parameter.grad
        if grad is view:
            return
        if grad is None:
            view.zero_()
        else:
            view.copy_(grad)
        parameter.grad = view

    def show(self) -> None:
        """Let the parameters' gradients be those in the buffer."""
        for parameter, view in zip(self.parameters, self.views, strict=True):
            parameter.grad = view

    def hide(self) -> None:
        """Take the gradients out of everybody's reach."""
        for parameter in self.parameters:
            parameter.grad = None


class GradientReducer:
    """Owns the flat gradient buffers of a model's parameters.

    A step is ``zero``, backward passes with ``put_away`` and ``take_up`` between them, ``arm``
    before the last one, and ``reduce``. A rank may leave out all but ``zero`` and ``reduce``. A
    step that broke off before ``reduce`` may begin again with ``zero``: buckets that were on their
    way already held the whole gradients of this rank's samples, and are not sent again.

    Args:
        parameters: Parameters that are trained.
        num_control: How many control numbers ride along.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], *, num_control: int) -> None:
        groups = _group([one for one in parameters if one.requires_grad])
        carriers = [place for place, group in enumerate(groups) if group[0].dtype in _CARRIERS]
        groups.append(groups.pop(carriers[-1]) if carriers else [])
        home = (groups[-1] or groups[0])[0] if groups[0] else None
        self._buckets = [_Bucket(group, _flat(group)) for group in groups[:-1]]
        self._buckets.append(_Bucket(groups[-1], _flat(groups[-1], num_control + 1, home)))
        self._control = self._buckets[-1].flat[-num_control - 1 :]  # the last one counts latecomers
        self._works: list[Transfer] = []  # of the buckets that are on their way, in order
        self._kept = 0  # how many of these an attempt before this one sent
        self._armed = False
        self._hooked = False
        self._overlaps = True
        self._failure = ""

    def zero(self) -> None:
        """Begin a step: there are no gradients."""
        self._armed = False
        self._kept = len(self._works)
        for bucket in self._buckets:
            bucket.hide()

    def put_away(self) -> None:
        """Between two backward passes of a step: take the gradients out of the user's reach.

        Many loops call ``optimizer.zero_grad()`` for each batch; what the micro-batches before
        have left must outlive that.
        """
        for bucket in self._buckets[self._kept :]:
            bucket.gather()
        for bucket in self._buckets:
            bucket.hide()

    def take_up(self) -> None:
        """Go on after ``put_away``, before the next backward pass."""
        for bucket in self._buckets[self._kept :]:
            bucket.show()

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

    def reduce(self, control: Sequence[float | torch.Tensor], *, world_size: int) -> list[float]:
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
            self._write(control, has_late=bool(late))
            for bucket in self._buckets[len(self._works) :]:
                bucket.gather()
                self._send(bucket)
            if self._failure:
                raise PeerLostError(self._failure)
            for work in self._works:
                work.wait()
        finally:
            self._works, self._kept, self._failure = [], 0, ""
        *totals, num_late = self._control.tolist()
        if num_late:
            self._overlaps = False  # on all ranks alike: they see the same number
            self._add_late(late)
        for bucket in self._buckets:
            bucket.show()
        return totals

    def scale(self, factor: float) -> None:
        """Multiply all gradients by a number, after the reduction."""
        for bucket in self._buckets:
            for parameter in bucket.parameters:
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)

    def _arrived(self, bucket: _Bucket, place: int, parameter: torch.nn.Parameter) -> None:
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

    def _send(self, bucket: _Bucket) -> None:
        """Send a bucket off; a loss is kept for ``reduce``, as autograd is no place for it."""
        if self._failure:
            return
        try:
            self._works.append(start_all_reduce(bucket.flat))
        except PeerLostError as error:
            self._failure = str(error)

    def _take_alone(self, control: Sequence[float | torch.Tensor]) -> list[float]:
        """Leave the gradients where autograd put them; parameters without one get zeros."""
        for bucket in self._buckets:
            for place, parameter in enumerate(bucket.parameters):
                if parameter.grad is None:
                    bucket.gather_one(place)
        return [float(one) for one in control]

    def _write(self, control: Sequence[float | torch.Tensor], *, has_late: bool) -> None:
        known = [0.0 if isinstance(one, torch.Tensor) else one for one in control]
        self._control.copy_(torch.tensor([*known, float(has_late)]))
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
                    if parameter.grad is not None:
                        late.append((number, place, parameter.grad))
            bucket.hide()
        return late

    def _add_late(self, late: list[tuple[int, int, torch.Tensor]]) -> None:
        """Some rank had latecomers: all send once more, and add that."""
        for number, bucket in enumerate(self._buckets[:-1]):
            more = _Bucket(bucket.parameters, torch.zeros_like(bucket.flat))
            for where, place, grad in late:
                if where == number:
                    more.views[place].copy_(grad)
            all_reduce(more.flat)
            bucket.flat.add_(more.flat)


def unread(number: Any) -> float | torch.Tensor:  # noqa: ANN401 - a number or a tensor of one
    """Return a control number: one on an accelerator as a tensor, so that nobody waits for it."""
    if not isinstance(number, torch.Tensor):
        return float(number)
    number = number.detach()
    return number.reshape(()) if number.device.type != "cpu" else float(number)


def _flat(
    parameters: Sequence[torch.nn.Parameter],
    extra: int = 0,
    home: torch.nn.Parameter | None = None,
) -> torch.Tensor:
    """Return a buffer for gradients and some more numbers; without any it lies beside ``home``."""
    size = sum(one.numel() for one in parameters) + extra
    if parameters:
        return torch.zeros(size, dtype=parameters[0].dtype, device=parameters[0].device)
    return torch.zeros(size, device=home.device if home is not None else None)


def _group(parameters: Sequence[torch.nn.Parameter]) -> list[list[torch.nn.Parameter]]:
    """Split parameters into buckets of one dtype and device each, last ones first.

    The buckets are in the order in which a backward pass completes them, as far as one can tell.
    """
    buckets: list[list[tuple[int, torch.nn.Parameter]]] = []
    kinds: dict[tuple[torch.dtype, torch.device], tuple[int, int, int]] = {}
    for order, one in enumerate(reversed(parameters)):
        kind = (one.dtype, one.device)
        size = one.numel() * one.element_size()
        place, filled, most = kinds.get(kind, (-1, 0, FIRST_BUCKET_BYTES))
        if place < 0 or (filled and filled + size > most):
            most = FIRST_BUCKET_BYTES if place < 0 else BUCKET_BYTES
            buckets.append([])
            place, filled = len(buckets) - 1, 0
        buckets[place].append((order, one))
        kinds[kind] = (place, filled + size, most)
    buckets.sort(key=lambda bucket: bucket[-1][0])
    return [[one for _, one in bucket] for bucket in buckets]
