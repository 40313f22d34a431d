"""VGG-16: thirteen 3x3 convolutions with pooling in between, then three wide linear layers.

Nine tenths of its parameters are in the first linear layer, which makes it the zoo's hardest model
to scale: a step computes little for the gradients that it has to exchange.

References:
    Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
    ICLR 2015, arXiv:1409.1556, configuration D.
"""

from torch import Tensor, nn

from eflib.models.task import ImageClassifier

# Channels over the model's width, by stage; after each stage pooling halves the image.
STAGES = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))


class VGG(ImageClassifier):
    """The 16-layer network of the paper; as it stands 138,357,544 parameters.

    Args:
        width: Channels of the first stage.
        hidden: Units of the two hidden linear layers.
        num_classes: Number of outputs.
        image_side: Height and width of an image; a multiple of 32.
        dropout: Share of hidden units that are dropped in training.

    Raises:
        ValueError: ``image_side`` cannot be halved five times.
    """

    def __init__(
        self,
        width: int = 64,
        hidden: int = 4096,
        num_classes: int = 1000,
        image_side: int = 224,
        dropout: float = 0.5,
    ) -> None:
        super().__init__((3, image_side, image_side), num_classes)
        if image_side % 32 or image_side < 32:
            raise ValueError(f"image_side {image_side} is no multiple of 32")
        layers: list[nn.Module] = []
        in_channels = 3
        for stage in STAGES:
            for factor in stage:
                layers += [nn.Conv2d(in_channels, factor * width, 3, padding=1), nn.ReLU()]
                in_channels = factor * width
            layers.append(nn.MaxPool2d(kernel_size=2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(in_channels * (image_side // 32) ** 2, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )
        # The paper starts from a trained shallower net; with He's scale (arXiv:1502.01852) it
        # learns from nothing.
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores.

        Args:
            images: Normalised images of shape ``(batch, 3, image_side, image_side)``.

        Returns:
            Unnormalised scores of shape ``(batch, num_classes)``.
        """
        scores: Tensor = self.classifier(self.features(images))
        return scores
