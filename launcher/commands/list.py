"""``efctl list``."""

from __future__ import annotations

from eflib.launcher import tables
from eflib.launcher.commands.reading import cluster_to_read, public


def command(*, every: bool = False, store: str | None = None, json: bool = False) -> None:
    """List jobs that have not ended and the last 200 that have, in the order of submission.

    Args:
        every: List all jobs, however long ago they ended.
        store: Where the cluster is: a folder or tcp://host:port.
        json: Print one JSON object.
    """
    jobs = [public(job) for job in cluster_to_read(store).jobs(every=every)]
    if json:
        tables.print_json({"jobs": jobs})
    elif jobs:
        tables.print_jobs(jobs)
    else:
        print("no jobs yet; submit one with: eflaunch train.py")
