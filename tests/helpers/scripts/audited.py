"""A training script that keeps account of its samples, and fails when a test asks it to.

What it loads is written down before each step's sum over ranks, what is committed after it; so the
account holds for workers that are killed in between, too. Files in ``<out>``:

- ``pids/<worker>``: written first of all;
- ``trail/<pid>.jsonl``: the account, see ``tests/helpers/trail.py``;
- ``committed``: the newest generation that committed a step, and how many steps there are;
- ``faults/<pid>``: read at each step; a word in it says how to fail;
- ``pace``: seconds per step, a step, and seconds per step from that on; ``finish``: ends training.
"""

import os
import sys
from pathlib import Path

OUT = Path(sys.argv[sys.argv.index("--out") + 1])
WORKER = os.environ.get("EFLIB_WORKER", "alone")
(OUT / "pids").mkdir(parents=True, exist_ok=True)
(OUT / "pids" / f".{WORKER}").write_text(str(os.getpid()))
(OUT / "pids" / f".{WORKER}").rename(OUT / "pids" / WORKER)

import argparse  # noqa: E402 - who kills workers at their start wants to know them early
import json  # noqa: E402
import time  # noqa: E402

import torch  # noqa: E402
from torch import nn  # noqa: E402

from eflib import ElasticTrainer  # noqa: E402
from eflib.trainer.callback import Callback  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--out", required=True)
parser.add_argument("--steps", type=int)
parser.add_argument("--epochs", type=int)
parser.add_argument("--optimizer", choices=["sgd", "adam"], default="sgd")
parser.add_argument("--deterministic", action="store_true")
parser.add_argument("--checkpoint-seconds", type=float, default=300.0)
parser.add_argument("--step-seconds", type=float, default=300.0)
parser.add_argument("--fail-at", type=int, default=-1, help="rank 0 raises at this step, always")
parser.add_argument("--num-workers", type=int, default=0, help="processes that read ahead")
parser.add_argument("--stream", action="store_true", help="an iterable data set with a state")
options = parser.parse_args()
if not options.epochs:
    options.steps = options.steps or 1_000_000  # until the test lets it end

torch.manual_seed(0)
generator = torch.Generator().manual_seed(1)
INPUTS = torch.randn(1003, 20, generator=generator)
TARGETS = torch.randn(1003, 3, generator=generator)


class Data:
    def __len__(self):
        return len(INPUTS)

    def __getitem__(self, index):
        return INPUTS[index], TARGETS[index]


class Stream(torch.utils.data.IterableDataset):
    """The same samples in order; it can be sought."""

    place = 0

    def __iter__(self):
        first, self.place = self.place, 0
        for place in range(first, len(INPUTS)):
            self.place = place + 1
            yield INPUTS[place], TARGETS[place]
        self.place = 0

    def state_dict(self):
        return {"place": self.place}

    def load_state_dict(self, state):
        self.place = state["place"]


class Trail(Callback):
    """One JSON line for each micro-batch that was loaded, and one for each committed step."""

    def __init__(self):
        (OUT / "trail").mkdir(exist_ok=True)
        self.file = (OUT / "trail" / f"{os.getpid()}.jsonl").open("a", buffering=1)
        self.loaded_in = (-1, -1)

    def write(self, **line):
        self.file.write(json.dumps(line) + "\n")

    def loaded(self):
        self.loaded_in = (trainer.global_step, trainer.generation)
        self.write(
            kind="loaded",
            step=trainer.global_step,
            generation=trainer.generation,
            samples=trainer.samples_at_hand,
        )

    def on_step_end(self, trainer):
        if trainer.profiling:
            return
        step = trainer.global_step - 1
        # A step of which this rank hears late was committed in the generation before.
        generation = self.loaded_in[1] if self.loaded_in[0] == step else trainer.generation
        self.write(kind="committed", step=step, generation=generation, time=time.time())
        if trainer.rank == 0:
            (OUT / "committed.new").write_text(f"{trainer.generation} {trainer.global_step}")
            (OUT / "committed.new").rename(OUT / "committed")
        if (OUT / "finish").exists():
            trainer.stop()

    def on_rescale(self, trainer):
        self.entered(trainer)

    def entered(self, trainer):
        self.write(
            kind="entered",
            generation=trainer.generation,
            rank=trainer.rank,
            world_size=trainer.world_size,
            worker=WORKER,
            pid=os.getpid(),
            step=trainer.global_step,
            time=time.time(),
        )


def fail_if_asked():
    """Do what a test has asked this process, or all of a job, to do wrong."""
    if options.fail_at == trainer.global_step and trainer.rank == 0:
        raise ValueError(f"no luck at step {trainer.global_step}")
    fault = OUT / "faults" / str(os.getpid())
    if not fault.exists():
        return
    word = fault.read_text()
    if word == "raise":
        raise ValueError(f"asked to fail: {WORKER}")
    if word == "oom":
        raise torch.OutOfMemoryError(f"out of memory, as asked: {WORKER}")
    if word == "hang":
        while True:
            time.sleep(1.0)
    if word == "deaf":  # no newer generation is heard of any more
        trainer._parts.session.decision = int
    if word == "stop":  # in the very step after which a newer generation is entered
        while not trainer._parts.session.decision():
            time.sleep(0.01)
        trainer.stop()


def pace():
    """Take the time that a step is to take; a test may change it meanwhile."""
    begin = time.monotonic()
    while (left := begin + seconds_per_step() - time.monotonic()) > 0:
        time.sleep(min(left, 0.05))


def seconds_per_step():
    try:
        seconds, limit, held = (OUT / "pace").read_text().split()
    except (OSError, ValueError):
        return 0.0
    return float(held if trainer.global_step >= int(limit) else seconds)


model = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 3))
if options.optimizer == "sgd":
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
else:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
trail = Trail()
trainer = ElasticTrainer(
    model,
    optimizer,
    Stream() if options.stream else Data(),
    num_workers=options.num_workers,
    global_batch_size=64,
    max_steps=options.steps,
    max_epochs=options.epochs,
    callbacks=[trail],
    deterministic=options.deterministic,
    checkpoint_seconds=options.checkpoint_seconds,
    step_seconds=options.step_seconds,
)
known = -1
for inputs, targets in trainer:
    if not trainer.profiling:
        if known != trainer.generation:
            known = trainer.generation
            trail.entered(trainer)
        trail.loaded()
        fail_if_asked()
    pace()
    trainer.step(nn.functional.mse_loss(model(inputs), targets))

weights = torch.cat([one.detach().reshape(-1) for one in model.parameters()])
trail.write(kind="ended", generation=trainer.generation, weights=weights.numpy().tobytes().hex())
if trainer.rank == 0:
    torch.save({"model": model.state_dict(), "loss": trainer.loss}, OUT / "final.pt")
    print(f"done after {trainer.global_step} steps on {trainer.world_size}", flush=True)
