"""How a job with sharded state changes its generation: gather the rows, then send them out."""

from __future__ import annotations

import gc
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from eflib.errors import WorkerFailedError
from eflib.trainer.collectives import PeerLostError, broadcast_text, gather_rows
from eflib.trainer.console import say
from eflib.trainer.elastic.conductor import Conductor
from eflib.trainer.elastic.transfer import choose_source, is_training_over
from eflib.trainer.state import checkpoint

if TYPE_CHECKING:
    from eflib.messages.generations import Generation
    from eflib.trainer.state.sharded_state import ShardedState

_LOST = "lost"


class ShardedConductor(Conductor):
    """Takes a worker with a sharded state from one generation into the next."""

    _state: ShardedState

    def _before_leaving(self, following: Generation, parts: dict[str, float]) -> None:
        """Gather the state on a rank that stays, while the old group still stands."""
        begin = time.perf_counter()
        current = self.generation
        if current is None or not current.world_size:
            return
        holder = next(
            (rank for rank, one in enumerate(current.members)
             if following.rank_of(one.worker) is not None), None,
        )  # fmt: skip
        if holder is None or not self._state.is_held:
            return  # nobody stays, or a peer was lost: a checkpoint brings the state along
        is_lost = False
        try:
            self._state.gather(holder)
        except PeerLostError:
            is_lost = True
        if is_lost:  # outside the handler: its frames hold the connections
            self.abandon()
        parts["gather"] = time.perf_counter() - begin

    def abandon(self) -> None:
        """Let all go that holds the group, and close it."""
        self._state.drop()
        super().abandon()
        gc.collect()  # some of it goes in circles

    def _share_state(self, parts: dict[str, float]) -> None:
        begin = time.perf_counter()
        state = self._state
        state.drop()
        rank_states = self._exchange(has_state=state.is_in_transit)
        state.is_over = is_training_over(rank_states)  # never where a checkpoint is gone back to
        source = choose_source(rank_states) if any(one.has_state for one in rank_states) else None
        saved = self._saved() if source is None else ""
        if saved == _LOST:
            raise WorkerFailedError(
                "a worker is gone and its part of the state with it, and there is no checkpoint",
                hint="with parallel='fsdp' a checkpoint folder is needed to survive that",
            )
        if source is None and not saved:
            source = 0
            if self.rank == 0:
                state.hold()
        state.shard(self.rank, self.world_size)
        state.meeting = self._keeper.meeting
        if source is None:
            state.read(Path(saved))
        else:
            self.sent_bytes = state.send(source)
        state.token = int(gather_rows(torch.tensor([random.SystemRandom().getrandbits(31)]))[0][0])
        self.digest = state.compare()
        state.settle()
        parts["state"] = time.perf_counter() - begin

    def _saved(self) -> str:
        """Return the checkpoint that rank 0 finds; "" for a fresh start, or that there is none."""
        found = ""
        if self.rank == 0:
            folder = Path(self._checkpoint_dir) if self._checkpoint_dir else None
            saved = None
            if folder is not None:
                checkpoint.clean(folder)
                saved = checkpoint.newest(folder)
            found = str(saved) if saved else "" if self._state.is_fresh else _LOST
            if saved:
                say(f"resuming from {saved}")
        if self.world_size == 1:
            return found
        return broadcast_text(found, 0)
