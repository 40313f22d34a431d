"""BatchNorm over the samples of all ranks: what ``sync_batchnorm=True`` does.

torch's own ``SyncBatchNorm`` trains on GPUs alone. This one needs what a process group has: a sum
over ranks, in the forward pass of each layer and in its backward pass.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

import torch
import torch.distributed as dist

from eflib.trainer.collectives import PeerLostError, all_reduce


class RankSum:
    """A sum over ranks in the middle of a pass, while it is open, and what went wrong there.

    A peer that is gone makes the sum fail. No error leaves the pass, which may run in a script's
    own code: the layer goes on alone, the step is void, and ``close`` raises.
    """

    def __init__(self) -> None:
        self.layers: list[SyncedBatchNorm] = []
        self.is_open = False
        self._went_alone = False
        self._failure = ""

    def open(self, *, everybody: bool) -> None:
        """Begin a step; ranks sum in its layers only if everybody has the same passes."""
        are_more = dist.is_initialized() and dist.get_world_size() > 1
        self.is_open = are_more and everybody
        self._went_alone = are_more and not everybody
        self._failure = ""

    def add(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return the sum over ranks."""
        total = numbers.clone()
        if self.is_open:
            try:
                all_reduce(total)
            except PeerLostError as error:
                self._failure = str(error)
                self.is_open = False
                total = numbers.clone()
        return total

    def close(self, weight: float) -> None:
        """End a step; layers that went alone in it get the mean of all ranks' statistics.

        Args:
            weight: This rank's share of the step's samples.

        Raises:
            PeerLostError: A peer is gone.
        """
        self.is_open = False
        if self._failure:
            raise PeerLostError(self._failure)
        if self._went_alone:
            for layer in self.layers:
                layer.average_over_ranks(weight)


class _Context(Protocol):
    """What the forward pass of ``_Sum`` keeps for its backward pass."""

    rank_sum: RankSum


class _Sum(torch.autograd.Function):
    """The sum over ranks; each rank's loss depends on it, so its gradient is summed as well."""

    @staticmethod
    def forward(ctx: _Context, numbers: torch.Tensor, rank_sum: RankSum) -> torch.Tensor:
        ctx.rank_sum = rank_sum
        return rank_sum.add(numbers)

    @staticmethod
    def backward(ctx: _Context, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.rank_sum.add(grad.contiguous()), None


class SyncedBatchNorm(torch.nn.modules.batchnorm._BatchNorm):
    """A BatchNorm of any number of dimensions whose statistics are of all ranks' samples.

    Args:
        own: The layer that it stands for; parameters and buffers are the same tensors.
        rank_sum: Sums over ranks in this layer, while it is open.
    """

    def __init__(self, own: torch.nn.modules.batchnorm._BatchNorm, rank_sum: RankSum) -> None:
        super().__init__(
            own.num_features,
            own.eps,
            own.momentum,
            affine=own.affine,
            track_running_stats=own.track_running_stats,
        )
        self._parameters = own._parameters
        self._buffers = own._buffers
        self.training = own.training
        self._check: Any = type(own)._check_input_dim
        self._rank_sum = rank_sum

    def _check_input_dim(self, input: torch.Tensor) -> None:  # noqa: A002 - torch's name
        self._check(self, input)

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - torch's name
        """Normalise over the samples of all ranks while these sum; else like the layer itself."""
        if not self.training or not self._rank_sum.is_open:
            return super().forward(input)
        self._check_input_dim(input)
        with torch.autocast(input.device.type, enabled=False):
            return self._normalised(input)

    def _normalised(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - torch's name
        x = input if input.dtype == torch.float64 else input.float()
        dims = [dim for dim in range(x.dim()) if dim != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        count = x.new_full((1,), x.numel() // x.shape[1])
        *sums, size = _Sum.apply(torch.cat([x.sum(dims), count]), self._rank_sum).split(  # type: ignore[no-untyped-call]
            [x.shape[1], 1]
        )
        mean = sums[0] / size
        centred = x - mean.view(shape)
        var = _Sum.apply(centred.square().sum(dims), self._rank_sum) / size  # type: ignore[no-untyped-call]
        self._track(mean.detach(), (var * size / (size - 1).clamp(min=1)).detach())
        out = centred * torch.rsqrt(var + self.eps).view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        result: torch.Tensor = out.to(input.dtype)
        return result

    def _track(self, mean: torch.Tensor, var: torch.Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        with torch.no_grad():
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            momentum = self.momentum
            if momentum is None:
                momentum = 1.0 / float(self.num_batches_tracked or 1)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
            self.running_var.lerp_(var.to(self.running_var.dtype), momentum)

    def average_over_ranks(self, weight: float) -> None:
        """Let the running statistics be the mean of all ranks', by weights that sum to 1."""
        with torch.no_grad():
            for buffer in self._buffers.values():
                if buffer is None:
                    continue
                if buffer.is_floating_point():
                    buffer.mul_(weight)
                    all_reduce(buffer)
                else:
                    all_reduce(buffer, largest=True)


@cache
def _keep_from_compilation() -> None:
    """A compiler must not see a sum over ranks. Not a decorator: that imports it for everybody."""
    SyncedBatchNorm.forward = torch.compiler.disable(SyncedBatchNorm.forward)  # type: ignore[method-assign,no-untyped-call]


def convert(model: torch.nn.Module) -> RankSum:
    """Put a synced layer in the place of each BatchNorm below a model; return what they sum with.

    Names, parameters and buffers stay: a state dict from before fits.
    """
    _keep_from_compilation()
    rank_sum = RankSum()
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.modules.batchnorm._BatchNorm):
                rank_sum.layers.append(SyncedBatchNorm(child, rank_sum))
                setattr(parent, name, rank_sum.layers[-1])
    return rank_sum
