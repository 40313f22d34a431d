"""How a worker runs outside an agent: alone, or in torchrun's world of fixed size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eflib.errors import WorkerFailedError
from eflib.messages.generations import TRAIN
from eflib.trainer.console import say
from eflib.trainer.elastic.conductor import Conductor
from eflib.trainer.elastic.formation import EnvironmentGroup, GroupKeeper
from eflib.trainer.elastic.membership import FixedMembership
from eflib.trainer.elastic.sharded_conductor import ShardedConductor
from eflib.trainer.state.sharded_state import ShardedState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch

    from eflib.messages.inbox import Announce
    from eflib.trainer.state.state import TrainingState


@dataclass(frozen=True)
class Training:
    """What a session has to know of the training that it carries from generation to generation.

    Attributes:
        state: What all ranks hold alike.
        settings: What must be equal on all ranks beside the state, by name.
        announce: What the coordinator is told of the job.
        device: Where the model lives.
        checkpoint_dir: Where a job without any state looks for it; empty for none.
        is_leaving: Returns True once this worker was asked to go.
        last_checkpoint: Returns step and time of the newest checkpoint; None without one.
    """

    state: TrainingState
    settings: Mapping[str, object]
    announce: Announce
    device: torch.device
    checkpoint_dir: str
    is_leaving: Callable[[], bool]
    last_checkpoint: Callable[[], tuple[int, float] | None]


def conductor_of(state: TrainingState) -> type[Conductor]:
    """Return what takes such a state from one generation into the next."""
    return ShardedConductor if isinstance(state, ShardedState) else Conductor


class Session:
    """A worker outside an agent: one process, or torchrun's world of fixed size.

    The base of the elastic session, which overrides what follows a change of membership.

    Args:
        rank: Planned rank.
        world_size: Planned number of workers.
        local_rank: Index on this node.
    """

    elastic = False
    mode = TRAIN
    checkpoint_dir = ""

    def __init__(self, rank: int, world_size: int, local_rank: int) -> None:
        self.local_rank = local_rank
        self._planned = (rank, world_size)
        self._conductor: Conductor | None = None

    @property
    def rank(self) -> int:
        """Rank in the current generation, or the planned one."""
        entered = self._conductor is not None and self._conductor.generation is not None
        return self._conductor.rank if entered and self._conductor else self._planned[0]

    @property
    def has_state(self) -> bool:
        """Whether this worker holds the whole state, which others may lack."""
        return self._conductor is not None and self._conductor.has_state

    @property
    def world_size(self) -> int:
        """Size of the current generation, or the planned one."""
        entered = self._conductor is not None and self._conductor.generation is not None
        return self._conductor.world_size if entered and self._conductor else self._planned[1]

    @property
    def generation(self) -> int:
        """Number of the current generation."""
        current = self._conductor.generation if self._conductor else None
        return current.number if current else 0

    def open(self, training: Training) -> None:
        """Join the first generation; afterwards all ranks hold the same state."""
        membership = FixedMembership(*self._planned)
        keeper = EnvironmentGroup(training.device)
        self._conductor = conductor_of(training.state)(
            membership,
            keeper,
            training.state,
            settings=training.settings,
            prefix="",
            checkpoint_dir=training.checkpoint_dir,
        )
        self._keeper: GroupKeeper = keeper
        self._conductor.enter(membership.join(training.announce))

    def decision(self) -> int:
        """Return the generation that rank 0 wants to switch to after this step; 0 for none."""
        return 0

    def switch(self, number: int) -> None:
        """Enter a newer generation at a step boundary."""

    def recover(self, failure: str) -> None:
        """Go on after a collective failed; a world of fixed size never comes here."""
        raise WorkerFailedError(failure)

    def let_leave(self, *, leaving: bool) -> None:
        """Let the workers go that were asked to leave."""

    def step_done(self, state: TrainingState, loss: float, *, passes: int = 1) -> None:
        """Note that a step is committed, and how many forward passes this rank made for it."""

    def report_now(self) -> None:
        """Tell the last that there is to tell of this job's progress."""

    def finish(self) -> bool:
        """Note that training is over, on every rank; False when it is not."""
        self.close()
        return True

    def say(self, text: str) -> None:
        """Tell whoever reads this worker's log."""
        say(f"rank {self.rank}: {text}")

    def close(self) -> None:
        """Leave the process group."""
        self._keeper.close()
