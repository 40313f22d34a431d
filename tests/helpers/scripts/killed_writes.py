"""Kills a writer of checkpoints at every point, or at some; prints what was left each time.

A point is the n-th thing that a writer does to the disk. Each attempt is a process of its own,
forked from this one, which kills itself as ``kill -9`` does, and after part of a chunk is written
when the point is a write.
"""

import json
import os
import random
import signal
import sys
from pathlib import Path

import torch

from eflib.trainer.state import checkpoint, storage
from eflib.trainer.state.state import TrainingState

torch.set_num_threads(1)
folder, num_points, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
storage.CHUNK_BYTES = 4096


def make_state(step):
    torch.manual_seed(step)
    model = torch.nn.Sequential(torch.nn.Linear(60, 50), torch.nn.Linear(50, 40))
    state = TrainingState(model, {})
    state.global_step = step
    return state


class Countdown:
    """Counts what is done to the disk, and kills this process at the last count."""

    def __init__(self, until):
        self.count, self.until = 0, until

    def pass_by(self, before_dying=lambda: None):
        self.count += 1
        if self.count == self.until:
            before_dying()
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self):
        for owner, name in ((os, "fsync"), (Path, "rename"), (Path, "mkdir"), (Path, "unlink")):
            self._wrap(owner, name)
        self._wrap(checkpoint.shutil, "rmtree")
        real = Path.open
        countdown = self

        def open_(path, mode="r", *args, **kwargs):
            file = real(path, mode, *args, **kwargs)
            return Counted(file, countdown) if "w" in mode else file

        Path.open = open_

    def _wrap(self, owner, name):
        real = getattr(owner, name)

        def wrapped(*args, **kwargs):
            self.pass_by()
            return real(*args, **kwargs)

        setattr(owner, name, wrapped)


class Counted:
    """A file whose writes are points; at the last one half of the data reaches the disk."""

    def __init__(self, file, countdown):
        self.file, self.countdown = file, countdown

    def write(self, data):
        def half():
            self.file.write(data[: len(data) // 2])
            self.file.flush()

        self.countdown.pass_by(half)
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()


def attempt(step, point):
    """Write a checkpoint in a child that dies at a point; return how the child ended."""
    child = os.fork()
    if child == 0:
        countdown = Countdown(point)
        countdown.install()
        checkpoint.write(folder, make_state(step).snapshot(), keep=2)
        os._exit(min(countdown.count, 255))
    return os.waitpid(child, 0)[1]


checkpoint.write(folder, make_state(1).snapshot(), keep=2)
checkpoint.write(folder, make_state(2).snapshot(), keep=2)
total = os.waitstatus_to_exitcode(attempt(3, 0))
points = sorted(random.Random(seed).sample(range(1, total + 1), min(num_points, total)))
step, results = 3, []
for point in points:
    killed = os.waitstatus_to_exitcode(attempt(step + 1, point)) == -signal.SIGKILL
    whole = checkpoint.newest(folder)
    found = checkpoint.load(whole)
    weight = make_state(found["global_step"]).model_tensors()["0.weight"]
    same = torch.equal(found["model"]["0.weight"], weight)
    results.append([point, killed, step, found["global_step"], same])
    step = found["global_step"]
print(json.dumps({"total": total, "results": results}))
