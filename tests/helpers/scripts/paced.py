"""A training script from outside: own model, own data, paced so that more workers are faster."""

import argparse
import os
import sys
import time
from pathlib import Path

import torch
from torch import nn

from eflib import ElasticTrainer
from eflib.trainer.audit import SampleAudit
from eflib.trainer.callback import Callback

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=100)
parser.add_argument("--until", type=Path, help="end once this file is there, before the last step")
parser.add_argument("--out", required=True)
parser.add_argument("--pace", type=float, default=0.0008, help="seconds per sample")
parser.add_argument("--optimizer", choices=["sgd", "adam"], default="sgd")
parser.add_argument("--fail", default="", help="what goes wrong, and where: raise@10, ...")
parser.add_argument("--deterministic", action="store_true", help="with BatchNorm and dropout")
parser.add_argument("--width-by-rank", action="store_true")
parser.add_argument("--checkpoints", help="their folder; by default that of the job")
options = parser.parse_args()

torch.manual_seed(0)
generator = torch.Generator().manual_seed(1)
INPUTS, TARGETS = (
    torch.randn(1003, 20, generator=generator),
    torch.randn(1003, 3, generator=generator),
)


class Data:
    def __len__(self):
        return len(INPUTS)

    def __getitem__(self, index):
        return INPUTS[index], TARGETS[index]


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        more = [nn.BatchNorm1d(width), nn.Dropout(0.2)] if options.deterministic else []
        self.layers = nn.Sequential(nn.Linear(20, width), nn.Tanh(), *more, nn.Linear(width, 3))

    def forward(self, inputs):
        time.sleep(options.pace * len(inputs))
        return self.layers(inputs)


class Until(Callback):
    def on_step_end(self, trainer):
        if options.until and options.until.exists():
            trainer.stop()


def loss_fn(outputs, targets):
    if options.fail == f"raise@{trainer.global_step}" and not trainer.profiling:
        raise ValueError(f"no luck at step {trainer.global_step}")
    return nn.functional.mse_loss(outputs, targets)


if options.fail == "raise":
    raise KeyError("not even a model")
if options.fail == "no-trainer":
    sys.exit(0)
model = Net(64 + int(os.environ.get("RANK", "0")) * options.width_by_rank)
if options.optimizer == "sgd":
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
else:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
trainer = ElasticTrainer(
    model,
    optimizer,
    Data(),
    loss_fn=loss_fn,
    checkpoint_dir=options.checkpoints,
    global_batch_size=64,
    max_steps=options.steps,
    callbacks=[SampleAudit(f"{options.out}/audit"), Until()],
    deterministic=options.deterministic,
)
if options.fail != "no-fit":
    trainer.fit()
    if trainer.rank == 0:
        torch.save({"model": model.state_dict(), "loss": trainer.loss}, f"{options.out}/final.pt")
        print(f"done after {trainer.global_step} steps on {trainer.world_size}", flush=True)
