"""ResNet-50: sums of what a block finds and what it was given, 16 blocks of three convolutions.

The stride of a stage sits in its first block's 3x3 convolution and not in the 1x1 before it, as in
most implementations since; the count of parameters is the same.

Shape suffixes: B batch, C channels, H height, W width.

References:
    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385.
"""

from torch import Tensor, nn
from torch.nn import functional

from eflib.models.task import ImageClassifier

EXPANSION = 4  # a block gives out four times the channels that it computes with


class Bottleneck(nn.Module):
    """Narrow by 1x1, look around by 3x3, widen by 1x1, and add the input.

    Args:
        in_channels: Channels that come in.
        channels: Channels inside; ``EXPANSION`` times as many go out.
        stride: Of the 3x3 convolution; 2 halves the image.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = EXPANSION * channels
        self.conv1 = nn.Conv2d(in_channels, channels, kernel_size=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(
            channels, channels, kernel_size=3, stride=stride, padding=1, bias=False
        )
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, kernel_size=1, bias=False)
        self.norm3 = nn.BatchNorm2d(out_channels)
        # Where shapes differ, the input is projected to the output's shape before it is added.
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Return the block's output ``(B, 4 * channels, H / stride, W / stride)``."""
        y_bchw = functional.relu(self.norm1(self.conv1(x_bchw)))
        y_bchw = functional.relu(self.norm2(self.conv2(y_bchw)))
        y_bchw = self.norm3(self.conv3(y_bchw))
        return functional.relu(y_bchw + self.shortcut(x_bchw))


class ResNet(ImageClassifier):
    """A residual network of bottleneck blocks; as it stands ResNet-50 with 25,557,032 parameters.

    Args:
        depths: Blocks in each stage; (3, 4, 23, 3) is ResNet-101.
        width: Channels inside the first stage's blocks; each stage has twice as many.
        num_classes: Number of outputs.
        image_side: Height and width of an example's images; the model takes any from 32 up.
    """

    def __init__(
        self,
        depths: tuple[int, ...] = (3, 4, 6, 3),
        width: int = 64,
        num_classes: int = 1000,
        image_side: int = 224,
    ) -> None:
        super().__init__((3, image_side, image_side), num_classes)
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        )
        stages = []
        in_channels = width
        for stage, depth in enumerate(depths):
            channels = width * 2**stage
            blocks = []
            for block in range(depth):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(Bottleneck(in_channels, channels, stride))
                in_channels = EXPANSION * channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.classifier = nn.Linear(in_channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images_bchw: Tensor) -> Tensor:
        """Return class scores.

        Args:
            images_bchw: Normalised images of shape ``(B, 3, H, W)``.

        Returns:
            Unnormalised scores of shape ``(B, num_classes)``.
        """
        features_bchw = self.stages(self.stem(images_bchw))
        scores: Tensor = self.classifier(features_bchw.mean(dim=(2, 3)))
        return scores
