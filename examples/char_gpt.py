"""Train a character GPT on the sources of Python's standard library, which every machine has.

python examples/char_gpt.py --steps 200
eflaunch --slots 4 --deadline 10m examples/char_gpt.py --steps 500
"""

import argparse
import string
import sysconfig
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset

from eflib import ElasticTrainer
from eflib.models import Paced, build
from eflib.trainer.audit import SampleAudit

CONTEXT = 64
NUM_FILES = 20  # the first by name; half a megabyte, the same on every run
NUMBER_OF = {character: number for number, character in enumerate(string.printable)}


class Sources(Dataset[tuple[Tensor, Tensor]]):
    """Pieces of CONTEXT characters, each with the same piece shifted by one as its target."""

    def __init__(self, folder: Path) -> None:
        files = sorted(folder.glob("*.py"))[:NUM_FILES]
        if not files:
            raise SystemExit(f"char_gpt: no Python sources in {folder}: this Python came without")
        text = "".join(file.read_text(encoding="utf-8", errors="replace") for file in files)
        self.tokens = torch.tensor([NUMBER_OF[c] for c in text if c in NUMBER_OF])

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // CONTEXT

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        piece = self.tokens[index * CONTEXT : (index + 1) * CONTEXT + 1]
        return piece[:-1], piece[1:]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, help="train for this many steps; before --epochs")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=32, help="per step, over all workers")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pace", type=float, default=0.0, help="seconds per sample; 0: off")
    parser.add_argument("--audit", help="folder that receives the samples used by each step")
    return parser.parse_args()


def main() -> None:
    args = options()
    torch.manual_seed(args.seed)
    model = build("char_gpt", vocabulary_size=len(NUMBER_OF), context=CONTEXT)
    trainer = ElasticTrainer(
        Paced(model, seconds_per_sample=args.pace) if args.pace else model,
        torch.optim.AdamW(model.parameters(), lr=args.lr),
        Sources(Path(sysconfig.get_path("stdlib"))),
        loss_fn=lambda scores, targets: cross_entropy(scores.flatten(0, 1), targets.flatten()),
        global_batch_size=args.batch_size,
        max_steps=args.steps,
        max_epochs=None if args.steps else args.epochs,
        seed=args.seed,
        callbacks=[SampleAudit(args.audit)] if args.audit else [],
    )
    trainer.fit()
    if trainer.rank == 0:
        print(f"char_gpt: {trainer.global_step} steps, loss {trainer.loss:.3f} per character")


if __name__ == "__main__":
    main()
