"""What a checkpoint costs: bytes, seconds to write, and seconds for which training is held up.

``python tests/benchmarks/checkpoint.py [--width W] [--times N] [--device cuda] [--smallest]``. One
worker trains an MLP with Adam and saves now and then in the background. The peers are
``torch.save`` and ``torch.distributed.checkpoint.save`` of the same state, synced as ours is, which
hold training up for as long as they write. All are medians. ``ratio`` is what training is held up
for, over ``torch.save``; ``step_beside_s`` is a step beside a write, ``step_s`` one without. The
last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed.checkpoint as dcp

from eflib import ElasticTrainer

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Measure, print what was measured, and end with one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", default=None, help="on the disk to be measured")
    parser.add_argument("--smallest", action="store_true", help="a look whether it runs at all")
    options = parser.parse_args()
    if options.smallest:
        options.width, options.times = 64, 1
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="eflib-") as folder:
        result = measure(Path(folder), options)
    for name, value in result.items():
        print(f"{name:<20} {value:.4g}" if isinstance(value, float) else f"{name:<20} {value}")
    print(json.dumps(result))


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train and save in each way; return medians."""
    trainer = make_trainer(folder / "ours", options)
    writer, state = (
        trainer._parts.checkpoints._writer,
        trainer._parts.state,
    )  # what ElasticTrainer itself calls
    steps = iter(trainer)
    train(trainer, steps, 3)
    held, written, beside, alone = [], [], [], []
    for _ in range(options.times + 1):  # the first one allocates the buffers, and does not count
        alone.append(train(trainer, steps, 4) / 4)
        begin = time.perf_counter()
        if not writer.start(state.snapshot()):
            raise SystemExit("the checkpoint before is still being written")
        held.append(time.perf_counter() - begin)
        taken, num_steps = 0.0, 0
        while writer.is_writing:
            taken += train(trainer, steps, 1)
            num_steps += 1
        writer.close()
        written.append(writer.write_s)
        if num_steps:
            beside.append(taken / num_steps)
    wholes = {"model": trainer.model.state_dict(), "optimizer": trainer.optimizer.state_dict()}
    times = range(options.times)
    torch_save = [timed(lambda: plain_save(wholes, folder / "plain.pt")) for _ in times]
    dcp_save = [timed(lambda n=n: dcp_sync_save(wholes, folder / f"dcp-{n}")) for n in times]
    middle = statistics.median
    return {
        "device": options.device,
        "bytes": writer.num_bytes,
        "write_s": middle(written[1:]),
        "held_s": middle(held[1:]),
        "first_held_s": held[0],
        "torch_save_s": middle(torch_save),
        "dcp_save_s": middle(dcp_save),
        "ratio": middle(held[1:]) / middle(torch_save),
        "step_s": middle(alone),
        "step_beside_s": middle(beside) if beside else None,
    }


def make_trainer(folder: Path, options: argparse.Namespace) -> ElasticTrainer:
    """Return a trainer of an MLP that writes no checkpoint by itself."""
    torch.manual_seed(0)
    width = options.width
    layers = [torch.nn.Linear(width, width) for _ in range(8)]
    model = torch.nn.Sequential(*[one for layer in layers for one in (layer, torch.nn.ReLU())])
    data = torch.utils.data.TensorDataset(torch.randn(256, width), torch.randn(256, width))
    return ElasticTrainer(
        model.to(options.device),
        torch.optim.Adam(model.parameters()),
        data,
        global_batch_size=32,
        loss_fn=torch.nn.functional.mse_loss,
        max_steps=10**9,
        checkpoint_dir=folder,
        checkpoint_seconds=1e9,
        device=options.device,
    )


def train(trainer: ElasticTrainer, steps: Any, num_steps: int) -> float:
    """Train some steps in a loop of our own; return the seconds they took."""
    begin = time.perf_counter()
    for _ in range(num_steps):
        inputs, targets = next(steps)
        trainer.step(torch.nn.functional.mse_loss(trainer.model(inputs), targets))
    if trainer.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def timed(act: Callable[[], None]) -> float:
    """Return how long an act takes."""
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def plain_save(state: dict[str, Any], file: Path) -> None:
    """Save as most scripts do, and sync."""
    with file.open("wb") as stream:
        torch.save(state, stream)
        stream.flush()
        os.fsync(stream.fileno())


def dcp_sync_save(state: dict[str, Any], folder: Path) -> None:
    """Save with torch's own storage, which syncs by default."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(state, storage_writer=dcp.FileSystemWriter(folder), no_dist=True)


if __name__ == "__main__":
    main()
