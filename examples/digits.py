"""Train a small CNN on scikit-learn's handwritten digits: the smallest elastic job.

python examples/digits.py
torchrun --nproc-per-node 2 examples/digits.py
eflaunch --slots 4 --deadline 10m examples/digits.py --epochs 20
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from eflib import ElasticTrainer
from eflib.models import Paced, build
from eflib.trainer.audit import SampleAudit

NUM_TRAIN = 1500  # of 1797 images; the rest are held out


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, help="train for this many steps; before --epochs")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=50, help="per step, over all workers")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pace", type=float, default=0.0, help="seconds per sample; 0: off")
    parser.add_argument("--audit", help="folder that receives the samples used by each step")
    return parser.parse_args()


def digits() -> tuple[Tensor, Tensor]:
    """Return images (1797, 1, 8, 8) with values in [0, 1], and their digits (1797,)."""
    bunch = load_digits()
    images = torch.tensor(bunch.images / 16.0, dtype=torch.float32).unsqueeze(1)
    return images, torch.tensor(bunch.target)


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, targets: Tensor) -> float:
    model.eval()
    device = next(model.parameters()).device
    correct = model(images.to(device)).argmax(dim=1) == targets.to(device)
    return float(correct.float().mean())


def main() -> None:
    args = options()
    torch.manual_seed(args.seed)
    images, targets = digits()
    model = build("digits")
    trainer = ElasticTrainer(
        Paced(model, seconds_per_sample=args.pace) if args.pace else model,
        torch.optim.Adam(model.parameters(), lr=args.lr),
        TensorDataset(images[:NUM_TRAIN], targets[:NUM_TRAIN]),
        loss_fn=nn.functional.cross_entropy,
        global_batch_size=args.batch_size,
        max_steps=args.steps,
        max_epochs=None if args.steps else args.epochs,
        seed=args.seed,
        callbacks=[SampleAudit(args.audit)] if args.audit else [],
    )
    trainer.fit()
    if trainer.rank == 0:
        held_out = accuracy(model, images[NUM_TRAIN:], targets[NUM_TRAIN:])
        print(f"digits: {trainer.global_step} steps, accuracy {held_out:.3f} on held-out images")


if __name__ == "__main__":
    main()
