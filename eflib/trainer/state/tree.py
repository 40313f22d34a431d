"""State dictionaries as a JSON skeleton and a list of tensors, so that nothing need be unpickled.

What JSON cannot say (tuples, dictionaries with other keys than text, bytes) is tagged.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from eflib.errors import UsageError

_TAG = "%"
BROKEN = (
    AttributeError, IndexError, KeyError, OverflowError, RecursionError, TypeError, ValueError,
)  # fmt: skip
"""What ``names`` and ``unflatten`` may raise for a skeleton that ``flatten`` did not make."""


def flatten(tree: object, what: str = "state") -> tuple[str, list[torch.Tensor]]:
    """Split a tree into its skeleton (JSON) and its tensors, in a fixed order.

    Args:
        tree: Dicts, lists, tuples, numbers, text, None, bytes, tensors, numpy arrays, dtypes.
        what: Names the tree in an error.

    Raises:
        UsageError: Something in the tree is of another type.
    """
    tensors: list[torch.Tensor] = []
    skeleton = _encode(tree, tensors, what)
    return json.dumps(skeleton, separators=(",", ":")), tensors


def unflatten(skeleton: str, tensors: list[torch.Tensor]) -> object:
    """Put a tree together again."""
    return _decode(json.loads(skeleton), tensors)


def unflatten_state(skeleton: str, tensors: list[torch.Tensor]) -> dict[str, Any]:
    """Put the tree of a ``TrainingState`` together again.

    Raises:
        TypeError: It is of something else.
    """
    tree = unflatten(skeleton, tensors)
    if not isinstance(tree, dict):
        raise TypeError(f"the skeleton is of a {type(tree).__name__}, not of a state")
    return tree


def names(skeleton: str) -> list[str]:
    """Return a name for each tensor of a flattened tree: its way from the root, as ``a/0/b``."""
    found: dict[int, str] = {}
    _name(json.loads(skeleton), "", found)
    ordered = [found[place] for place in range(len(found))]
    seen: Counter[str] = Counter()
    for place, name in enumerate(ordered):  # 1 and "1" are two keys
        seen[name] += 1
        if seen[name] > 1:
            ordered[place] = f"{name}#{seen[name]}"
    return ordered


def _name(value: object, way: str, found: dict[int, str]) -> None:
    items: list[tuple[Any, Any]] = []
    if isinstance(value, list):
        items = list(enumerate(value))
    elif isinstance(value, dict):
        if "n" in value:
            found[value["n"]] = way
        items = list(enumerate(value.get("items", ())))
        items += [(_decode(key, []), item) for key, item in value.get("pairs", ())]
    for key, item in items:
        _name(item, f"{way}/{key}" if way else str(key), found)


def _encode(value: object, tensors: list[torch.Tensor], what: str) -> object:  # noqa: PLR0911
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return {_TAG: "float", "hex": value.hex()}
    if isinstance(value, torch.Tensor):
        tensors.append(value.detach())
        return {_TAG: "tensor", "n": len(tensors) - 1}
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biufc":
        tensors.append(torch.from_numpy(np.array(value)))
        kind = "array" if isinstance(value, np.ndarray) else "scalar"
        return {_TAG: kind, "n": len(tensors) - 1}
    if isinstance(value, (list, tuple)):
        items = [_encode(item, tensors, f"{what}[{place}]") for place, item in enumerate(value)]
        return items if type(value) is list else {_TAG: "tuple", "items": items}
    if isinstance(value, dict):
        pairs = [
            [_encode(key, tensors, what), _encode(item, tensors, f"{what}[{key!r}]")]
            for key, item in value.items()
        ]
        kind = "counter" if isinstance(value, Counter) else "dict"
        return {_TAG: kind, "pairs": pairs}
    if isinstance(value, bytes):
        return {_TAG: "bytes", "hex": value.hex()}
    if isinstance(value, torch.dtype):
        return {_TAG: "dtype", "name": str(value).removeprefix("torch.")}
    raise UsageError(
        f"{what} holds a {type(value).__name__}, which cannot travel between workers",
        hint="let its state_dict() return tensors, numbers, text, lists, tuples and dicts",
    )


def _decode(value: object, tensors: list[torch.Tensor]) -> object:
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if isinstance(value, dict):
        return _DECODERS[value[_TAG]](value, tensors)
    return value


_DECODERS: dict[str, Callable[[Any, list[torch.Tensor]], Any]] = {
    "float": lambda value, _: float.fromhex(value["hex"]),
    "tensor": lambda value, tensors: tensors[value["n"]],
    "array": lambda value, tensors: tensors[value["n"]].numpy(),
    "scalar": lambda value, tensors: tensors[value["n"]].numpy()[()],
    "tuple": lambda value, tensors: tuple(_decode(item, tensors) for item in value["items"]),
    "dict": lambda value, tensors: {
        _decode(key, tensors): _decode(item, tensors) for key, item in value["pairs"]
    },
    "counter": lambda value, tensors: Counter(
        {_decode(key, tensors): _decode(item, tensors) for key, item in value["pairs"]}
    ),
    "bytes": lambda value, _: bytes.fromhex(value["hex"]),
    "dtype": lambda value, _: _dtype(value["name"]),
}


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name)
    if not isinstance(found, torch.dtype):
        raise TypeError(f"torch.{name} is not a dtype")
    return found
