"""Train GPT-2 in bf16, with accumulation, gradient clipping, a warm-up and checkpoints.

python examples/mixed_precision.py --steps 40
eflaunch --slots 4 --deadline 10m examples/mixed_precision.py --steps 200
eflaunch --deadline 8h examples/mixed_precision.py --size gpt2 --batch-size 512 --microbatch 16
"""

import argparse
import math
import sysconfig
from pathlib import Path

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset

from eflib import ElasticTrainer
from eflib.models import build

SIZES: dict[str, dict[str, int]] = {
    "small": {"context": 64, "width": 64, "num_layers": 2, "num_heads": 2},
    "gpt2": {"context": 1024},
}


class Sources(Dataset[tuple[Tensor, Tensor]]):
    """Pieces of Python's own sources; each byte is a token, and the next one its target."""

    def __init__(self, length: int) -> None:
        files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
        text = b"".join(file.read_bytes() for file in files)
        self.bytes, self.length = torch.frombuffer(bytearray(text), dtype=torch.uint8), length

    def __len__(self) -> int:
        return (len(self.bytes) - 1) // self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        piece = self.bytes[index * self.length : (index + 1) * self.length + 1].long()
        return piece[:-1], piece[1:]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=32, help="per step, over all workers")
    parser.add_argument("--microbatch", type=int, default=8, help="most samples at once on a GPU")
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="bf16")
    parser.add_argument("--lr", type=float, default=6e-4)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--checkpoints", help="folder; under eflaunch a job has one of its own")
    return parser.parse_args()


def main() -> None:
    args = options()
    torch.manual_seed(0)
    model = build("gpt2", vocabulary_size=256, **SIZES[args.size])
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    max_steps: int = args.steps
    warmup = max(1, max_steps // 20)

    def share(step: int) -> float:
        """Rise for the warm-up, then fall along a cosine; counted in steps of the whole batch."""
        cosine = math.cos(math.pi * step / max_steps)
        return min((step + 1) / warmup, 0.55 + 0.45 * cosine)

    trainer = ElasticTrainer(
        model,
        optimizer,
        Sources(SIZES[args.size]["context"]),
        loss_fn=model.loss,
        global_batch_size=args.batch_size,
        max_steps=max_steps,
        lr_scheduler=LambdaLR(optimizer, share),
        max_microbatch_size=args.microbatch,
        precision=args.precision,
        max_grad_norm=1.0,
        checkpoint_dir=args.checkpoints,
    )
    trainer.fit()
    if trainer.rank == 0:
        print(f"mixed_precision: {trainer.global_step} steps, loss {trainer.loss:.3f} per byte")


if __name__ == "__main__":
    main()
