"""``efctl status``."""

from __future__ import annotations

from eflib.launcher import tables, wording
from eflib.launcher.commands.reading import PROMISED, cluster_to_read, public

_SHOWN = (
    *PROMISED[:2],
    "state",
    "reason",
    "deadline",
    "projected_finish",
    "slack_s",
    "checkpoint",
    "log_dir",
)


def command(job: str | None = None, *, store: str | None = None, json: bool = False) -> None:
    """Show the state of one job, or of all jobs that have not ended.

    Args:
        job: A job's name or id.
        store: Where the cluster is: a folder or tcp://host:port.
        json: Print one JSON object.
    """
    cluster = cluster_to_read(store)
    if job is None:
        jobs = [public(one) for one in cluster.jobs() if not wording.has_ended(one)]
        if json:
            tables.print_json({"jobs": jobs})
        elif jobs:
            tables.print_jobs(jobs)
        else:
            print("no jobs are running or waiting; list finished ones with: efctl list")
        return
    status = public(cluster.find(job))
    if json:
        tables.print_json(status)
    else:
        print(f"{wording.title(status)}: {wording.progress(status)}")
        facts = {**status, "checkpoint": wording.checkpoint(status)}
        tables.print_facts(facts, _SHOWN)
