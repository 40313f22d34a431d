"""Flat buffers for the gradients of several parameters, and which parameters go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = tuple[torch.dtype, torch.device]


class Bucket:
    """A flat buffer, and the parameters whose gradients it holds.

    A sparse gradient has no room in a flat buffer without becoming dense, which some optimizers
    refuse: it is kept beside, and the buffer holds zeros in its place.

    Args:
        parameters: The parameters in the order of the buffer.
        flat: The buffer; what is behind the gradients is not the bucket's.
    """

    def __init__(self, parameters: list[torch.nn.Parameter], flat: torch.Tensor) -> None:
        self.parameters = parameters
        self.flat = flat
        self.views: list[torch.Tensor] = []
        self.missing: set[int] = set()  # places whose gradient the last backward pass is to bring
        self.sparse: dict[int, torch.Tensor] = {}
        self._filled: set[int] = set()  # places that have a gradient in this step
        offset = 0
        for one in parameters:
            self.views.append(flat[offset : offset + one.numel()].view_as(one))
            offset += one.numel()

    def clear(self) -> None:
        """Begin a step: there are no gradients."""
        self.sparse.clear()
        self._filled.clear()
        self.hide()

    def gather(self) -> None:
        """Take all gradients into the buffer, wherever autograd or the user's code put them."""
        for place in range(len(self.parameters)):
            self.gather_one(place)

    def gather_one(self, place: int) -> None:
        """Take one parameter's gradient into the buffer, or keep it beside if it is sparse."""
        parameter, view = self.parameters[place], self.views[place]
        grad = parameter.grad
        if grad is view:
            self._filled.add(place)
            return
        if grad is None:
            view.zero_()
            self.sparse.pop(place, None)
            self._filled.discard(place)
        elif grad.is_sparse:
            view.zero_()
            self.sparse[place] = grad
            self._filled.add(place)
            return
        else:
            view.copy_(grad)
            self.sparse.pop(place, None)
            self._filled.add(place)
        parameter.grad = view

    def add_sparse(self, place: int, grad: torch.Tensor) -> None:
        """Add to what is kept beside the buffer."""
        known = self.sparse.get(place)
        self.sparse[place] = grad if known is None else known + grad

    def show(self) -> None:
        """Let the parameters' gradients be those in the buffer and beside it."""
        for place, parameter in enumerate(self.parameters):
            parameter.grad = self.sparse.get(place, self.views[place])

    def show_found(self) -> None:
        """Do so between two backward passes: what has no gradient yet may get a sparse one."""
        for place in self._filled:
            self.parameters[place].grad = self.sparse.get(place, self.views[place])

    def hide(self) -> None:
        """Take the gradients out of everybody's reach."""
        for parameter in self.parameters:
            parameter.grad = None


def make_flat(
    parameters: Sequence[torch.nn.Parameter],
    extra: int = 0,
    home: torch.nn.Parameter | None = None,
) -> torch.Tensor:
    """Return a buffer for gradients and some more numbers; without any it lies beside ``home``."""
    size = sum(one.numel() for one in parameters) + extra
    if parameters:
        return torch.zeros(size, dtype=parameters[0].dtype, device=parameters[0].device)
    return torch.zeros(size, device=home.device if home is not None else None)


def group_parameters(
    parameters: Sequence[torch.nn.Parameter], *, first_bytes: int, bucket_bytes: int
) -> list[list[torch.nn.Parameter]]:
    """Split parameters into buckets of one dtype and device each, last ones first.

    The buckets are in the order in which a backward pass completes them, as far as one can tell.

    Args:
        parameters: In the order of the model.
        first_bytes: Size of the first bucket of each kind: it is on its way early.
        bucket_bytes: Size of the others.
    """
    buckets: list[list[tuple[int, torch.nn.Parameter]]] = []
    kinds: dict[Kind, tuple[int, int, int]] = {}
    for order, one in enumerate(reversed(parameters)):
        kind = (one.dtype, one.device)
        size = one.numel() * one.element_size()
        number, filled, most = kinds.get(kind, (-1, 0, first_bytes))
        if number < 0 or (filled and filled + size > most):
            most = first_bytes if number < 0 else bucket_bytes
            buckets.append([])
            number, filled = len(buckets) - 1, 0
        buckets[number].append((order, one))
        kinds[kind] = (number, filled + size, most)
    buckets.sort(key=lambda bucket: bucket[-1][0])
    return [[one for _, one in bucket] for bucket in buckets]
