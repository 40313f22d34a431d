"""What a script may hang into training."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eflib.trainer.trainer import ElasticTrainer


class Callback:
    """Does nothing at each point; override what is wanted. Called on every rank."""

    def on_step_end(self, trainer: ElasticTrainer) -> None:
        """After a step is committed: ``trainer.global_step`` counts it already."""

    def on_rescale(self, trainer: ElasticTrainer) -> None:
        """After a new generation was formed and holds the same state on all ranks."""

    def on_fit_end(self, trainer: ElasticTrainer) -> None:
        """After the last step, before ``fit`` returns."""


class Callbacks:
    """A script's callbacks, called with its trainer.

    Args:
        callbacks: What the script gave.
        trainer: What they are called with.
    """

    def __init__(self, callbacks: list[Callback], trainer: ElasticTrainer) -> None:
        self._callbacks = callbacks
        self._trainer = trainer

    def __len__(self) -> int:
        return len(self._callbacks)

    def step_end(self) -> None:
        """A step is committed."""
        for one in self._callbacks:
            one.on_step_end(self._trainer)

    def rescale(self) -> None:
        """A generation was entered."""
        for one in self._callbacks:
            one.on_rescale(self._trainer)

    def fit_end(self) -> None:
        """The last step is done."""
        for one in self._callbacks:
            one.on_fit_end(self._trainer)
