"""Make all ranks of a new generation equal: agree on a source, send its state, compare digests."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from eflib.errors import StateMismatchError
from eflib.trainer.collectives import (
    broadcast,
    broadcast_text,
    gather_rows,
    gather_text,
    start_broadcast,
)
from eflib.trainer.state.digest import digest
from eflib.trainer.state.tree import unflatten_state

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eflib.trainer.state.state import TrainingState

LARGE_BYTES = 1024 * 1024  # tensors from here on are sent in place, smaller ones joined


@dataclass(frozen=True)
class RankState:
    """What a rank brings into a generation: a state at a step, or none.

    Args:
        has_state: Whether it holds a state.
        global_step: The step at which that state is.
        is_over: Whether training ended with that step.
        problem: What failed on it since the last step, where something did.
    """

    has_state: bool
    global_step: int
    is_over: bool = False
    problem: str = ""

    def is_at(self, best: RankState) -> bool:
        """Tell whether this rank holds the state that all are going to hold."""
        return self.has_state and self.global_step == best.global_step


def choose_source(rank_states: list[RankState]) -> int:
    """Return the rank whose state all take: the furthest ahead, the lowest rank among equals.

    A rank that applied step k has seen the gradient of all for step k, so the furthest is right.
    Without any state (a job's first generation) it is rank 0.
    """
    return max(
        range(len(rank_states)),
        key=lambda rank: (rank_states[rank].has_state, rank_states[rank].global_step, -rank),
    )


def exchange_rank_states(
    state: TrainingState,
    *,
    has_state: bool,
    settings: Mapping[str, object],
    problem: str = "",
) -> list[RankState]:
    """Tell all ranks what each brings; refuse ranks with another model or other settings.

    Args:
        state: What this rank brings.
        has_state: Whether it is the job's, and not only what the script made.
        settings: What must be equal on all ranks beside the state, by name.
        problem: What failed on this rank since the last step; "" for nothing.

    Raises:
        StateMismatchError: Two ranks disagree on the model, or this one has other settings than
            those whose state counts; names the first difference.
    """
    signature = int(state.signature()[:15], 16)
    known = "\n".join(f"{name}={value!r}" for name, value in settings.items())
    own = int.from_bytes(hashlib.blake2b(known.encode(), digest_size=7).digest(), "little")
    rows = gather_rows(
        torch.tensor(
            [has_state, state.global_step, state.is_over, signature, own, bool(problem)],
        )
    )
    if any(int(row[3]) != signature for row in rows):
        raise StateMismatchError(
            _first_difference(gather_text("\n".join(state.description()))),
            hint="build the same model on every rank: sizes must not depend on rank or world size",
        )
    rank_states = [RankState(bool(row[0]), int(row[1]), bool(row[2])) for row in rows]
    if any(int(row[4]) != own for row in rows):
        _compare_settings(gather_text(known), rank_states)
    if any(int(row[5]) for row in rows):
        problems = gather_text(problem)
        rank_states = [
            replace(one, problem=told) for one, told in zip(rank_states, problems, strict=True)
        ]
    return rank_states


def is_training_over(rank_states: list[RankState]) -> bool:
    """Tell whether training ended with the step that all ranks are going to hold.

    Those that heard of the end tell it to those that did not: joiners, and ranks that lost a peer
    in the last step.
    """
    best = rank_states[choose_source(rank_states)]
    return any(one.is_over for one in rank_states if one.is_at(best))


def send_state(state: TrainingState, rank_states: list[RankState]) -> int:
    """Give the source's state to the ranks that lack it; return the bytes that were sent.

    Buffers go to all: between rescales each rank's BatchNorm statistics are of its own samples, as
    under DistributedDataParallel, and from here on all hold the source's.
    """
    source = choose_source(rank_states)
    best = rank_states[source]
    world = len(rank_states)
    if world == 1 or all(one.is_at(best) for one in rank_states):
        return 0 if world == 1 else _broadcast_tensors(state.buffers(), source)
    rank = dist.get_rank()
    skeleton, tensors = state.capture()
    specs = "\n".join(_spec(tensor) for tensor in tensors)
    header = broadcast_text(f"{len(skeleton)}\n{skeleton}{specs}", source)
    length, _, rest = header.partition("\n")
    skeleton, lines = rest[: int(length)], rest[int(length) :]
    current = rank_states[rank].is_at(best)
    if not current:
        num_model = len(state.model_tensors())
        fresh = [_empty(line) for line in lines.splitlines()[num_model:]]
        tensors = tensors[:num_model] + fresh
    sent = _broadcast_tensors(tensors, source)
    if not current:
        state.restore(unflatten_state(skeleton, tensors))
    return sent


def compare_digests(state: TrainingState) -> int:
    """Return the digest that all ranks hold.

    Raises:
        StateMismatchError: They do not all hold the same.
    """
    own = digest(*state.capture())
    if not dist.is_initialized():
        return own
    rows = [int(row[0]) for row in gather_rows(torch.tensor([own]))]
    if len(set(rows)) > 1:
        odd = [rank for rank, row in enumerate(rows) if row != rows[0]]
        raise StateMismatchError(
            f"ranks {odd} hold another state than rank 0 at step {state.global_step}",
            detail="\n".join(f"rank {rank}: {row:016x}" for rank, row in enumerate(rows)),
            hint="does the script change the model, the optimizer or a registered object on some "
            "ranks only?",
        )
    return own


def _compare_settings(texts: list[str], rank_states: list[RankState]) -> None:
    """Refuse this rank if its settings are not those of the rank whose state counts.

    While there is no state nobody is right, and all are refused. Else the job goes on with those
    who agree.
    """
    is_begun = any(one.has_state for one in rank_states)
    source = choose_source(rank_states) if is_begun else 0
    rank = dist.get_rank()
    if texts[rank] == texts[source]:
        if is_begun:
            return
        rank = next(other for other, text in enumerate(texts) if text != texts[source])
    pairs = zip(texts[rank].splitlines(), texts[source].splitlines(), strict=False)
    own, other = next(pair for pair in pairs if pair[0] != pair[1])
    raise StateMismatchError(
        f"rank {rank} trains with {own}, rank {source} with {other}",
        hint="pass the same values to ElasticTrainer on every rank: they must depend on neither "
        "rank nor world size, nor on the machine",
    )


def _first_difference(texts: list[str]) -> str:
    first = texts[0].splitlines()
    for rank, text in enumerate(texts[1:], start=1):
        lines = text.splitlines()
        for mine, theirs in zip(first, lines, strict=False):
            if mine != theirs:
                return f"the model of rank {rank} differs from rank 0's: {theirs} against {mine}"
        if len(lines) != len(first):
            return (
                f"the model of rank {rank} differs from rank 0's: "
                f"{len(lines)} tensors against {len(first)}"
            )
    return "the models of the ranks differ"


def _spec(tensor: torch.Tensor) -> str:
    shape = ",".join(str(size) for size in tensor.shape)
    return f"{str(tensor.dtype).removeprefix('torch.')}|{tensor.device.type}|{shape}"


def _empty(spec: str) -> torch.Tensor:
    dtype, device, shape = spec.split("|")
    sizes = [int(size) for size in shape.split(",") if size]
    return torch.empty(sizes, dtype=getattr(torch, dtype), device=device)


def _broadcast_tensors(tensors: list[torch.Tensor], source: int) -> int:
    """Send small tensors joined into one, large ones each in place."""
    small: dict[str, list[torch.Tensor]] = {}
    works = []
    sent = 0
    for tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        sent += size
        if size >= LARGE_BYTES:
            whole = tensor.contiguous()  # the tensor itself, but for channels-last and the like
            works.append((tensor, whole, start_broadcast(whole, source)))
        elif size:
            small.setdefault(tensor.device.type, []).append(tensor)
    for group in small.values():
        _broadcast_joined(group, source)
    for tensor, whole, work in works:
        work.wait()
        if whole is not tensor and dist.get_rank() != source:
            tensor.copy_(whole)
    return sent


def _broadcast_joined(tensors: list[torch.Tensor], source: int) -> None:
    flats = [tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in tensors]
    joined = torch.cat(flats)
    broadcast(joined, source)
    if dist.get_rank() == source:
        return
    for tensor, part in zip(
        tensors, torch.split(joined, [one.numel() for one in flats]), strict=True
    ):
        tensor.copy_(part.clone().view(tensor.dtype).view(tensor.shape))
