"""A small convolutional network for 8x8 grey images, such as scikit-learn's handwritten digits."""

from torch import Tensor, nn
from torch.nn import functional

from eflib.models.task import ImageClassifier

NUM_CLASSES = 10
IMAGE_SIDE = 8


class DigitsCNN(ImageClassifier):
    """Two convolutions, one pooling and two linear layers: about 38,000 parameters.

    It has no BatchNorm and no dropout, so its numbers depend on nothing but parameters and batch.

    Args:
        width: Channels of the first convolution; the second has twice as many.
        hidden: Units between the two linear layers.
        num_classes: Number of outputs.
    """

    def __init__(self, width: int = 16, hidden: int = 64, num_classes: int = NUM_CLASSES) -> None:
        super().__init__((1, IMAGE_SIDE, IMAGE_SIDE), num_classes)
        self.conv1 = nn.Conv2d(1, width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(width, 2 * width, kernel_size=3, padding=1)
        self.fc1 = nn.Linear(2 * width * (IMAGE_SIDE // 2) ** 2, hidden)
        self.fc2 = nn.Linear(hidden, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores.

        Args:
            images: Grey values in [0, 1], of shape ``(batch, 1, 8, 8)``.

        Returns:
            Unnormalised scores of shape ``(batch, num_classes)``.
        """
        x = functional.relu(self.conv1(images))
        x = functional.max_pool2d(functional.relu(self.conv2(x)), kernel_size=2)
        x = functional.relu(self.fc1(x.flatten(start_dim=1)))
        scores: Tensor = self.fc2(x)
        return scores
