"""Train a GPT-2 that no single GPU has to hold: parameters and optimizer sharded with FSDP2.

python examples/fsdp.py --steps 40
eflaunch --slots 4 --deadline 10m examples/fsdp.py --steps 200 --checkpoints fsdp-checkpoints
eflaunch --deadline 8h examples/fsdp.py --size xl --batch-size 256 --microbatch 4 --precision bf16
"""

import argparse
import sysconfig
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from eflib import ElasticTrainer
from eflib.models import build
from eflib.trainer.state import checkpoint

SIZES: dict[str, dict[str, int]] = {
    "small": {"context": 64, "width": 64, "num_layers": 2, "num_heads": 2},
    "medium": {"context": 1024, "width": 1024, "num_layers": 24, "num_heads": 16},
    "xl": {"context": 1024, "width": 1600, "num_layers": 48, "num_heads": 25},
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
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--checkpoints", help="folder; then the whole model is there at the end")
    return parser.parse_args()


def main() -> None:
    args = options()
    torch.manual_seed(0)
    model = build("gpt2", vocabulary_size=256, **SIZES[args.size])
    trainer = ElasticTrainer(
        model,
        torch.optim.AdamW(model.parameters(), lr=6e-4),
        Sources(SIZES[args.size]["context"]),
        loss_fn=model.loss,
        global_batch_size=args.batch_size,
        max_steps=args.steps,
        max_microbatch_size=args.microbatch,
        precision=args.precision,
        max_grad_norm=1.0,
        checkpoint_dir=args.checkpoints,
        parallel="fsdp",
        fsdp_layers=["blocks.*"],  # each for itself; embeddings and the last norm are the rest
    )
    trainer.fit()
    folder = trainer.save_checkpoint() if args.checkpoints else None  # all ranks: each has its rows
    if folder is not None:
        whole = checkpoint.load(folder)["model"]
        print(f"{sum(one.numel() for one in whole.values())} parameters in {folder}")
    if trainer.rank == 0:
        print(f"fsdp: {trainer.global_step} steps, loss {trainer.loss:.3f} per byte")


if __name__ == "__main__":
    main()
