"""Small models and data for tests of the trainer."""

import torch

from eflib import ElasticTrainer
from eflib.trainer.callback import Callback
from eflib.trainer.data.microbatch import MicrobatchSize
from eflib.trainer.data.split import BatchSplit
from eflib.trainer.state.state import TrainingState


class Points(torch.utils.data.Dataset):
    """Random points and a linear target, in any dtype; item i is always the same."""

    def __init__(self, size=22, dtype=torch.float64):
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randn(size, 3, generator=generator, dtype=dtype)
        self.y = self.x.sum(1, keepdim=True)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


class Noisy(Points):
    """Augments at random with all three generators, as image data sets do."""

    def __getitem__(self, index):
        import random

        import numpy as np

        noise = torch.rand(()) + float(np.random.rand()) + random.random()
        return self.x[index] + noise, self.y[index]


class Recorder(Callback):
    """Keeps what a script could see after each step."""

    def __init__(self):
        self.samples, self.losses, self.rates, self.events = [], [], [], []

    def on_step_end(self, trainer):
        self.samples.append(list(trainer.batch_samples))
        self.losses.append(trainer.loss)
        self.rates.append(trainer.optimizer.param_groups[0]["lr"])
        self.events.append(f"step {trainer.global_step}")

    def on_rescale(self, trainer):
        self.events.append("rescale")

    def on_fit_end(self, trainer):
        self.events.append("end")


def a_model(seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Dropout(0.2), torch.nn.Linear(5, 1)
    ).to(dtype)


def a_trainer(model=None, *, lr=0.05, dataset=None, optimizer=None, **settings):
    """Return a trainer over 22 points, 4 a step, for 12 steps unless told otherwise."""
    model = model or a_model()
    if "max_epochs" not in settings:
        settings.setdefault("max_steps", 12)
    return ElasticTrainer(
        model,
        optimizer or torch.optim.Adam(model.parameters(), lr=lr),
        dataset if dataset is not None else Points(),
        **{
            "global_batch_size": 4,
            "loss_fn": torch.nn.functional.mse_loss,
            "device": "cpu",
            **settings,
        },
    )


def a_split(limit=None, **settings):
    """Return how shares are split, with so many samples a forward pass."""
    return BatchSplit(MicrobatchSize(limit, 1, least=1), **settings)


def blocks_of(feed, step):
    """Return this rank's micro-batches of a step."""
    return feed.share(feed.begin(step)).blocks


def weights(trainer):
    return [one.detach().clone() for one in trainer.model.parameters()]


def are_equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def a_state(step=5):
    """Return the state of a model and its optimizer after some steps."""
    model = a_model()
    state = TrainingState(model, {"optimizer": torch.optim.Adam(model.parameters())})
    state.global_step = step
    return state
