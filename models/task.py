"""What every model of the zoo brings along: random inputs of its kind, and its task's loss.

Both are what a profiling run needs beside the model, whose speed does not depend on what the
numbers mean.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

Tensors: TypeAlias = "Tensor | tuple[Tensors, ...]"
"""Inputs, outputs or targets of a model: how they are nested differs from model to model."""

IGNORED = -100  # a target that does not count, as in torch's cross_entropy


class TaskModel(nn.Module):
    """A model together with what it is trained on and for."""

    loss: Callable[..., Tensor | tuple[Tensor, Tensor]]
    """The task's loss of a batch's outputs, as the model returned them, and its targets: the mean
    over the samples, or a pair (sum, count) where samples weigh differently."""

    def example(
        self, batch_size: int, generator: torch.Generator | None = None
    ) -> tuple[Tensors, Tensors]:
        """Return a random batch ``(inputs, targets)`` on the CPU.

        Args:
            batch_size: Number of samples; the first dimension of every tensor.
            generator: Where the numbers come from; None for torch's own.

        Returns:
            A pair: ``model(inputs)``, or ``model(*inputs)`` for a tuple, and what ``loss`` takes.
        """
        raise NotImplementedError


class ImageClassifier(TaskModel):
    """A model from images to class scores; the base of the convolutional networks.

    Args:
        image_shape: Channels, height and width of an image.
        num_classes: Number of outputs.
    """

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.num_classes = num_classes

    def example(
        self, batch_size: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return random images ``(batch, channels, height, width)`` and their classes."""
        images = torch.randn(batch_size, *self.image_shape, generator=generator)
        return images, torch.randint(self.num_classes, (batch_size,), generator=generator)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of class scores ``(batch, classes)``."""
        return functional.cross_entropy(outputs, targets)


class Samples(Dataset[Tensors]):
    """Random samples for a model, as a map-style data set: the same sample at each visit.

    Args:
        model: One of the zoo.
        length: Number of samples.
        seed: Another seed gives other samples.

    Raises:
        ValueError: There is no sample in it.
    """

    def __init__(self, model: TaskModel, length: int, *, seed: int = 0) -> None:
        if length < 1:
            raise ValueError(f"a data set of {length} samples cannot be trained on")
        self._example = model.example
        self._length = length
        self._seed = seed

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Tensors:
        if not 0 <= index < self._length:
            raise IndexError(index)
        generator = torch.Generator().manual_seed(self._seed * self._length + index)
        return _first(self._example(1, generator))


def _first(batch: Tensors) -> Tensors:
    """Return the first sample of a batch."""
    if isinstance(batch, tuple):
        return tuple(_first(part) for part in batch)
    return batch[0]
