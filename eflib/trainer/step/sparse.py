"""Sparse gradients: those of embedding tables, which hold only the rows that a batch used.

An optimizer for them (``SparseAdam``) takes no others, and touches the rows that they name. So a
sum over ranks is sparse as well, and names each row that any rank used, even where the sum is 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from eflib.trainer.collectives import all_reduce, gather_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

_ABSENT, _DENSE = -1, -2  # in place of a number of rows


def sparse_parameters(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Return the weights of layers that were made with ``sparse=True``, each once."""
    kinds = (torch.nn.Embedding, torch.nn.EmbeddingBag)
    layers = [one for one in model.modules() if isinstance(one, kinds) and one.sparse]
    weights = {id(one.weight) for one in layers}
    return [one for one in model.parameters() if id(one) in weights and one.requires_grad]


def add_over_ranks(
    parameters: Sequence[torch.nn.Parameter], grads: Sequence[torch.Tensor | None]
) -> list[torch.Tensor | None]:
    """Sum gradients over ranks, sparse ones by their rows; None where no rank has one.

    Where a rank has a dense gradient, as of a table that another layer uses as well, so is the sum.

    Args:
        parameters: Those whose gradients are summed; all ranks name the same.
        grads: This rank's gradients, or None.

    Raises:
        PeerLostError: A peer is gone.
    """
    own = [None if one is None else one.coalesce() if one.is_sparse else one for one in grads]
    tables = gather_rows(torch.tensor([_extent(one) for one in own]))
    sums: list[torch.Tensor | None] = []
    for place, parameter in enumerate(parameters):
        sizes = [int(table[place, 0]) for table in tables]
        sparse_dims = max(int(table[place, 1]) for table in tables)
        if _DENSE in sizes:
            sums.append(_add_dense(parameter, own[place]))
        elif max(sizes) == _ABSENT:
            sums.append(None)
        else:
            sums.append(_add_rows(parameter, own[place], sizes, sparse_dims))
    return sums


def _extent(grad: torch.Tensor | None) -> tuple[int, int]:
    """Return how many rows a gradient has, and how many dimensions say which row it is."""
    if grad is None:
        return _ABSENT, 0
    return (grad.values().shape[0], grad.sparse_dim()) if grad.is_sparse else (_DENSE, 0)


def _add_dense(parameter: torch.nn.Parameter, grad: torch.Tensor | None) -> torch.Tensor:
    total = torch.zeros_like(parameter)  # without a gradient of its own: a parameter's has none
    if grad is not None:
        total.add_(grad)
    total = total.detach()
    all_reduce(total)
    return total


def _add_rows(
    parameter: torch.nn.Parameter, grad: torch.Tensor | None, sizes: list[int], sparse_dims: int
) -> torch.Tensor:
    longest = max(sizes)
    device, row = parameter.device, parameter.shape[sparse_dims:]
    indices = torch.zeros((sparse_dims, longest), dtype=torch.int64, device=device)
    values = torch.zeros((longest, *row), dtype=parameter.dtype, device=device)
    if grad is not None:
        count = grad.values().shape[0]
        indices[:, :count] = grad.indices()
        values[:count] = grad.values()
    counts = [max(size, 0) for size in sizes]
    all_indices = gather_rows(indices) if longest else [indices] * len(sizes)
    all_values = gather_rows(values) if longest else [values] * len(sizes)
    return torch.sparse_coo_tensor(
        torch.cat([one[:, :size] for one, size in zip(all_indices, counts, strict=True)], 1),
        torch.cat([one[:size] for one, size in zip(all_values, counts, strict=True)]),
        parameter.shape,
        check_invariants=False,
    ).coalesce()


class UsedRows:
    """Which rows of which parameters had sparse gradients, where sums are made of dense ones.

    Args:
        parameters: All parameters that are trained.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        self._parameters = parameters
        self._rows: dict[int, torch.Tensor] = {}
        self._dense: set[int] = set()

    def clear(self) -> None:
        """Begin a step."""
        self._rows.clear()
        self._dense.clear()

    def __bool__(self) -> bool:
        return bool(self._rows)

    def to_dense(self, place: int, grad: torch.Tensor) -> torch.Tensor:
        """Return a gradient as a dense one, and note its rows if it was sparse."""
        if not grad.is_sparse:
            self._dense.add(place)
            return grad
        grad = grad.coalesce()
        rows = self._rows.get(place)
        if rows is None:
            shape = grad.shape[: grad.sparse_dim()]
            rows = self._rows[place] = torch.zeros(shape, dtype=torch.uint8, device=grad.device)
        rows[tuple(grad.indices())] = 1
        return grad.to_dense()

    def restore(self, totals: Sequence[torch.Tensor], world_size: int) -> dict[int, torch.Tensor]:
        """Return the sums that are sparse, by their place, of all sums as dense tensors.

        Raises:
            PeerLostError: A peer is gone.
        """
        dims = torch.zeros((len(self._parameters), 2), dtype=torch.int64)
        for place, rows in self._rows.items():
            dims[place, 0] = rows.dim()
        for place in self._dense:
            dims[place, 1] = 1
        if world_size > 1:
            all_reduce(dims, largest=True)
        found = {}
        for place, (sparse_dims, is_dense) in enumerate(dims.tolist()):
            if not sparse_dims or is_dense:
                continue
            total = totals[place]
            none = torch.zeros(total.shape[:sparse_dims], dtype=torch.uint8, device=total.device)
            rows = self._rows.get(place, none)
            if world_size > 1:
                all_reduce(rows, largest=True)
            indices = rows.nonzero().t().contiguous()
            found[place] = torch.sparse_coo_tensor(
                indices,
                total[tuple(indices)],
                total.shape,
                is_coalesced=True,
                check_invariants=False,
            )
        return found
