"""The values that coordinator, agents and trainers exchange, and their form as JSON objects."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

TRAIN = "train"  # modes of a generation, and the action of one that goes on
PROFILE = "profile"
PAUSE = "pause"  # actions: save and leave, to come back later
STOP = "stop"  # leave for good


@dataclass(frozen=True)
class Member:
    """A worker's seat: which process, on which node, in which slot."""

    worker: str
    node: str
    slot: int


@dataclass(frozen=True)
class Generation:
    """The immutable membership of a job: rank is the place in ``members``, survivors first.

    A generation exists in the store only once all its members are ready: to exist is to be armed.
    """

    number: int
    members: tuple[Member, ...]
    master_addr: str = ""
    master_port: int = 0
    mode: str = TRAIN
    action: str = TRAIN
    reason: str = ""
    made_by: str = ""

    @property
    def world_size(self) -> int:
        """Number of workers."""
        return len(self.members)

    def rank_of(self, worker: str) -> int | None:
        """Return a worker's rank, or None when it is no member."""
        for rank, member in enumerate(self.members):
            if member.worker == worker:
                return rank
        return None

    def to_message(self) -> dict[str, Any]:
        """Return the JSON object that stands in the store."""
        message = asdict(self)
        message["generation"] = message.pop("number")
        message["members"] = [asdict(member) for member in self.members]
        return message

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Generation:
        """Read the JSON object that stands in the store."""
        return cls(
            number=int(message["generation"]),
            members=tuple(
                Member(str(one["worker"]), str(one["node"]), int(one["slot"]))
                for one in message["members"]
            ),
            master_addr=str(message["master_addr"]),
            master_port=int(message["master_port"]),
            mode=str(message["mode"]),
            action=str(message["action"]),
            reason=str(message["reason"]),
            made_by=str(message["made_by"]),
        )


def survivors(
    old: Generation, dead: set[str], *, number: int, endpoint: tuple[str, int], made_by: str
) -> Generation:
    """Return the next generation without the dead: the others keep their order."""
    alive = tuple(member for member in old.members if member.worker not in dead)
    return Generation(
        number=number,
        members=alive,
        master_addr=endpoint[0],
        master_port=endpoint[1],
        mode=old.mode,
        reason="lost " + ", ".join(sorted(dead)),
        made_by=made_by,
    )


@dataclass(frozen=True)
class WorkerAssignment:
    """One worker that a node should run; ``rank`` and ``world_size`` are what is planned."""

    worker: str
    job: str
    job_name: str
    slot: int
    generation: int
    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    mode: str
    log_dir: str
    checkpoint_dir: str
    master_addr: str = ""
    master_port: int = 0
    spec: dict[str, Any] = field(default_factory=dict)

    def to_message(self) -> dict[str, Any]:
        """Return the JSON object that stands in a node's assignment."""
        return asdict(self)
