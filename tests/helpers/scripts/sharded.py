"""A training script with FSDP2: own model, own data, paced so that it can be watched."""

import argparse
import os
import signal
import time
from pathlib import Path

import torch
from torch import nn

from eflib import ElasticTrainer
from eflib.trainer.audit import SampleAudit
from eflib.trainer.callback import Callback


class Paced(nn.Module):
    """Take some time for each sample."""

    def __init__(self, pace):
        super().__init__()
        self.pace = pace

    def forward(self, inputs):
        time.sleep(self.pace * len(inputs))
        return inputs


class Net(nn.Module):
    """A group of its own for each layer, and one of what is left."""

    def __init__(self, pace):
        super().__init__()
        self.layers = nn.Sequential(Paced(pace), nn.Linear(20, 33), nn.Tanh(), nn.Linear(33, 8))
        self.out = nn.Linear(8, 3)

    def forward(self, inputs):
        return self.out(self.layers(inputs))


class Until(Callback):
    """End training once a file is there."""

    def __init__(self, file):
        self.file = file

    def on_step_end(self, trainer):
        if self.file.exists():
            trainer.stop()


class Die(Callback):
    """Kill rank 1 when it has taken the last step, once."""

    def __init__(self, file):
        self.file = file

    def on_fit_end(self, trainer):
        if trainer.rank == 1 and not self.file.exists():
            self.file.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def make_model(pace):
    torch.manual_seed(0)
    return Net(pace)


def samples():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1003, 20, generator=generator), torch.randn(1003, 3, generator=generator)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--until", type=Path, help="end once this file is there")
    parser.add_argument("--out", required=True)
    parser.add_argument("--seconds", type=float, default=300.0, help="between checkpoints")
    parser.add_argument("--loop", action="store_true", help="a loop instead of fit()")
    parser.add_argument("--die", type=Path, help="die at the end; this file says that one did")
    options = parser.parse_args()
    callbacks = [Die(options.die)] if options.die else []
    callbacks += [Until(options.until)] if options.until else []
    model = make_model(pace=0.0008)
    trainer = ElasticTrainer(
        model,
        torch.optim.Adam(model.parameters(), lr=1e-3),
        torch.utils.data.TensorDataset(*samples()),
        loss_fn=nn.functional.mse_loss,
        global_batch_size=64,
        max_microbatch_size=20,
        max_steps=options.steps,
        checkpoint_seconds=options.seconds,
        parallel="fsdp",
        callbacks=[SampleAudit(f"{options.out}/audit"), *callbacks],
    )
    if options.loop:
        for inputs, targets in trainer:
            trainer.step(nn.functional.mse_loss(model(inputs), targets))
    else:
        trainer.fit()
    folder = trainer.save_checkpoint()  # all ranks: each has its part
    if trainer.rank == 0:
        print(f"saved in {folder}", flush=True)


if __name__ == "__main__":
    main()
