"""A training script whose rank 1 ends in one of many ways once training has two workers."""

import os
import signal
import sys

import torch
from torch import nn
from torch.utils.data import TensorDataset

from eflib import ElasticTrainer
from eflib.models import Paced

ODD = "a\x1b[31mred\x1b[2J\x07\nsecond \udcff line"
WAYS = {
    "raise": lambda: _raise(ValueError("no luck")),
    "exit": lambda: sys.exit(3),
    "words": lambda: sys.exit("giving up: no data"),
    "odd": lambda: _raise(ValueError(ODD)),
    "long": lambda: _raise(ValueError("x" * 10**6)),
    "memory": lambda: _raise(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")),
    "interrupt": lambda: _raise(KeyboardInterrupt()),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
}


def _raise(error):
    raise error


def loss_fn(outputs, targets):
    if trainer.global_step > 30 and trainer.rank == 1:
        WAYS[sys.argv[1]]()
    return nn.functional.cross_entropy(outputs, targets)


model = nn.Linear(4, 2)
trainer = ElasticTrainer(
    Paced(model, seconds_per_sample=0.003),
    torch.optim.SGD(model.parameters(), lr=0.1),
    TensorDataset(torch.randn(512, 4), torch.randint(0, 2, (512,))),
    loss_fn=loss_fn,
    global_batch_size=16,
    max_steps=2000,
)
trainer.fit()
