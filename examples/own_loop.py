"""A loop of one's own in place of fit(): two losses, logging, a moving average, an early stop.

python examples/own_loop.py --steps 200
eflaunch --slots 4 --deadline 10m examples/own_loop.py --steps 1000
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import TensorDataset

from eflib import ElasticTrainer
from eflib.trainer.callback import Callback


class TwoHeads(nn.Module):
    """Names the digit and draws it again, from the same features."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32), nn.ReLU())
        self.name = nn.Linear(32, 10)
        self.draw = nn.Linear(32, 64)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(images)
        return self.name(features), self.draw(features)


class Averaging(Callback):
    """A moving average. A callback runs once per step on every rank, a loop per micro-batch."""

    def __init__(self, average: AveragedModel) -> None:
        self.average = average

    def on_step_end(self, trainer: ElasticTrainer) -> None:
        self.average.update_parameters(trainer.model)


@torch.no_grad()
def accuracy_of(model: nn.Module, held_out: tuple[Tensor, Tensor], device: torch.device) -> float:
    images, digits = (part.to(device) for part in held_out)
    scores, _ = model(images)
    return float((scores.argmax(dim=1) == digits).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=64, help="per step, over all workers")
    parser.add_argument("--good-enough", type=float, default=0.9, help="accuracy to stop at")
    args = parser.parse_args()
    bunch = load_digits()
    images = torch.tensor(bunch.data / 16.0, dtype=torch.float32)
    digits = torch.tensor(bunch.target)
    data, held_out = TensorDataset(images[:1500], digits[:1500]), (images[1500:], digits[1500:])
    torch.manual_seed(0)
    model = TwoHeads()
    average = AveragedModel(model, avg_fn=lambda old, new, _: 0.99 * old + 0.01 * new)
    trainer = ElasticTrainer(
        model,
        torch.optim.Adam(model.parameters(), lr=1e-3),
        data,
        global_batch_size=args.batch_size,
        max_steps=args.steps,
        callbacks=[Averaging(average)],
    )
    average.to(trainer.device)
    trainer.register("average", average)  # joiners get it, checkpoints have it
    for inputs, targets in trainer:
        scores, drawings = model(inputs)
        is_done = trainer.step(cross_entropy(scores, targets) + mse_loss(drawings, inputs))
        is_mine = is_done and trainer.rank == 0 and not trainer.profiling
        if is_mine and trainer.global_step % 50 == 0:
            accuracy = accuracy_of(average, held_out, trainer.device)
            print(f"step {trainer.global_step}, loss {trainer.loss:.3f}, accuracy {accuracy:.3f}")
            if accuracy > args.good_enough:
                trainer.stop()  # one rank's word is enough; all end after the next step
    if trainer.rank == 0:
        print(f"own_loop: {trainer.global_step} steps, loss {trainer.loss:.3f}")


if __name__ == "__main__":
    main()
