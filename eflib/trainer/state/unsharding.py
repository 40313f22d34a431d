"""``fully_shard`` taken off a module again: the one place with private names of torch's FSDP2.

A module is wrapped for one process group. torch has no public way to give it another, nor to take
the wrapping off, nor to free what holds the old group; without these the state of a job cannot go
from one generation to the next in memory. What is undone is what ``fully_shard`` of torch 2.8 to
2.13 does: class, hooks, states, parameters. Tests hold it: a module that was wrapped and unwrapped
has no attribute, hook or class that it had not before.
"""

from __future__ import annotations

import gc
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed import _composable_state  # its map of modules has no other way out
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import _redistribute  # its cache names meshes, and so groups

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.distributed.device_mesh import DeviceMesh

_MEMORY = type(lru_cache(int))
_DTENSOR = "torch.distributed.tensor"
_ADDED = ("_is_fsdp_managed_module", "_fsdp_use_orig_params")  # attributes of wrapped modules


def is_compiled(module: torch.nn.Module) -> bool:
    """Tell whether ``torch.compile`` or ``module.compile()`` was called on a module."""
    children = dict(module.named_children())
    return "_orig_mod" in children or module._compiled_call_impl is not None


def unwrap(model: torch.nn.Module) -> None:
    """Undo ``fully_shard``, at any moment of a step; parameters are then on the meta device."""
    for module in list(model.modules()):
        if not isinstance(module, FSDPModule):
            continue
        state: Any = fully_shard.state(module)  # type: ignore[attr-defined]
        state._pre_forward_hook_handle.remove()
        state._post_forward_hook_handle.remove()
        groups = _groups_of(state)
        for group in groups:
            for handle in (
                *group._module_to_pre_save_state_dict_hook_handle.values(),
                *group._module_to_pre_load_state_dict_hook_handle.values(),
            ):
                handle.remove()
            for one in group.fsdp_params:
                one._post_load_hook_handle.remove()
                place, rows = one._module_info, one.sharded_param
                owners = [(place.module, place.param_name)]
                owners += zip(place.shared_modules, place.shared_param_names, strict=True)
                _put_back(owners, one._orig_size, rows.dtype, requires_grad=rows.requires_grad)
        for held in (*(one for group in groups for one in group.fsdp_params), *groups, state):
            vars(held).clear()  # graphs that broke off hold these, and these the process group
        _composable_state._module_state_mapping.pop(module, None)
        module.__class__ = type(module).__mro__[2]  # FSDP<Name>, FSDPModule, <Name>
    for module in model.modules():
        for name in [one for one in vars(module) if one in _ADDED or "_composable_api_" in one]:
            del vars(module)[name]


def _groups_of(state: object) -> list[Any]:
    """Return a module's groups of parameters; torch 2.8 keeps one, or None, under another name."""
    held = vars(state)
    if "_fsdp_param_groups" in held:
        return list(held["_fsdp_param_groups"])
    only = held["_fsdp_param_group"]
    return [] if only is None else [only]


def _put_back(
    owners: Sequence[tuple[torch.nn.Module, str]],
    size: torch.Size,
    dtype: torch.dtype,
    *,
    requires_grad: bool,
) -> None:
    """Give the modules that share a parameter one that is whole, without memory yet."""
    empty = torch.empty(size, dtype=dtype, device="meta")
    parameter = torch.nn.Parameter(empty, requires_grad)
    for module, name in owners:
        setattr(module, name, parameter)


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
