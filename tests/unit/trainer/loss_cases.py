"""Rank 1 dies in the middle of a step: what comes up on rank 0, for every kind of step."""

import os
import traceback

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from eflib.trainer.collectives import PeerLostError, came_from_transfer
from eflib.trainer.state import fsdp
from eflib.trainer.step.buffers import BufferKeeper
from eflib.trainer.step.deterministic import VirtualShardReducer
from eflib.trainer.step.fsdp_reduction import FsdpReducer
from eflib.trainer.step.reduction import GradientReducer
from eflib.trainer.step.sync_batchnorm import convert
from tests.unit.trainer.ranks import rank_of


def run_rank(rank, folder, case):
    """Run one case; rank 0 leaves what it saw in a file."""
    torch.set_num_threads(1)
    with rank_of(rank, 2, folder):
        dist.barrier()
        seen = CASES[case](rank)
        torch.save(seen, f"{folder}/seen.pt")


def die(rank):
    if rank == 1:
        os._exit(1)


class DiesInBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, rank):
        ctx.rank = rank
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        die(ctx.rank)
        return grad, None


def outcome(action):
    """Return what an action raises: the kind, and whether it counts as a lost peer."""
    try:
        action()
    except (PeerLostError, RuntimeError) as error:
        return type(error).__name__, came_from_transfer(error), traceback.format_exc()
    return "nothing", False, ""


def plain(rank):
    model = torch.nn.Linear(3, 2)
    reducer = GradientReducer(model.parameters(), num_control=1)
    reducer.begin(rank, 2)
    reducer.arm(world_size=2)
    model(torch.ones(1, 3)).sum().backward()
    die(rank)
    return outcome(lambda: reducer.reduce([0.0], world_size=2))


def sparse(rank):
    table = torch.nn.Embedding(5, 2, sparse=True)
    reducer = GradientReducer([table.weight], num_control=1, sparse=[table.weight])
    reducer.begin(rank, 2)
    table(torch.tensor([1, 2])).sum().backward()
    die(rank)
    return outcome(lambda: reducer.reduce([0.0], world_size=2))


def deterministic(rank):
    model = torch.nn.Linear(3, 2)
    reducer = VirtualShardReducer(
        model.parameters(), BufferKeeper(model), num_shards=4, num_control=1
    )
    reducer.begin(rank, 2)
    for _ in range(2):
        model(torch.ones(1, 3)).sum().backward()
        reducer.take_shard([0.0], 0.25)
    die(rank)
    return outcome(lambda: reducer.reduce([0.0], world_size=2))


def synced(rank):
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(3))
    rank_sum = convert(model)
    rank_sum.open(everybody=True)
    die(rank)
    model(torch.randn(4, 3)).sum().backward()  # the pass itself ends as if nothing were
    return outcome(lambda: rank_sum.close(0.5))


def wrapped():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    mesh = DeviceMesh.from_group(dist.group.WORLD, "cpu")
    fsdp.wrap(model, list(model), mesh, torch.device("cpu"))
    return model


def fsdp_forward(rank):
    model = wrapped()
    FsdpReducer(model).begin(rank, 2)
    die(rank)
    return outcome(lambda: model(torch.ones(1, 3)))


def fsdp_backward(rank):
    model = wrapped()
    FsdpReducer(model).begin(rank, 2)
    total = DiesInBackward.apply(model(torch.ones(1, 3)), rank).sum()
    return outcome(total.backward)


def fsdp_norm(rank):
    model = wrapped()
    FsdpReducer(model).begin(rank, 2)
    model(torch.ones(1, 3)).sum().backward()
    die(rank)
    return outcome(lambda: torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0))


def own_error_in_fsdp(rank):
    """Nobody dies: the script itself raises in a pass that talks to others."""
    model = wrapped()

    def fail(*_):
        raise RuntimeError("[gloo] Connection closed by peer")

    model[1].register_forward_hook(fail)
    return outcome(lambda: model(torch.ones(1, 3)))


CASES = {
    "plain": plain,
    "sparse": sparse,
    "deterministic": deterministic,
    "synced statistics": synced,
    "fsdp, forward": fsdp_forward,
    "fsdp, backward": fsdp_backward,
    "fsdp, norm": fsdp_norm,
    "fsdp, own error": own_error_in_fsdp,
}
