"""``fully_shard`` put on a module, and what follows from how it cuts parameters.

A module is wrapped for one process group. For the next one it is unwrapped (``unsharding.py``),
which leaves it as the script made it, but for parameters on the meta device, and wrapped anew.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard

from eflib.errors import UsageError
from eflib.trainer.state.unsharding import is_compiled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch.distributed.device_mesh import DeviceMesh

_LISTS = (torch.nn.ModuleList, torch.nn.ModuleDict, torch.nn.Sequential)


def check(model: torch.nn.Module) -> None:
    """Refuse what cannot be sharded.

    Raises:
        UsageError: A parameter has no dimension, or does not lie in order; a module is compiled, or
            asks for sparse gradients.
    """
    for name, module in model.named_modules():
        if is_compiled(module):
            raise UsageError(
                f"parallel='fsdp': {name or 'the model'} is compiled",
                hint="pass the model as it was before torch.compile",
            )
        if isinstance(module, (torch.nn.Embedding, torch.nn.EmbeddingBag)) and module.sparse:
            raise UsageError(
                f"parallel='fsdp': {name or 'the model'} has sparse=True",
                hint="FSDP2 sums dense gradients alone: take sparse=False, or parallel='ddp'",
            )
    for name, parameter in model.named_parameters():
        if not parameter.dim() or not parameter.is_contiguous():
            what = "is a scalar" if not parameter.dim() else "is not contiguous"
            raise UsageError(
                f"parallel='fsdp': the parameter {name} {what}",
                hint="FSDP2 shards contiguous parameters along their first dimension",
            )


def layers(model: torch.nn.Module, patterns: Sequence[str] | None) -> list[torch.nn.Module]:
    """Return the submodules that are sharded each for itself; the rest is one more group.

    By default these are the members of lists of modules, the outermost ones, wherever they are: the
    blocks of a transformer, or the layers of a ``Sequential``. One that shares a parameter with
    another part of the model belongs to the rest.

    Args:
        model: The model.
        patterns: Names of submodules instead, as ``blocks.*``, where ``*`` holds no dot.

    Raises:
        UsageError: A pattern fits no submodule with parameters.
    """
    if patterns is None:
        chosen = list(_members(model))
    else:
        named = [(name, one) for name, one in model.named_modules() if name]
        chosen = []
        for pattern in patterns:
            found = [one for name, one in named if _fits(name, pattern) and _holds(one)]
            if not found:
                raise UsageError(
                    f"fsdp_layers: no submodule with parameters is called {pattern!r}",
                    hint=f"the model has {', '.join(name for name, _ in named[:8])}, ...",
                )
            chosen += [one for one in found if one not in chosen]
    depth = {one: place for place, one in enumerate(model.modules())}
    chosen.sort(key=lambda one: -depth[one])  # from the inside out, as fully_shard wants it
    return [one for one in chosen if not _shares(model, one)]


def _members(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    for child in module.children():
        if not isinstance(module, _LISTS) or isinstance(child, _LISTS):
            yield from _members(child)
        elif _holds(child):
            yield child


def _fits(name: str, pattern: str) -> bool:
    words, patterns = name.split("."), pattern.split(".")
    return len(words) == len(patterns) and all(map(fnmatchcase, words, patterns))


def _holds(module: torch.nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _shares(model: torch.nn.Module, part: torch.nn.Module) -> bool:
    """Tell whether a parameter of a part is also held outside of it."""
    inside = set(part.modules())
    own = {id(parameter) for parameter in part.parameters()}
    return any(
        id(parameter) in own
        for module in model.modules()
        if module not in inside
        for parameter in module.parameters(recurse=False)
    )


def wrap(
    model: torch.nn.Module,
    parts: Sequence[torch.nn.Module],
    mesh: DeviceMesh,
    device: torch.device,
) -> None:
    """Shard a model over a mesh; what is on the meta device gets memory layer by layer.

    Gradients are summed over ranks: each rank's loss is weighted before the backward pass.
    """
    for module in (*parts, model):
        materialise(module, device)
        sharded = fully_shard(module, mesh=mesh)
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)


def reshard(model: torch.nn.Module) -> None:
    """Let gathered parameters go: a forward pass without a backward pass leaves some."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def materialise(module: torch.nn.Module, device: torch.device) -> None:
    """Give memory, with nothing in it yet, to parameters on the meta device."""
    made: dict[int, torch.nn.Parameter] = {}
    for one in module.modules():
        for name, parameter in one.named_parameters(recurse=False, remove_duplicate=False):
            if parameter.is_meta and not isinstance(parameter, DTensor):
                if id(parameter) not in made:
                    memory = torch.empty_like(parameter, device=device)
                    made[id(parameter)] = torch.nn.Parameter(memory, parameter.requires_grad)
                setattr(one, name, made[id(parameter)])


def rows_of(num_rows: int, rank: int, world_size: int) -> tuple[int, int]:
    """Return which rows of a parameter a rank holds, as FSDP2 cuts them.

    Examples:
        >>> [rows_of(5, rank, 4) for rank in range(4)]
        [(0, 2), (2, 4), (4, 5), (5, 5)]
    """
    size = -(-num_rows // world_size)
    return min(num_rows, rank * size), min(num_rows, (rank + 1) * size)


def as_dtensor(local: torch.Tensor, shape: torch.Size, mesh: DeviceMesh) -> DTensor:
    """Return this rank's rows as a part of the whole."""
    stride = torch.empty(shape, device="meta").stride()
    return DTensor.from_local(local, mesh, [Shard(0)], run_check=False, shape=shape, stride=stride)


def local_of(tensor: torch.Tensor) -> torch.Tensor:
    """Return what this rank holds of a tensor."""
    if not isinstance(tensor, DTensor):
        return tensor
    with torch.no_grad():
        local: torch.Tensor = tensor.to_local()
    return local
