"""``fully_shard`` put on and taken off again: torch has no way to give FSDP2 another process group.

A module is wrapped for one group. For the next one it is unwrapped, which leaves it as the script
made it, but for parameters on the meta device, and wrapped anew. What is undone is what
``fully_shard`` of torch 2.8 to 2.13 does: class, hooks, states, parameters. A test holds it.
"""

from __future__ import annotations

import gc
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed import _composable_state  # its map of modules has no other way out
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard, _redistribute

from eflib.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch.distributed.device_mesh import DeviceMesh

_LISTS = (torch.nn.ModuleList, torch.nn.ModuleDict, torch.nn.Sequential)
_MEMORY = type(lru_cache(int))
_DTENSOR = "torch.distributed.tensor"
_ADDED = ("_is_fsdp_managed_module", "_fsdp_use_orig_params")  # attributes of wrapped modules


def check(model: torch.nn.Module) -> None:
    """Refuse what cannot be sharded.

    Raises:
        UsageError: A parameter has no dimension, or does not lie in order; a module is compiled, or
            asks for sparse gradients.
    """
    for name, module in model.named_modules():
        compiled = "_orig_mod" in module._modules or module._compiled_call_impl is not None
        if compiled:
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
                one._parameters[name] = made[id(parameter)]


def unwrap(model: torch.nn.Module) -> None:
    """Undo ``wrap``, at any moment of a step; parameters are then on the meta device."""
    for module in list(model.modules()):
        if not isinstance(module, FSDPModule):
            continue
        state: Any = fully_shard.state(module)  # type: ignore[attr-defined]
        state._pre_forward_hook_handle.remove()
        state._post_forward_hook_handle.remove()
        groups = state._fsdp_param_groups
        for group in groups:
            for handle in (
                *group._module_to_pre_save_state_dict_hook_handle.values(),
                *group._module_to_pre_load_state_dict_hook_handle.values(),
            ):
                handle.remove()
            for one in group.fsdp_params:
                one._post_load_hook_handle.remove()
                _put_back(one)
        for held in (*(one for group in groups for one in group.fsdp_params), *groups, state):
            vars(held).clear()  # graphs that broke off hold these, and these the process group
        _composable_state._module_state_mapping.pop(module, None)
        module.__class__ = type(module).__mro__[2]  # FSDP<Name>, FSDPModule, <Name>
    for module in model.modules():
        for name in [one for one in vars(module) if one in _ADDED or "_composable_api_" in one]:
            del vars(module)[name]


def _put_back(one: Any) -> None:  # noqa: ANN401 - torch's FSDPParam
    place = one._module_info
    rows = one.sharded_param
    empty = torch.empty(one._orig_size, dtype=rows.dtype, device="meta")
    parameter = torch.nn.Parameter(empty, rows.requires_grad)
    place.module._parameters[place.param_name] = parameter
    for module, name in zip(place.shared_modules, place.shared_param_names, strict=True):
        module._parameters[name] = parameter


def forget(mesh: DeviceMesh) -> None:
    """Part a mesh from its group, and let DTensor's memories of its answers go: they name meshes.

    There are a dozen such memories, more with each version of torch, some inside of functions. A
    mesh of the same size counts as the same to them.
    """
    getattr(mesh, "_pg_registry", {}).clear()
    for one in gc.get_objects():
        if type(one) is _MEMORY and getattr(one, "__module__", "").startswith(_DTENSOR):
            one.cache_clear()
    for place, name in (
        (torch._C, "_clear_DTensor_sharding_propagator_cache"),  # from torch 2.10
        (_redistribute, "clear_redistribute_planner_cache"),  # from torch 2.11
    ):
        getattr(place, name, _nothing)()


def _nothing() -> None:
    """Stand for what a version of torch does not have."""


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
