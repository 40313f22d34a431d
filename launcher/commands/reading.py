"""What the commands that read have in common."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from eflib.errors import UsageError
from eflib.launcher import wording
from eflib.launcher.documents import Cluster, open_cluster

if TYPE_CHECKING:
    from eflib.launcher.documents import Document

ABSENT = (
    "note: no coordinator is running; this is what the last one wrote "
    "(start one with: efctl coordinator)"
)


def cluster_to_read(store: str | None) -> Cluster:
    """Return the cluster; says on standard error if what it tells may be old.

    Raises:
        StoreError: Its store or the state folder cannot be used.
    """
    cluster = open_cluster(store)
    if cluster.coordinator() is None:
        sys.stderr.write(ABSENT + "\n")
    return cluster


def job_to_change(cluster: Cluster, name: str) -> Document:
    """Return the status of a job that has not ended, by name or id.

    Raises:
        UsageError: There is no such job, or it has ended.
    """
    status = cluster.find(name)
    if wording.has_ended(status):
        raise UsageError(
            f"job {wording.title(status)!r} has ended already ({status['state']})",
            hint="see those that have not with: efctl status",
        )
    return status


def public(document: Document) -> Document:
    """Return a status document with every field that is promised to be there."""
    saved_at = document.get("checkpoint_at")
    age = None if saved_at is None else max(0.0, time.time() - float(saved_at))
    return {**dict.fromkeys(PROMISED), **document, "checkpoint_age_s": age}


PROMISED = (
    "job",
    "name",
    "state",
    "world_size",
    "generation",
    "global_step",
    "max_steps",
    "steps_per_s",
    "deadline",
    "projected_finish",
    "slack_s",
    "checkpoint_step",
    "checkpoint_age_s",
    "reason",
)
