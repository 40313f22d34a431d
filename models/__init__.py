"""The model zoo: plain single-device PyTorch, built by name; it knows nothing of elasticity.

The six models of the ElasticFlow paper (resnet50, vgg16, inception3, bert, gpt2, deepspeech2) have
their published sizes as defaults, and smaller ones by keyword. ``build("digits")`` gives a model,
``NAMES`` says which there are. Each brings random inputs (``example``, ``Samples``) and its task's
``loss``. ``Paced`` makes any of them as slow as an accelerator would be busy.
"""

import difflib
from collections.abc import Callable

from eflib.models.bert import Bert, BertClassifier
from eflib.models.char_gpt import CharGPT
from eflib.models.deepspeech2 import DeepSpeech2
from eflib.models.digits import DigitsCNN
from eflib.models.gpt2 import GPT2
from eflib.models.inception import Inception
from eflib.models.paced import Paced
from eflib.models.resnet import ResNet
from eflib.models.task import Samples, TaskModel
from eflib.models.vgg import VGG

_BUILDERS: dict[str, Callable[..., TaskModel]] = {
    "bert": Bert,
    "bert_classifier": BertClassifier,
    "char_gpt": CharGPT,
    "deepspeech2": DeepSpeech2,
    "digits": DigitsCNN,
    "gpt2": GPT2,
    "inception3": Inception,
    "resnet50": ResNet,
    "vgg16": VGG,
}
NAMES = tuple(sorted(_BUILDERS))

__all__ = [
    "GPT2",
    "NAMES",
    "VGG",
    "Bert",
    "BertClassifier",
    "CharGPT",
    "DeepSpeech2",
    "DigitsCNN",
    "Inception",
    "Paced",
    "ResNet",
    "Samples",
    "TaskModel",
    "build",
]


def build(name: str, **size: object) -> TaskModel:
    """Build a model of the zoo with freshly initialised weights.

    Args:
        name: One of ``NAMES``.
        **size: The model's own keyword arguments (width, depth, ...); what is left out has the
            default of the model's class.

    Returns:
        The model in training mode; on the CPU, or on ``torch.device("meta")`` within it.

    Raises:
        ValueError: There is no model of that name; the message names the closest one.
        TypeError: The model has no such size.

    Examples:
        >>> model = build("digits", width=4)
        >>> inputs, targets = model.example(batch_size=2)
        >>> loss = model.loss(model(inputs), targets)
        >>> build("digit")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: no model named 'digit': did you mean 'digits'? (there are bert, ...)
    """
    if name not in _BUILDERS:
        close = difflib.get_close_matches(name, NAMES, n=1)
        guess = f" did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"no model named {name!r}:{guess} (there are {', '.join(NAMES)})")
    return _BUILDERS[name](**size)
