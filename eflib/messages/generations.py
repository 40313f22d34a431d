"""Who is in a job: members, generations, and what follows when some of them are gone."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from eflib.messages.fields import MAX_WORLD, Count, Label, Message, Name, Port, Slot, Text

TRAIN = "train"  # modes of a generation, and the action of one that goes on
PROFILE = "profile"
PAUSE = "pause"  # actions: save and leave, to come back later
STOP = "stop"  # leave for good


class Member(Message, frozen=True):
    """A worker's seat: which process, on which node, in which slot.

    Attributes:
        worker: Its id.
        node: Where it runs; empty in a world of fixed size.
        slot: Which of the node's slots it uses.
    """

    worker: Name
    node: Annotated[str, Meta(max_length=200)]
    slot: Slot


class Generation(Message, frozen=True, rename={"number": "generation"}):
    """The immutable membership of a job: rank is the place in ``members``, survivors first.

    A record is written only when every member is ready.

    Attributes:
        number: Counted from 1 for each job, without gaps.
        members: The workers, in rank order; none: all leave.
        master_addr: Host of the TCP store at which the members meet.
        master_port: Its port.
        mode: ``train``: steps count. ``profile``: they are measured and thrown away.
        action: ``train``: the members go on. ``pause``: save and leave. ``stop``: leave for good.
        reason: Why it was made, for people.
        made_by: ``coordinator``, or the worker that made it after a loss.
    """

    number: Count
    members: Annotated[tuple[Member, ...], Meta(max_length=MAX_WORLD)]
    master_addr: Label = ""
    master_port: Port = 0
    mode: Label = TRAIN
    action: Label = TRAIN
    reason: Text = ""
    made_by: Label = ""

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


def survivors(
    old: Generation, dead: set[str], *, number: int, endpoint: tuple[str, int], made_by: str
) -> Generation:
    """Return the next generation without the dead: the others keep their order.

    Args:
        old: The generation that lost members.
        dead: The workers that are gone.
        number: The new generation's number.
        endpoint: Host and port at which the survivors meet.
        made_by: The worker that makes it.
    """
    alive = tuple(member for member in old.members if member.worker not in dead)
    names = sorted(dead)
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return Generation(
        number=number,
        members=alive,
        master_addr=endpoint[0],
        master_port=endpoint[1],
        mode=old.mode,
        reason=f"lost {shown}",
        made_by=made_by,
    )
