"""Train a ResNet on images in folders, one folder per class.

python examples/data/digit_images.py images     # unless you have some
python examples/image_folder.py images --steps 60
eflaunch --slots 4 --deadline 10m examples/image_folder.py images --epochs 3
eflaunch --deadline 8h examples/image_folder.py imagenet/train --size resnet50 --loaders 8
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from eflib import ElasticTrainer
from eflib.models import build

SIZES: dict[str, tuple[int, dict[str, Any]]] = {
    "small": (32, {"depths": (1, 1, 1, 1), "width": 16}),
    "resnet50": (224, {}),
}
SUFFIXES = {".png", ".jpg", ".jpeg"}


class ImageFolder(Dataset[tuple[Tensor, int]]):
    """The images below a folder, in RGB and scaled to a square; the class is the sub-folder."""

    def __init__(self, folder: Path, side: int) -> None:
        self.classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
        self.files = sorted(f for f in folder.glob("*/*") if f.suffix.lower() in SUFFIXES)
        self.side = side

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        file = self.files[index]
        with Image.open(file) as image:
            pixels = np.array(image.convert("RGB").resize((self.side, self.side)))
        scaled = torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1.0
        return scaled, self.classes.index(file.parent.name)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, help="train for this many steps; before --epochs")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64, help="per step, over all workers")
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--loaders", type=int, default=0, help="loading processes per worker")
    return parser.parse_args()


def main() -> None:
    args = options()
    torch.manual_seed(0)
    side, size = SIZES[args.size]
    data = ImageFolder(args.folder, side)
    model = build("resnet50", num_classes=len(data.classes), image_side=side, **size)
    trainer = ElasticTrainer(
        model,
        torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=1e-4),
        data,
        loss_fn=model.loss,
        global_batch_size=args.batch_size,
        max_steps=args.steps,
        max_epochs=None if args.steps else args.epochs,
        epoch_end="drop",  # BatchNorm refuses a step of one sample
        num_workers=args.loaders,
    )
    trainer.fit()
    if trainer.rank == 0:
        print(f"image_folder: {trainer.global_step} steps, loss {trainer.loss:.3f}")


if __name__ == "__main__":
    main()
