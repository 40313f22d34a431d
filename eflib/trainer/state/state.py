"""What travels to a joiner and into a checkpoint: model, optimizer and all that is registered."""

from __future__ import annotations

import hashlib
from typing import Any, Protocol

import torch

from eflib.errors import StateMismatchError, UsageError
from eflib.trainer.state.checkpoint import Snapshot
from eflib.trainer.state.storage import Piece
from eflib.trainer.state.tree import flatten, names


class Stateful(Protocol):
    """Anything with torch's pair of methods."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> object:
        """Take the state."""


class TrainingState:
    """All that makes two ranks equal.

    Args:
        model: Its parameters and buffers (those that are not persistent too) travel in place.
        parts: Named objects with ``state_dict``/``load_state_dict``: optimizer and so on.
    """

    def __init__(self, model: torch.nn.Module, parts: dict[str, Stateful]) -> None:
        self._model = model
        self._parts = dict(parts)
        self.global_step = 0
        self.samples = 0
        self.is_over = False  # training ended with this step: others are told, checkpoints not

    def register(self, name: str, obj: Stateful) -> None:
        """Add an object to what travels and is saved.

        Raises:
            UsageError: The name is taken, or the object lacks one of the two methods.
        """
        if name in self._parts:
            raise UsageError(f"register: the name {name!r} is taken", hint="choose another name")
        for method in ("state_dict", "load_state_dict"):
            if not callable(getattr(obj, method, None)):
                raise UsageError(f"register: {name!r} ({type(obj).__name__}) has no {method}()")
        self._parts[name] = obj

    def model_tensors(self) -> dict[str, torch.Tensor]:
        """Return parameters and buffers by name, each tensor once."""
        tensors = {name: one.data for name, one in self._model.named_parameters()}
        tensors.update(self._model.named_buffers())
        return tensors

    def buffers(self) -> list[torch.Tensor]:
        """Return the model's buffers, each once, in a fixed order."""
        return [buffer for _, buffer in self._model.named_buffers()]

    def capture(self) -> tuple[str, list[torch.Tensor]]:
        """Return the whole state flattened; the model's tensors come first, without a copy."""
        tree = {
            "model": self.model_tensors(),
            "parts": {name: part.state_dict() for name, part in self._parts.items()},
            "kinds": self._kinds(),
            "global_step": self.global_step,
            "samples": self.samples,
        }
        return flatten(tree)

    def snapshot(self) -> Snapshot:
        """Return what this rank writes into a checkpoint; the tensors are not copied."""
        skeleton, tensors = self.capture()
        pieces = [
            Piece(name, tensor, (0,) * tensor.dim(), tuple(tensor.shape))
            for name, tensor in zip(names(skeleton), tensors, strict=True)
        ]
        return Snapshot(self.global_step, self.signature(), skeleton, pieces)

    def restore(self, tree: dict[str, Any]) -> None:
        """Take a state that ``capture`` gave.

        Raises:
            StateMismatchError: It belongs to another model, or to other registered objects.
        """
        own = self.model_tensors()
        self._check_kinds(tree)
        self._check_names("the model", set(own), set(tree["model"]))
        self._check_names("what is registered", set(self._parts), set(tree["parts"]))
        with torch.no_grad():
            for name, tensor in tree["model"].items():
                self._check_alike(name, own[name], tensor)
                self._take(own[name], tensor)
        for name, part in self._parts.items():
            self._load(name, part, tree)
        self.global_step = tree["global_step"]
        self.samples = tree["samples"]

    def _kinds(self) -> dict[str, str]:
        """Return the class of each part, which says whose state it can take."""
        return {name: type(part).__name__ for name, part in self._parts.items()}

    def _check_kinds(self, tree: dict[str, Any]) -> None:
        saved = tree.get("kinds", {})  # checkpoints of the first days lack it
        for name, own in self._kinds().items():
            if saved.get(name, own) != own:
                raise StateMismatchError(
                    f"{name} is a {own} here and a {saved[name]} in the saved state",
                    hint=f"use {saved[name]}, or start from step 0 in another checkpoint_dir",
                )

    def _load(self, name: str, part: Stateful, tree: dict[str, Any]) -> None:
        try:
            part.load_state_dict(tree["parts"][name])
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise StateMismatchError(
                f"{name} ({type(part).__name__}) cannot take the saved state: "
                f"{type(error).__name__}: {error}",
                hint="use the kinds of objects that saved it, or start from step 0 in another "
                "checkpoint_dir",
            ) from error

    def _take(self, own: torch.Tensor, tensor: torch.Tensor) -> None:
        if own.data_ptr() != tensor.data_ptr():
            own.copy_(tensor)

    @staticmethod
    def _check_alike(name: str, here: torch.Tensor, there: torch.Tensor) -> None:
        for what, mine, theirs in (
            ("shape", tuple(here.shape), tuple(there.shape)),
            ("dtype", here.dtype, there.dtype),
        ):
            if mine != theirs:
                raise StateMismatchError(
                    f"{name} has {what} {mine} here and {theirs} in the saved state"
                )

    @staticmethod
    def _check_names(what: str, here: set[str], there: set[str]) -> None:
        if here != there:
            odd = sorted(here ^ there)[0]
            side = "here only" if odd in here else "in the saved state only"
            raise StateMismatchError(f"{what} differs from the saved state: {odd!r} is {side}")

    def description(self) -> list[str]:
        """Return one line per tensor of the model and per part: what ranks must agree on."""
        lines = [
            f"{name}: {tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
            for name, tensor in self.model_tensors().items()
        ]
        return lines + [f"{name}: {type(part).__name__}" for name, part in self._parts.items()]

    def signature(self) -> str:
        """Return a short name for the model's shape: hex, 16 digits."""
        return hashlib.sha256("\n".join(self.description()).encode()).hexdigest()[:16]

    def num_parameters(self) -> int:
        """Return the number of the model's parameters."""
        return sum(parameter.numel() for parameter in self._model.parameters())
