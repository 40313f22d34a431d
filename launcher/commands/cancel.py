"""``efctl cancel``."""

from __future__ import annotations

from eflib.launcher import services, tables, wording
from eflib.launcher.commands.reading import job_to_change
from eflib.launcher.documents import open_cluster
from eflib.launcher.waiting import JobWatch

ENDED_SECONDS = 30.0
"""How long the workers of a cancelled job may take to leave: their grace, and some."""


def command(job: str, *, store: str | None = None, json: bool = False) -> None:
    """Cancel a job and wait until its workers have left.

    Args:
        job: A job's name or id.
        store: Where the cluster is: a folder or tcp://host:port.
        json: Print its last status as one JSON object.
    """
    cluster = open_cluster(store)
    status = job_to_change(cluster, job)
    job_id = str(status["job"])
    services.need_coordinator(cluster)
    services.client(cluster).request("cancel", job=job_id)

    last = JobWatch(cluster, job_id).until(
        wording.has_left,
        timeout=ENDED_SECONDS,
        what=f"the workers of job {wording.title(status)!r} to leave",
        hint=f"look again with: efctl status {job}",
    )
    if json:
        tables.print_json(last)
    else:
        print(wording.ending(last))
