"""What 1, 2, 3 and 4 ranks do in deterministic mode; run by processes that a test starts."""

import torch

from tests.unit.trainer.builders import Points, a_trainer
from tests.unit.trainer.ranks import rank_of

WORLD_SIZES = (1, 2, 3, 4)


def run_rank(rank, folder):
    """Run all cases at each world size that has this rank; leave what was seen in files."""
    torch.set_num_threads(1)
    for world_size in WORLD_SIZES:
        if rank >= world_size:
            continue
        with rank_of(rank, world_size, folder):
            seen = {name: train(name) for name in MODELS}
        torch.save(seen, f"{folder}/{world_size}-{rank}.pt")


class Ticks(torch.nn.Module):
    """Buffers that forward passes treat as real models do: replaced, constant, infinite."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("constant", torch.tensor([0.1, float("-inf"), 1 / 3]))
        self.register_buffer("lowest", torch.tensor(float("inf")))
        self.register_buffer("seen", torch.zeros(2, dtype=torch.int64))

    def forward(self, x):
        if self.training:
            self.scale = self.scale * 0.9 + 0.1 * x.detach().abs().mean()
            self.lowest.data = torch.minimum(self.lowest, x.detach().min())
            self.seen.data += torch.tensor([1, -1])
        return x / self.scale


def plain(*layers):
    return torch.nn.Sequential(
        torch.nn.Linear(3, 16), torch.nn.Tanh(), *layers, torch.nn.Linear(16, 1)
    )


class Mixed(torch.nn.Module):
    """Parameters of three dtypes, one unused, one that only some batches use, one frozen."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(3, 4).double()
        self.second = torch.nn.Linear(4, 2)
        self.third = torch.nn.Linear(2, 1).bfloat16()
        self.unused = torch.nn.Linear(3, 3)
        self.sometimes = torch.nn.Linear(2, 2)
        self.frozen = torch.nn.Linear(2, 2).requires_grad_(False)

    def forward(self, x):
        hidden = self.frozen(self.second(self.first(x.double()).float()))
        if float(x.sum()) > 0:
            hidden = self.sometimes(hidden)
        return self.third(hidden.bfloat16()).float()


def counted(outputs, targets):
    """Weigh targets above zero twice, as tokens weigh differently."""
    weights = 1 + (targets > 0).float()
    return (weights * (outputs - targets).square()).sum(), float(weights.sum())


MODELS = {
    "plain": (plain, {}),
    "dropout": (lambda: plain(torch.nn.Dropout(0.3)), {"max_grad_norm": 0.5}),
    "batch norm": (lambda: plain(torch.nn.BatchNorm1d(16)), {"size": 90}),
    "both": (
        lambda: plain(torch.nn.BatchNorm1d(16), torch.nn.Dropout(0.3)),
        {"num_shards": 6, "size": 90},
    ),
    "odd buffers": (lambda: plain(Ticks()), {}),
    "mixed dtypes": (Mixed, {}),
    "sum and count": (plain, {"loss_fn": counted, "max_microbatch_size": 2}),
    "short batches": (plain, {"epoch_end": "short", "max_epochs": 2, "global_batch_size": 40}),
    "fewer shards than ranks": (plain, {"num_shards": 2}),
    "unequal shards": (lambda: plain(torch.nn.Dropout(0.3)), {"num_shards": 7}),
}


def train(name):
    """Train in deterministic mode; return what the rank holds at the end."""
    torch.manual_seed(0)
    make, changes = MODELS[name]
    model = make()
    settings = {"global_batch_size": 30, "max_steps": 10, **changes}
    if "max_epochs" in settings:
        settings.pop("max_steps")
    points = Points(settings.pop("size", 95), torch.float32)
    trainer = a_trainer(model, dataset=points, deterministic=True, **settings)
    trainer.fit()
    return {"state": dict(model.state_dict()), "loss": trainer.loss, "steps": trainer.global_step}
