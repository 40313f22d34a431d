"""Who writes which message where: what the page of messages is made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, get_args

from eflib.messages import inbox, journal, records, rendezvous, status
from eflib.messages.generations import Generation
from eflib.messages.replies import Reply

if TYPE_CHECKING:
    from eflib.messages.fields import Message


class Place(NamedTuple):
    """A key of the store.

    Attributes:
        key: How it is spelled, with the changing parts in angle brackets.
        kind: The type of what stands there.
        writer: Who writes it.
    """

    key: str
    kind: type[Message]
    writer: str


PLACES = (
    Place("coordinator/record", records.CoordinatorRecord, "coordinator"),
    Place("coordinator/jobs", status.JobIndex, "coordinator"),
    Place("replies/<request>", Reply, "coordinator; its reader deletes it"),
    Place("nodes/<node>/record", records.NodeRecord, "agent"),
    Place("nodes/<node>/heartbeat", records.Heartbeat, "agent, once a second"),
    Place("nodes/<node>/assignment", records.Assignment, "coordinator"),
    Place("jobs/<job>/spec", records.JobSpec, "coordinator"),
    Place("jobs/<job>/generations/<g>", Generation, "coordinator or survivors, if it is absent"),
    Place(
        "jobs/<job>/exits/<worker>", records.WorkerExit, "agent, once; coordinator for lost nodes"
    ),
    Place("jobs/<job>/progress", records.Progress, "rank 0, once a second"),
    Place("jobs/<job>/status", status.JobStatus, "coordinator"),
    Place("rendezvous/<run>/nodes/<node>", rendezvous.Participant, "torchrun's node"),
    Place("rendezvous/<run>/generations/<g>", rendezvous.Formed, "one node, if it is absent"),
    Place("rendezvous/<run>/stores/<g>", rendezvous.StoreAddress, "rank 0 of g"),
    Place("rendezvous/<run>/closed", rendezvous.Closed, "any node"),
)
"""Every key that holds a message."""

SENDERS: dict[type[Message], str] = {
    inbox.Submit: "eflaunch",
    inbox.Profile: "efctl profile",
    inbox.Cancel: "efctl, eflaunch",
    inbox.Rescale: "efctl",
    inbox.Release: "eflaunch",
    inbox.NodeJoined: "agent",
    inbox.NodeLeft: "agent",
    inbox.WorkerStarted: "agent",
    inbox.WorkerExited: "agent",
    inbox.WorkerReady: "trainer",
    inbox.Switched: "rank 0",
    inbox.Measured: "rank 0 of a profiling run",
    inbox.Finished: "rank 0",
}
"""Every message of the inbox, with its sender."""

OWN_INPUTS: tuple[type[Message], ...] = tuple(
    kind for kind in get_args(journal.Input) if kind.__module__ == journal.__name__
)
"""Inputs of the control plane that the coordinator makes or completes itself."""
