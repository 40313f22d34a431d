"""The parts that one trainer is put together of."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from eflib.messages.generations import PROFILE
from eflib.trainer.step.accumulation import Accumulation

if TYPE_CHECKING:
    import torch

    from eflib.trainer.checkpointing import CheckpointSchedule
    from eflib.trainer.configuration import TrainerSettings
    from eflib.trainer.data.feed import Feed
    from eflib.trainer.data.microbatch import MicrobatchSize
    from eflib.trainer.elastic.session import Session
    from eflib.trainer.state.sharded_state import ShardedState
    from eflib.trainer.state.state import TrainingState
    from eflib.trainer.step.forward import ForwardPass
    from eflib.trainer.step.sync_batchnorm import RankSum
    from eflib.trainer.step.update import Update


@dataclass
class Requests:
    """What this rank asks of all with its next votes; set from anywhere, a signal included.

    Attributes:
        end: Its script asked to end training.
        leave: This worker was asked to leave the job.
    """

    end: bool = False
    leave: bool = False


@dataclass(frozen=True)
class Parts:
    """What a trainer is made of; ``assembly.assemble`` makes it.

    Attributes:
        settings: What the script asked for.
        device: Where it trains.
        model: The model, and ``state`` what travels of it and all else.
        session: How this worker runs: alone, in a fixed world, or elastic.
        size: Owner of the limit on the samples of a forward pass.
        feed: Gives the samples.
        scaler: Scales losses in fp16.
        rank_sum: Of BatchNorm layers that sum over ranks, or None.
        max_steps: End of training in steps; 0 where nobody knows.
        ends_by_steps: True when ``max_steps`` ends it, False when only reading the data tells.
    """

    settings: TrainerSettings
    device: torch.device
    model: torch.nn.Module
    session: Session
    state: TrainingState
    sharded: ShardedState | None
    size: MicrobatchSize
    feed: Feed
    forward: ForwardPass
    scaler: torch.amp.GradScaler
    rank_sum: RankSum | None
    update: Update
    checkpoints: CheckpointSchedule
    max_steps: int
    ends_by_steps: bool
    requests: Requests = field(default_factory=Requests)

    @cached_property
    def work(self) -> Accumulation:
        """Accumulates and reduces gradients; made when training begins, of the model as it is."""
        return Accumulation(
            self.model,
            self.scaler,
            num_shards=self.settings.shards,
            num_halvings=self.size.num_places,
            undoable=self.session.elastic or self.size.is_auto,
            rank_sum=self.rank_sum,
            sharded=self.settings.is_sharded,
        )

    @property
    def is_measuring(self) -> bool:
        """True in a profiling run, whose steps are thrown away."""
        return self.session.mode == PROFILE

    @property
    def last_step(self) -> int | None:
        """Where the run ends; None when it ends by its data, or by the profiler's word."""
        return self.max_steps if self.ends_by_steps and not self.is_measuring else None

    @property
    def is_over(self) -> bool:
        """True when there is no further step."""
        at_end = self.last_step is not None and self.state.global_step >= self.last_step
        return self.state.is_over or at_end
