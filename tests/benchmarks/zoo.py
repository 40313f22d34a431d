"""The paper's six models at full size on one device: steps per second, kept as profiles.

``python tests/benchmarks/zoo.py [--models A,B] [--steps N] [--precision P] [--out DIR]
[--smallest]``. Each trains under ElasticTrainer, alone in this process, on one batch of random
samples that stays on the device, so that nothing waits for data. Its median step is written to
``DIR/<device>/<model>-<batch>.json`` as a profile with one point; ``--out profiles`` adds it to
those that ship. ``--smallest`` trains tiny models, to see whether it runs, and writes nothing
unless ``--out`` is given. The last line is one JSON object: ``steps_per_s_MODEL``,
``samples_per_s_MODEL``, ``memory_bytes_MODEL``, and ``device``.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import torch

from eflib import ElasticTrainer, models, profiles
from eflib.trainer.callback import Callback
from eflib.trainer.data.batches import to_device
from eflib.trainer.elastic.reporting import machine, memory_bytes

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.unit.models.sizes import SMALL

BATCHES = {
    "resnet50": 128,
    "vgg16": 64,
    "inception3": 64,
    "bert": 64,
    "gpt2": 8,
    "deepspeech2": 32,
}
"""Samples per step; the sizes of the shipped curves where they fit, GPT-2's with 1,024 tokens."""
WARM_UP = 5


class Timer(Callback):
    """Notes when each step was done on the device."""

    def __init__(self, device):
        self._device = device
        self.times = []

    def on_step_end(self, trainer):
        """Note a step."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self.times.append(time.perf_counter())


def trained(name, batch_size, options):
    """Train a model for some steps; return its profile."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    model = models.build(name, **(SMALL[name] if options.smallest else {}))
    batch = to_device(model.example(batch_size), device)
    timer = Timer(device)
    ElasticTrainer(
        model,
        torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9),
        range(batch_size * 1000),
        loss_fn=model.loss,
        collate_fn=lambda _: batch,
        global_batch_size=batch_size,
        max_steps=WARM_UP + options.steps,
        precision=options.precision,
        callbacks=[timer],
        device=device,
    ).fit()
    seconds = [after - before for before, after in zip(timer.times, timer.times[1:], strict=False)]
    low, middle, high = statistics.quantiles(seconds[WARM_UP - 1 :], n=4)
    return profiles.Profile(
        model=name,
        device=machine(device).device,
        points={1: 1 / middle},
        global_batch_size=batch_size,
        source="measured by eflib: python tests/benchmarks/zoo.py",
        measured_at=datetime.now(tz=timezone.utc).isoformat(timespec="seconds"),
        spread={1: (high - low) / middle},
        memory_bytes={1: memory_bytes(device) or 0},
        details={
            "precision": options.precision,
            "num_parameters": sum(one.numel() for one in model.parameters()),
            "steps": options.steps,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "python": platform.python_version(),
        },
    )


def main():
    """Print a line for each model, and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(BATCHES))
    parser.add_argument("--steps", type=int, default=30)
    precision = "bf16" if torch.cuda.is_available() else "fp32"
    parser.add_argument("--precision", default=precision, choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--out", help="folder that receives the profiles")
    parser.add_argument("--smallest", action="store_true", help="tiny models, few steps")
    options = parser.parse_args()
    if options.smallest:
        options.steps = 3
    report = {"precision": options.precision}
    for name in options.models.split(","):
        profile = trained(name, 2 if options.smallest else BATCHES[name], options)
        rate, size = profile.points[1], profile.global_batch_size
        report |= {
            "device": profile.device,
            f"steps_per_s_{name}": round(rate, 4),
            f"samples_per_s_{name}": round(rate * size, 2),
            f"memory_bytes_{name}": int(profile.memory_bytes[1]),
        }
        print(f"{name:12} batch {size:4}  {rate:9.3f} steps/s  {rate * size:9.1f} samples/s")
        if options.out:
            profiles.write(profile, Path(options.out) / profile.device)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    print(json.dumps(report))


if __name__ == "__main__":
    main()
