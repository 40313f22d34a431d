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
