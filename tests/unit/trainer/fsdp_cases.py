"""What sharded ranks do together over several process groups; each rank is a process."""

import gc
import weakref
from pathlib import Path

import torch
import torch.distributed as dist

from eflib.messages.generations import Generation, Member
from eflib.trainer.data.position import share
from eflib.trainer.elastic.conductor import LeftError
from eflib.trainer.elastic.formation import GroupKeeper
from eflib.trainer.elastic.membership import Membership
from eflib.trainer.elastic.sharded_conductor import ShardedConductor
from eflib.trainer.state import checkpoint, fsdp
from eflib.trainer.state.sharded_state import ShardedState
from eflib.trainer.step.fsdp_reduction import FsdpReducer

WORKERS = ((0, 1), (0,), (0, 2), (0, 2, 3), (2, 0))  # the members of each generation
SIZES = tuple(len(members) for members in WORKERS)
STEPS = 2  # in each generation
BATCH = 7
torch.optim.SGD([torch.zeros(1)], lr=0.0)  # the first one imports much: once, for all ranks


class Block(torch.nn.Module):
    """A layer with a buffer, as those of a transformer."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(5, 5)
        self.norm = torch.nn.LayerNorm(5)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return x + torch.tanh(self.linear(self.norm(x)))


class Net(torch.nn.Module):
    """Layers in a list, a shared parameter, one that is not trained, fewer rows than ranks."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Linear(3, 5, bias=False)
        self.blocks = torch.nn.ModuleList([Block(), Block()])
        self.turn = torch.nn.Linear(5, 3)
        self.turn.weight = torch.nn.Parameter(self.embed.weight.detach().t().contiguous())
        self.out = torch.nn.Linear(3, 1)
        self.tied = torch.nn.Linear(3, 1)
        self.tied.weight = self.out.weight
        self.frozen = torch.nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        x = self.turn(x) * self.frozen
        return self.out(x) + self.tied(x)


def make():
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.AdamW(
        [
            {"params": [one for one in model.parameters() if one.dim() > 1]},
            {"params": [one for one in model.parameters() if one.dim() == 1], "lr": 0.03},
        ],
        lr=0.05,
    )
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=8)
    state = ShardedState(
        model,
        {"optimizer": optimizer, "schedule": schedule},
        device=torch.device("cpu"),
        layers=None,
    )
    return model, optimizer, schedule, state


def batch(step):
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(BATCH, 3, generator=generator)
    return x, x.sum(1, keepdim=True)


def train_step(parts, rank, world_size):
    """Take one step over the samples of a rank, weighted as the trainer weighs them."""
    model, optimizer, schedule, state = parts
    x, y = batch(state.global_step)
    low, high = share(BATCH, rank, world_size)
    reducer = FsdpReducer(model)
    reducer.begin(0, 1)
    for part in range(2):
        start, stop = (low + place for place in share(high - low, part, 2))
        outputs = model(x[start:stop])
        loss = torch.nn.functional.mse_loss(outputs, y[start:stop], reduction="sum") / BATCH
        if part == 0:
            loss.backward()
            reducer.stash()
        else:
            reducer.restore()
            loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    state.global_step += 1
    with torch.no_grad():
        model(x)  # a look at the model, after which some of it is still gathered


def whole(state, rank, world_size):
    """Return all parameters, put together on all ranks."""
    found = {}
    for name, tensor in state.model_tensors().items():
        local = fsdp.local_of(tensor)
        if local is tensor or world_size == 1:
            found[name] = local.clone()
            continue
        size = -(-tensor.shape[0] // world_size)
        padded = torch.zeros((size, *tensor.shape[1:]), dtype=tensor.dtype)
        padded[: len(local)] = local
        rows = [torch.empty_like(padded) for _ in range(world_size)]
        dist.all_gather(rows, padded)
        found[name] = torch.cat(rows)[: tensor.shape[0]]
    return found


class Fixed(Membership):
    """A membership of workers that are told beforehand where they go."""

    def __init__(self, worker):
        self.worker = worker

    def join(self, announce):
        raise NotImplementedError


def generation(number, port):
    workers = WORKERS[number - 1]
    members = tuple(Member(str(worker), "n", rank) for rank, worker in enumerate(workers))
    return Generation(number=number, members=members, master_addr="127.0.0.1", master_port=port)


def run_rank(worker, port, folder):
    """Live through all generations; leave what was seen in a file."""
    torch.set_num_threads(1)
    parts = make()
    state = parts[3]
    conductor = ShardedConductor(
        Fixed(str(worker)),
        GroupKeeper(torch.device("cpu")),
        state,
        settings={},
        prefix="test",
        checkpoint_dir=str(Path(folder) / "checkpoints"),
    )
    seen = {"steps": {}, "sharded": [], "closed": []}
    first = next(number for number, workers in enumerate(WORKERS, 1) if worker in workers)
    for number, size in enumerate(SIZES, 1):
        if number < first:
            continue
        group = weakref.ref(dist.group.WORLD) if dist.is_initialized() else None
        try:
            conductor.enter(generation(number, port))
        except LeftError:
            seen["left"] = number
            break
        conductor._keeper.drop_parked()
        if group is not None:
            gc.collect()  # as abandon() does
            seen["closed"].append(group() is None)
        seen["sharded"].append(state.is_sharded)
        for _ in range(STEPS):
            train_step(parts, conductor.rank, size)
        seen["steps"][state.global_step] = whole(state, conductor.rank, size)
        if number in {1, 4}:
            written = checkpoint.write(Path(folder) / "checkpoints", state.snapshot(), keep=9)
            seen.setdefault("written", []).append(written and written.name)
    torch.save(seen, f"{folder}/worker-{worker}.pt")


def alone():
    """Take the same steps in one process that has the whole batch."""
    parts = make()
    parts[3].shard(0, 1)
    seen = {}
    for _ in range(STEPS * len(SIZES)):
        train_step(parts, 0, 1)
        seen[parts[3].global_step] = whole(parts[3], 0, 1)
    return seen
