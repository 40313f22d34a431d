"""The job whose interruptions are timed: under ElasticTrainer, or as torchrun's users write it.

``elastic_job.py ours|torchrun --out FOLDER``. The same perceptron, data and optimizer both ways; a
step waits some milliseconds beside its computing, as for an accelerator, so that the processes do
not crowd out one another. Each worker appends a line of JSON to ``FOLDER/<pid>.jsonl`` after each
step. For torchrun rank 0 saves a snapshot every ``--save-every`` steps, which everybody loads after
a restart. The job ends when a file ``FOLDER/stop`` is there.
"""

import argparse
import json
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from eflib import ElasticTrainer
from eflib.trainer.callback import Callback

BATCH = 64
INPUTS = 64


class Stamps(Callback):
    """Notes when each step was done: before anything that follows it, a rescale above all.

    A step counts to the round in which it was begun. A rank that lost a peer in it may hear of its
    end only in the next round.
    """

    def __init__(self, folder):
        self.begun = (-1, -1)  # a step and its round
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f"{os.getpid()}.jsonl").open("a", buffering=1)

    def add(self, **fields):
        """Write a line."""
        self._file.write(json.dumps({"time": time.time(), "pid": os.getpid(), **fields}) + "\n")

    def on_step_end(self, trainer):
        """Note a step of an ElasticTrainer."""
        step, (begun, generation) = trainer.global_step - 1, self.begun
        where = {"world": trainer.world_size, "rank": trainer.rank}
        self.add(step=step, round=generation if begun == step else trainer.generation, **where)


def make(options):
    """Return model, optimizer, data and the device."""
    torch.manual_seed(0)
    device = torch.device("cpu")
    if torch.cuda.is_available():
        local = int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    width = options.width
    model = nn.Sequential(
        nn.Linear(INPUTS, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
    ).to(device)
    x = torch.randn(4096, INPUTS, generator=torch.Generator().manual_seed(1))
    data = TensorDataset(x, x.sum(1, keepdim=True))
    return model, torch.optim.Adam(model.parameters(), lr=1e-4), data, device


def ours(options):
    """Train until told to stop, and follow whatever size the job has."""
    model, optimizer, data, _ = make(options)
    stamps = Stamps(options.out)
    trainer = ElasticTrainer(
        model,
        optimizer,
        data,
        global_batch_size=BATCH,
        max_steps=10**7,
        callbacks=[stamps],
    )
    for inputs, targets in trainer:
        stamps.begun = (trainer.global_step, trainer.generation)
        time.sleep(options.pace)
        trainer.step(functional.mse_loss(model(inputs), targets))
        if (options.out / "stop").exists():
            trainer.stop()


def under_torchrun(options):
    """Train from the newest snapshot until told to stop."""
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    model, optimizer, data, device = make(options)
    snapshot, step = options.out / "snapshot.pt", 0
    if snapshot.exists():
        saved = torch.load(snapshot, map_location=device)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]
    rank, world = dist.get_rank(), dist.get_world_size()
    wrapped = DistributedDataParallel(model)
    sampler = DistributedSampler(data)
    stamps = Stamps(options.out)
    again = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    stop = torch.zeros(1, device=device)
    while not stop.item():
        for inputs, targets in DataLoader(data, batch_size=BATCH // world, sampler=sampler):
            time.sleep(options.pace)
            loss = functional.mse_loss(wrapped(inputs.to(device)), targets.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            stamps.add(step=step, world=world, round=again, rank=rank)
            step += 1
            if rank == 0 and step % options.save_every == 0:
                save(snapshot, model, optimizer, step)
        stop.fill_(float((options.out / "stop").exists()))
        dist.all_reduce(stop)
    dist.destroy_process_group()


def save(snapshot, model, optimizer, step):
    """Replace the snapshot."""
    beside = snapshot.with_suffix(".new")
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    torch.save(state, beside)
    beside.rename(snapshot)


def main():
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=["ours", "torchrun"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--pace", type=float, default=0.01)
    parser.add_argument("--save-every", type=int, default=50)
    options = parser.parse_args()
    {"ours": ours, "torchrun": under_torchrun}[options.way](options)


if __name__ == "__main__":
    main()
