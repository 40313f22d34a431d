"""A stand-in accelerator: any model, slowed to a stated time per sample.

On a machine with two cores, four training processes are no faster than two, so scaling cannot be
seen. A paced model sleeps as long as an accelerator would compute, and sleeping processes scale:
half the samples take half the time. It stands in for the device's speed only, not for its memory.
"""

import time

from torch import Tensor, nn

from eflib.models.task import Tensors


class Paced(nn.Module):
    """Wrap a model so that its forward pass takes at least a stated time per sample.

    The wrapped model computes as ever and its numbers do not change. Its parameters are found
    under ``module.`` in ``state_dict()``.

    Args:
        module: The model to slow down. Its first argument is the batch; samples are counted along
            that tensor's first dimension.
        seconds_per_sample: Time that the accelerator is busy with one sample, in seconds.
        seconds_per_call: Time that each call costs whatever its size, in seconds: the part of a
            step that does not scale.

    Examples:
        >>> import torch
        >>> model = Paced(nn.Linear(3, 2), seconds_per_sample=0.001)
        >>> model(torch.zeros(4, 3)).shape  # takes four milliseconds
        torch.Size([4, 2])
    """

    def __init__(
        self, module: nn.Module, *, seconds_per_sample: float, seconds_per_call: float = 0.0
    ) -> None:
        super().__init__()
        if seconds_per_sample < 0 or seconds_per_call < 0:
            raise ValueError(
                f"a pace cannot be negative: seconds_per_sample={seconds_per_sample!r}, "
                f"seconds_per_call={seconds_per_call!r}"
            )
        self.module = module
        self.seconds_per_sample = seconds_per_sample
        self.seconds_per_call = seconds_per_call

    def forward(self, batch: Tensor, *others: Tensor) -> Tensors:
        """Run the wrapped model, then sleep for the batch's share of accelerator time.

        Args:
            batch: Inputs of shape ``(samples, ...)``; an empty batch is not waited for.
            *others: Further inputs, handed on untouched.

        Returns:
            What the wrapped model returns.
        """
        outputs: Tensors = self.module(batch, *others)
        if len(batch):
            time.sleep(self.seconds_per_call + self.seconds_per_sample * len(batch))
        return outputs

    def extra_repr(self) -> str:
        """Return the pace, for ``print(model)``."""
        return f"seconds_per_sample={self.seconds_per_sample}"
