"""A training script in which one rank is late, raises, or differs from the others."""

import argparse
import os
import time

import torch
from torch import nn

from eflib import ElasticTrainer
from eflib.trainer.callback import Callback

ERRORS = {
    "RuntimeError": lambda: RuntimeError("[gloo] Connection closed by peer"),
    "ValueError": lambda: ValueError(f"no luck at {time.time()}"),
    "KeyboardInterrupt": KeyboardInterrupt,
}

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=60)
parser.add_argument("--error", choices=ERRORS)
parser.add_argument("--where", choices=["forward", "backward", "callback"], default="forward")
parser.add_argument("--late", type=float, default=0.0, help="seconds that rank 1 is late in a step")
parser.add_argument("--sparse", action="store_true")
parser.add_argument("--trainings", type=int, default=1)
parser.add_argument("--seed-by-rank", action="store_true")
options = parser.parse_args()


class Words(torch.utils.data.Dataset):
    def __len__(self):
        return 80

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        words = torch.randint(30, (4,), generator=generator)
        return words, torch.randn(1, generator=generator)


def disturb(where):
    """Do on rank 1 what the command line asks for."""
    is_at = trainer.rank == 1 and trainer.global_step >= 20
    if is_at and options.error and where == options.where:
        raise ERRORS[options.error]()
    if is_at and options.late and where == options.where and trainer.global_step == 20:
        print("late from now on", flush=True)
        time.sleep(options.late)


class Passed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        disturb("backward")
        return grad


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.EmbeddingBag(30, 1, mode="mean", sparse=options.sparse)

    def forward(self, words):
        disturb("forward")
        time.sleep(0.02)
        return Passed.apply(self.table(words))


class Watch(Callback):
    def on_step_end(self, trainer):
        disturb("callback")


for _ in range(options.trainings):
    torch.manual_seed(0)
    model = Net()
    kind = torch.optim.SparseAdam if options.sparse else torch.optim.SGD
    trainer = ElasticTrainer(
        model,
        kind(model.parameters(), lr=0.05),
        Words(),
        loss_fn=nn.functional.mse_loss,
        global_batch_size=8,
        max_steps=options.steps,
        seed=int(os.environ.get("RANK", "0")) if options.seed_by_rank else 0,
        callbacks=[Watch()],
    )
    trainer.fit()
    if trainer.rank == 0:
        total = float(model.table.weight.detach().double().abs().sum())
        print(f"done on {trainer.world_size} in g{trainer.generation} with {total:.6f}", flush=True)
