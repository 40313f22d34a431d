"""Inception-v3: modules of parallel branches whose outputs are stacked, with an auxiliary head.

Wide filters are made of narrow ones: 5x5 is two 3x3, 7x7 is 1x7 and 7x1. The module types have the
numbers of the paper's figures: 5 (35x35 grid), 10 (to 17x17), 6 (17x17), 10 (to 8x8), 7 (8x8).

Shape suffixes: B batch, C channels, H height, W width.

References:
    Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016,
    arXiv:1512.00567. Channel counts inside modules follow the authors' published network.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from eflib.models.task import ImageClassifier

AUXILIARY_WEIGHT = 0.4  # of the auxiliary head's loss; as in the authors' published training
Scale = Callable[[int], int]


class Conv(nn.Sequential):
    """Convolution, BatchNorm, ReLU.

    Args:
        in_channels: Channels that come in.
        out_channels: Channels that go out.
        kernel: Height and width of the filter, or one number for both.
        stride: Of the convolution.
        keep: True pads so that the image keeps its size.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | tuple[int, int] = 1,
        *,
        stride: int = 1,
        keep: bool = True,
    ) -> None:
        size = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (size[0] // 2, size[1] // 2) if keep else (0, 0)
        super().__init__(
            nn.Conv2d(in_channels, out_channels, size, stride, padding, bias=False),
            nn.BatchNorm2d(out_channels, eps=0.001),
            nn.ReLU(),
        )


class Branches(nn.ModuleList):
    """Modules side by side: each gets the same input, and their outputs are stacked."""

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Return the outputs of all branches, one after the other along the channels."""
        return torch.cat([branch(x_bchw) for branch in self], dim=1)


def pooled(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return the branch of average pooling and a 1x1 convolution."""
    pool = nn.AvgPool2d(kernel_size=3, stride=1, padding=1)
    return nn.Sequential(pool, Conv(in_channels, out_channels))


def grid35(c_in: int, c_pool: int, c: Scale) -> Branches:
    """Return a module for the 35x35 grid (figure 5); ``c`` scales its channel counts."""
    return Branches(
        [
            Conv(c_in, c(64)),
            nn.Sequential(Conv(c_in, c(48)), Conv(c(48), c(64), 5)),
            nn.Sequential(Conv(c_in, c(64)), Conv(c(64), c(96), 3), Conv(c(96), c(96), 3)),
            pooled(c_in, c_pool),
        ]
    )


def to_grid17(c_in: int, c: Scale) -> Branches:
    """Return the module that halves 35x35 (figure 10)."""
    return Branches(
        [
            Conv(c_in, c(384), 3, stride=2, keep=False),
            nn.Sequential(
                Conv(c_in, c(64)),
                Conv(c(64), c(96), 3),
                Conv(c(96), c(96), 3, stride=2, keep=False),
            ),
            nn.MaxPool2d(kernel_size=3, stride=2),
        ]
    )


def grid17(c_in: int, c_7: int, c: Scale) -> Branches:
    """Return a module for the 17x17 grid (figure 6, n = 7) with ``c_7`` channels inside."""
    return Branches(
        [
            Conv(c_in, c(192)),
            nn.Sequential(
                Conv(c_in, c_7),
                Conv(c_7, c_7, (1, 7)),
                Conv(c_7, c(192), (7, 1)),
            ),
            nn.Sequential(
                Conv(c_in, c_7),
                Conv(c_7, c_7, (7, 1)),
                Conv(c_7, c_7, (1, 7)),
                Conv(c_7, c_7, (7, 1)),
                Conv(c_7, c(192), (1, 7)),
            ),
            pooled(c_in, c(192)),
        ]
    )


def to_grid8(c_in: int, c: Scale) -> Branches:
    """Return the module that halves 17x17 (figure 10)."""
    return Branches(
        [
            nn.Sequential(Conv(c_in, c(192)), Conv(c(192), c(320), 3, stride=2, keep=False)),
            nn.Sequential(
                Conv(c_in, c(192)),
                Conv(c(192), c(192), (1, 7)),
                Conv(c(192), c(192), (7, 1)),
                Conv(c(192), c(192), 3, stride=2, keep=False),
            ),
            nn.MaxPool2d(kernel_size=3, stride=2),
        ]
    )


def grid8(c_in: int, c: Scale) -> Branches:
    """Return a module for the 8x8 grid (figure 7): filters side by side at the end of branches."""
    return Branches(
        [
            Conv(c_in, c(320)),
            nn.Sequential(
                Conv(c_in, c(384)),
                Branches([Conv(c(384), c(384), (1, 3)), Conv(c(384), c(384), (3, 1))]),
            ),
            nn.Sequential(
                Conv(c_in, c(448)),
                Conv(c(448), c(384), 3),
                Branches([Conv(c(384), c(384), (1, 3)), Conv(c(384), c(384), (3, 1))]),
            ),
            pooled(c_in, c(192)),
        ]
    )


class Inception(ImageClassifier):
    """Inception-v3; as it stands 27,161,264 parameters, its auxiliary head among them.

    Args:
        num_classes: Number of outputs.
        width: Factor of all channel counts; below 1 for a smaller network.
        dropout: Share of features that are dropped before the last layer in training.
        image_side: Height and width of an example's images; the auxiliary head needs 299.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        width: float = 1.0,
        dropout: float = 0.5,
        image_side: int = 299,
    ) -> None:
        super().__init__((3, image_side, image_side), num_classes)

        def c(channels: int) -> int:
            return max(1, round(channels * width))

        c_35 = c(64) + c(64) + c(96)  # beside the pooled branch
        c_17 = c(384) + c(96) + c_35 + c(64)
        c_8 = c(320) + c(192) + 4 * c(192)
        c_last = c(320) + 4 * c(384) + c(192)
        self.stem = nn.Sequential(
            Conv(3, c(32), 3, stride=2, keep=False),
            Conv(c(32), c(32), 3, keep=False),
            Conv(c(32), c(64), 3),
            nn.MaxPool2d(kernel_size=3, stride=2),
            Conv(c(64), c(80)),
            Conv(c(80), c(192), 3, keep=False),
            nn.MaxPool2d(kernel_size=3, stride=2),
        )
        self.body = nn.Sequential(
            grid35(c(192), c(32), c),
            grid35(c_35 + c(32), c(64), c),
            grid35(c_35 + c(64), c(64), c),
            to_grid17(c_35 + c(64), c),
            grid17(c_17, c(128), c),
            grid17(4 * c(192), c(160), c),
            grid17(4 * c(192), c(160), c),
            grid17(4 * c(192), c(192), c),
        )
        self.auxiliary = nn.Sequential(
            nn.AvgPool2d(kernel_size=5, stride=3),
            Conv(4 * c(192), c(128)),
            Conv(c(128), c(768), 5, keep=False),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(c(768), num_classes),
        )
        self.head = nn.Sequential(
            to_grid8(4 * c(192), c),
            grid8(c_8, c),
            grid8(c_last, c),
            nn.AdaptiveAvgPool2d(1),
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(c_last, num_classes),
        )

    def forward(self, images_bchw: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return class scores.

        Args:
            images_bchw: Normalised images of shape ``(B, 3, H, W)``.

        Returns:
            Unnormalised scores of shape ``(B, num_classes)``; in training a pair of them, the
            second from the auxiliary head.
        """
        features_bchw = self.body(self.stem(images_bchw))
        scores = self.head(features_bchw)
        return (scores, self.auxiliary(features_bchw)) if self.training else scores

    def loss(self, outputs: Tensor | tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
        """Return the mean cross-entropy; in training plus 0.4 of the auxiliary head's."""
        if not isinstance(outputs, tuple):
            return functional.cross_entropy(outputs, targets)
        main, auxiliary = (functional.cross_entropy(scores, targets) for scores in outputs)
        return main + AUXILIARY_WEIGHT * auxiliary
