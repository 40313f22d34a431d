"""What a step costs at rest: ElasticTrainer in a cluster against plain DistributedDataParallel.

``python tests/benchmarks/overhead.py [--sizes 1 2 4] [--pairs N] [--smallest]``. For each number of
workers a job is run by a coordinator and an agent. Its workers hold the same model twice, once
under ElasticTrainer and once under DistributedDataParallel in the same process group, and train
them in turns, some steps each, on the same data with the same batch size. So whatever else the
machine does hits both alike. A block of DDP steps is compared with the mean of the two blocks
around it; the figure is the median of these ratios.

``ratio_N`` is of a small GPT whose step takes some 100 ms on a CPU core; ``small_ratio_N`` of a
network whose step takes a few milliseconds, where fixed costs show. ``deterministic_ratio_2`` is
the deterministic mode's step over the default mode's. ``checkpoint_s`` and ``checkpoint_bytes`` are
of the GPT with Adam. The last line is one JSON object.
"""

import argparse
import inspect
import json
import os
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from eflib import ElasticTrainer
from eflib.models import build

sys.path.insert(0, str(Path(__file__).parent))
from live import LiveCluster, device_for  # beside this file, however it is started

GPT = {"width": 192, "num_layers": 4, "num_heads": 4}
KINDS = {"gpt": (16, 3), "small": (32, 20)}  # global batch size, steps in a block


class Texts(Dataset):
    """Random characters, each to be followed by the next."""

    def __init__(self):
        self.data = torch.randint(0, 100, (2048, 65), generator=torch.Generator().manual_seed(1))

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return self.data[index, :-1], self.data[index, 1:]


class Images(Dataset):
    """Random images of a digit's size."""

    def __init__(self):
        generator = torch.Generator().manual_seed(1)
        self.x = torch.rand(2048, 1, 8, 8, generator=generator)
        self.y = torch.randint(0, 10, (2048,), generator=generator)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


def make(kind):
    """Return a model, its data and the loss."""
    torch.manual_seed(0)
    if kind == "gpt":
        return build("char_gpt", **GPT), Texts(), _of_characters
    return build("digits"), Images(), functional.cross_entropy


def _of_characters(scores, targets):
    return functional.cross_entropy(scores.flatten(0, 1), targets.flatten())


# In a worker --------------------------------------------------------------------------------------


class Plain:
    """The same training as everybody writes it, with DistributedDataParallel."""

    def __init__(self, kind, trainer):
        model, data, self.loss_fn = make(kind)
        self.device = trainer.device
        model.to(self.device)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
        where = [trainer.device] if trainer.device.type == "cuda" else None
        self.model = DistributedDataParallel(model, device_ids=where)
        sampler = DistributedSampler(data, seed=0)
        size = trainer.global_batch_size // trainer.world_size
        self.loader = DataLoader(data, batch_size=size, sampler=sampler, drop_last=True)
        self.batches = iter(self.loader)

    def step(self):
        """Take one optimizer step."""
        batch = next(self.batches, None)
        if batch is None:
            self.batches = iter(self.loader)
            batch = next(self.batches)
        inputs, targets = (one.to(self.device) for one in batch)
        loss = self.loss_fn(self.model(inputs), targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


class Stopwatch:
    """Times blocks from when all ranks are there to when all are done."""

    def __init__(self, device):
        self._flag = torch.zeros(1, device=device)

    def meet(self):
        """Wait for all ranks, and for the device; returns the time."""
        if dist.is_initialized():
            dist.all_reduce(self._flag)
        if self._flag.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()


def work(options):
    """Be a worker: train both in turns once all workers are there."""
    model, data, loss_fn = make(options.kind)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    size, block = KINDS[options.kind]
    extra = {"deterministic": True} if options.deterministic else {}
    trainer = ElasticTrainer(
        model,
        optimizer,
        data,
        global_batch_size=size,
        max_steps=10**7,
        checkpoint_dir=options.out.parent / f"{options.out.name}-checkpoints",
        checkpoint_seconds=1e9,
        **extra,
    )
    ours, theirs = [], []
    plain, watch = None, Stopwatch(trainer.device)
    began = first = 0.0
    for inputs, targets in trainer:
        step, generation = trainer.global_step, trainer.generation
        trainer.step(loss_fn(model(inputs), targets))
        if trainer.global_step == step or trainer.generation != generation:
            continue  # the step has more micro-batches, or joiners have not been in one yet
        if trainer.world_size != options.size:
            continue
        if plain is None:
            _single_group(options, trainer.device)
            plain, first = Plain(options.kind, trainer), trainer.global_step
            for _ in range(3):
                plain.step()
            began = watch.meet()
        elif (trainer.global_step - first) % block == 0:
            ended = watch.meet()
            ours.append((ended - began) / block)
            for _ in range(block):
                plain.step()
            began = watch.meet()
            theirs.append((began - ended) / block)
            if len(ours) > options.pairs:
                trainer.stop()
    if trainer.rank == 0:
        options.out.write_text(json.dumps({"ours": ours, "theirs": theirs, **saving(trainer)}))


def _single_group(options, device):
    """DistributedDataParallel needs a group also where there is one worker."""
    if not dist.is_initialized():
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=f"file://{options.out}.meeting",
            rank=0,
            world_size=1,
        )


def saving(trainer):
    """Time a checkpoint; returns its seconds and bytes."""
    began = time.perf_counter()
    folder = trainer.save_checkpoint()
    seconds = time.perf_counter() - began
    files = [file for file in Path(folder).rglob("*") if file.is_file()] if folder else []
    return {"save_s": seconds, "save_bytes": sum(file.stat().st_size for file in files)}


# In the command -----------------------------------------------------------------------------------


def measure(cluster, kind, size, pairs, *, deterministic=False):
    """Run one job; returns the median ratio and what the job wrote."""
    name = f"{kind}{size}{'-deterministic' * deterministic}"
    out = cluster.folder / f"{name}.json"
    words = ["--work", kind, "--size", size, "--pairs", pairs, "--out", out]
    job = cluster.submit(
        name, __file__, *words, *(["--deterministic"] * deterministic), max_gpus=size
    )
    if job.wait(timeout=1800) or not out.exists():
        raise RuntimeError(f"the job {name} failed:\n{cluster.output()}")
    found = json.loads(out.read_text())
    around = [(one + other) / 2 for one, other in pairwise(found["ours"])]
    ratios = [ours / theirs for ours, theirs in zip(around, found["theirs"], strict=False)]
    low, ratio, high = statistics.quantiles(ratios, n=4)
    print(
        f"{name:20} {size} workers: step {1000 * statistics.median(found['ours']):8.2f} ms, "
        f"DDP's {1000 * statistics.median(found['theirs']):8.2f} ms, "
        f"ratio {ratio:.4f} (quartiles {low:.4f} to {high:.4f}, {len(ratios)} pairs)",
        flush=True,
    )
    return ratio, found


def main():
    """Print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--pairs", type=int, default=40, help="comparisons of blocks, each size")
    parser.add_argument("--smallest", action="store_true", help="a look whether it runs at all")
    parser.add_argument("--work", dest="kind", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--deterministic", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.kind:
        work(options)
        return
    known = "deterministic" in inspect.signature(ElasticTrainer).parameters
    sizes, pairs = ([2], 2) if options.smallest else (options.sizes, options.pairs)
    report = {f"ratio_{size}": None for size in (1, 2, 4)} | {"deterministic_ratio_2": None}
    for size in sizes:
        with LiveCluster(slots=size) as cluster:
            report[f"small_ratio_{size}"], _ = measure(cluster, "small", size, pairs)
            if options.smallest:
                continue
            report[f"ratio_{size}"], found = measure(cluster, "gpt", size, pairs)
            report |= {"checkpoint_s": found["save_s"], "checkpoint_bytes": found["save_bytes"]}
            if known and size == 2:
                fixed, _ = measure(cluster, "gpt", size, pairs, deterministic=True)
                report["deterministic_ratio_2"] = fixed / report["ratio_2"]
    devices = {str(size): device_for(size) for size in sizes}
    report |= {"devices": devices, "cores": os.cpu_count()}
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in report.items()}))


if __name__ == "__main__":
    main()
