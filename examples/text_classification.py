"""Fine-tune a BERT classifier: from which package of Python's library is this piece of text?

python examples/text_classification.py --steps 150
eflaunch --slots 4 --deadline 10m examples/text_classification.py --epochs 2
eflaunch --deadline 2h examples/text_classification.py --size base --batch-size 256   # on GPUs
"""

import argparse
import sysconfig
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import TensorDataset, random_split

from eflib import ElasticTrainer
from eflib.models import build

PACKAGES = "asyncio", "email", "multiprocessing", "unittest"
LENGTH = 128  # bytes of a piece; each byte is a token
SIZES: dict[str, dict[str, int]] = {
    "small": {"width": 64, "num_layers": 2, "num_heads": 2},
    "base": {},  # BERT-base: 12 layers of width 768
}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, help="train for this many steps; before --epochs")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=32, help="per step, over all workers")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--size", choices=SIZES, default="small")
    return parser.parse_args()


def pieces() -> TensorDataset:
    """Return pieces of text as bytes (N, LENGTH), and the number of the package of each (N,)."""
    texts, classes = [], []
    for number, package in enumerate(PACKAGES):
        files = sorted((Path(sysconfig.get_path("stdlib")) / package).glob("*.py"))
        text = b"".join(file.read_bytes() for file in files)
        count = len(text) // LENGTH
        tokens = torch.frombuffer(bytearray(text[: count * LENGTH]), dtype=torch.uint8)
        texts.append(tokens.view(count, LENGTH).long())
        classes.append(torch.full((count,), number))
    return TensorDataset(torch.cat(texts), torch.cat(classes))


def correct(scores: Tensor, targets: Tensor) -> Tensor:
    return (scores.argmax(dim=1) == targets).float().mean()


def main() -> None:
    args = options()
    torch.manual_seed(0)
    train, held_out = random_split(pieces(), [0.9, 0.1], torch.Generator().manual_seed(0))
    sizes = {"vocabulary_size": 256, "context": LENGTH, **SIZES[args.size]}
    model = build("bert_classifier", num_classes=len(PACKAGES), **sizes)
    trainer = ElasticTrainer(
        model,
        torch.optim.AdamW(model.parameters(), lr=args.lr),
        train,
        loss_fn=model.loss,
        global_batch_size=args.batch_size,
        max_steps=args.steps,
        max_epochs=None if args.steps else args.epochs,
    )
    trainer.fit()
    if trainer.rank == 0:
        accuracy = trainer.evaluate(held_out, correct)
        print(f"text_classification: {trainer.global_step} steps, accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
