"""The model zoo: plain single-device PyTorch, built by name; it knows nothing of elasticity.

``build("digits")`` gives a model, ``NAMES`` says which there are, and ``Paced`` makes any of them
as slow as an accelerator would be busy.
"""

import difflib
from collections.abc import Callable
from typing import Any

from torch import nn

from eflib.models.char_gpt import CharGPT
from eflib.models.digits import DigitsCNN
from eflib.models.paced import Paced

_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "char_gpt": CharGPT,
    "digits": DigitsCNN,
}
NAMES = tuple(sorted(_BUILDERS))

__all__ = ["NAMES", "CharGPT", "DigitsCNN", "Paced", "build"]


def build(name: str, **size: Any) -> nn.Module:  # noqa: ANN401 - sizes differ from model to model
    """Build a model of the zoo with freshly initialised weights.

    Args:
        name: One of ``NAMES``.
        **size: The model's own keyword arguments (width, depth, ...); what is left out has the
            default of the model's class.

    Returns:
        The model on the CPU, in training mode.

    Raises:
        ValueError: There is no model of that name; the message names the closest one.
        TypeError: The model has no such size.

    Examples:
        >>> model = build("digits", width=4)
        >>> build("digit")
        Traceback (most recent call last):
        ValueError: no model named 'digit': did you mean 'digits'? (there are char_gpt, digits)
    """
    if name not in _BUILDERS:
        close = difflib.get_close_matches(name, NAMES, n=1)
        guess = f" did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"no model named {name!r}:{guess} (there are {', '.join(NAMES)})")
    return _BUILDERS[name](**size)
