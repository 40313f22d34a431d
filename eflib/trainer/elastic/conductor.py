"""Takes a worker from one generation into the next: form, agree on a source, send state, check."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from eflib.errors import WorkerFailedError
from eflib.messages.fields import replace
from eflib.messages.generations import PAUSE
from eflib.trainer.collectives import PeerLostError
from eflib.trainer.console import say
from eflib.trainer.elastic.formation import (
    Endpoint,
    EndpointGoneError,
    GroupKeeper,
    MissingMembersError,
    SupersededError,
)
from eflib.trainer.elastic.recovery import Attempts
from eflib.trainer.elastic.transfer import (
    RankState,
    choose_source,
    compare_digests,
    exchange_rank_states,
    is_training_over,
    send_state,
)
from eflib.trainer.state import checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eflib.messages.generations import Generation
    from eflib.trainer.elastic.membership import Membership
    from eflib.trainer.state.state import TrainingState


class LeftError(Exception):
    """The generation that holds does not name this worker: it leaves."""

    def __init__(self, generation: Generation) -> None:
        super().__init__(f"generation {generation.number} is without this worker")
        self.generation = generation


class Conductor:
    """Enters generations; holds the current one.

    Args:
        membership: Says which generation is next.
        keeper: Owns the process group.
        state: What all ranks must hold alike.
        settings: What must be equal on all ranks beside the state, by name.
        prefix: Store prefix of the job, never shared with another.
        checkpoint_dir: Where a job whose workers are all new looks for its state; empty for none.
    """

    def __init__(
        self,
        membership: Membership,
        keeper: GroupKeeper,
        state: TrainingState,
        *,
        settings: Mapping[str, object],
        prefix: str,
        checkpoint_dir: str,
    ) -> None:
        self._membership = membership
        self._keeper = keeper
        self._state = state
        self._settings = settings
        self.attempts = Attempts()
        self._prefix = prefix
        self._checkpoint_dir = checkpoint_dir
        self._has_state = False
        self._torn = False  # a transfer into this worker broke off
        self._has_entered = False
        self.generation: Generation | None = None
        self.rank = 0
        self.digest = 0
        self.sent_bytes = 0

    @property
    def world_size(self) -> int:
        """Size of the current generation; 1 before there is one."""
        return self.generation.world_size if self.generation else 1

    @property
    def has_state(self) -> bool:
        """Whether this worker holds the whole state: a joiner does from its first entry on."""
        return self._has_state

    def enter(self, generation: Generation) -> dict[str, float]:
        """Leave the current generation and enter this one, or whichever supersedes it.

        Returns:
            Seconds by part: leave, form, state.

        Raises:
            LeftError: The generation that holds is without this worker, or training was over
                before this worker came.
            StateMismatchError: The ranks differ in model or state.
        """
        parts: dict[str, float] = {}
        self._before_leaving(generation, parts)
        begin = time.perf_counter()
        self._keeper.leave()
        parts["leave"] = time.perf_counter() - begin
        problem = ""
        while True:
            rank = generation.rank_of(self._membership.worker)
            if rank is None:
                raise LeftError(generation)
            try:
                self._form(generation, rank, parts)
                self._share_state(parts)
            except SupersededError:
                generation = self._membership.newest(generation.number) or generation
                continue
            except MissingMembersError as error:
                missing = frozenset(error.workers)
            except EndpointGoneError:
                missing = self._workers_beside_rank_0(generation)
            except PeerLostError as error:
                problem, missing = str(error), frozenset()
            else:
                self._has_entered = True
                return parts
            self.abandon()  # outside the handler: its frames hold the connections
            if problem:
                self._check_attempt(problem)
            self._leave_if_too_late(generation)
            following = self._membership.recover(generation, missing)
            self.attempts.follow(generation, following)
            generation, problem = following, ""

    def _check_attempt(self, problem: str) -> None:
        if not self._membership.elastic:
            raise WorkerFailedError(f"the ranks cannot exchange data: {problem}")
        self.attempts.fail(problem)

    def _leave_if_too_late(self, generation: Generation) -> None:
        """A newcomer does not begin anew where members have ended in order: training is over."""
        workers = [one.worker for one in generation.members]
        if not self._has_entered and self._membership.are_done(workers):
            raise LeftError(
                replace(generation, members=(), action=PAUSE, reason="training is over")
            )

    def _workers_beside_rank_0(self, generation: Generation) -> frozenset[str]:
        """Return the members on the node whose agent is gone: its workers end with it."""
        node = generation.members[0].node
        if generation.members[self.rank].node == node:
            raise WorkerFailedError(f"the agent of node {node} is gone")
        return frozenset(one.worker for one in generation.members if one.node == node)

    def _before_leaving(self, following: Generation, parts: dict[str, float]) -> None:
        """Do what needs the group that is about to be left; here nothing."""

    def abandon(self) -> None:
        """Close a group that lost a member at once, so that all its members notice."""
        self._keeper.abandon()

    def _form(self, generation: Generation, rank: int, parts: dict[str, float]) -> None:
        begin = time.perf_counter()
        self.generation, self.rank = generation, rank
        self._keeper.leave()
        if generation.world_size > 1:
            members = [member.worker for member in generation.members]
            self._keeper.form(
                Endpoint(
                    generation.master_addr,
                    generation.master_port,
                    f"{self._prefix}/{generation.number}",
                ),
                members,
                rank,
                superseded=lambda: self._membership.newest(generation.number) is not None,
                gone=self._membership.ended,
            )
        parts["form"] = time.perf_counter() - begin

    def _share_state(self, parts: dict[str, float]) -> None:
        begin = time.perf_counter()
        rank_states = self._exchange(has_state=self._has_state)
        if not any(one.has_state for one in rank_states):
            rank_states = self._first_state(rank_states)
        self._state.is_over = is_training_over(rank_states)
        best = rank_states[choose_source(rank_states)]
        if rank_states[self.rank].is_at(best):
            self.sent_bytes = send_state(self._state, rank_states)
        else:
            self._has_state, self._torn = False, True
            self.sent_bytes = send_state(self._state, rank_states)
            self._torn = False
        self.digest = compare_digests(self._state)
        self._has_state = True
        parts["state"] = time.perf_counter() - begin

    def _exchange(self, *, has_state: bool) -> list[RankState]:
        """Tell all ranks what this one brings, and hear it of them."""
        rank_states = exchange_rank_states(
            self._state,
            has_state=has_state,
            settings=self._settings,
            problem=self.attempts.problem,
        )
        self.attempts.hear([one.problem for one in rank_states])
        return rank_states

    def _first_state(self, rank_states: list[RankState]) -> list[RankState]:
        """Nobody holds a state yet: rank 0 takes the newest checkpoint, or its own fresh start."""
        if self.rank == 0:
            saved = None
            if self._checkpoint_dir:
                checkpoint.clean(Path(self._checkpoint_dir))
                saved = checkpoint.newest(Path(self._checkpoint_dir))
            if saved is not None:
                say(f"resuming from {saved}")
                self._state.restore(checkpoint.load(saved))
            elif self._torn:
                raise WorkerFailedError(
                    "the only worker that held the state is gone, and there is no checkpoint"
                )
        return [RankState(has_state=rank == 0, global_step=0) for rank in range(len(rank_states))]
