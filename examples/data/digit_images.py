"""Write scikit-learn's handwritten digits as images, one folder per digit.

python examples/data/digit_images.py images
"""

import argparse
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

SIDE = 32  # pixels; the digits themselves have 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--per-class", type=int, default=170, help="images of each digit")
    args = parser.parse_args()
    bunch = load_digits()
    for digit in range(10):
        folder = args.folder / str(digit)
        folder.mkdir(parents=True, exist_ok=True)
        for number, pixels in enumerate(bunch.images[bunch.target == digit][: args.per_class]):
            image = Image.fromarray((pixels * 15).astype("uint8")).resize((SIDE, SIDE))
            image.save(folder / f"{number:03}.png")
    print(f"digit_images: 10 folders in {args.folder}")


if __name__ == "__main__":
    main()
