"""``efctl rescale``."""

from __future__ import annotations

from eflib.launcher import services, tables, values, wording
from eflib.launcher.documents import NotInTimeError, open_cluster
from eflib.store import wait_for
from eflib.units import parse_duration


def command(
    job: str,
    size: str,
    *,
    wait: bool = False,
    timeout: str = "2m",
    store: str | None = None,
    json: bool = False,
) -> None:
    """Give a job a fixed number of GPUs, or leave it to the scheduler again.

    It is an operator's override: the number holds until 'efctl rescale JOB auto'. The job goes on
    training while the change is prepared.

    Args:
        job: A job's name or id.
        size: How many GPUs, or auto.
        wait: Return only when the job trains on so many; with auto there is nothing to wait for.
        timeout: How long to wait at most, as in 90s or 2m.
        store: Where the cluster is: a folder or tcp://host:port.
        json: Print the coordinator's answer as one JSON object.
    """
    wanted = None if size == "auto" else values.number(size, "SIZE", least=0)
    bound = parse_duration(timeout)
    cluster = open_cluster(store)
    status = cluster.find(job)
    job_id = str(status["job"])
    asker = services.client(cluster)
    reply = asker.request("rescale", job=job_id, num_gpus=wanted)
    if wait and wanted:
        wait_for(
            lambda: (cluster.status(job_id) or {}).get("world_size") == wanted,
            timeout=bound,
            what=f"job {wording.title(status)!r} to train on {wanted} workers",
            error=NotInTimeError,
            hint=f"see why with: efctl status {job}",
        )
    if json:
        tables.print_json(reply)
    elif wanted is None:
        print(f"{wording.title(status)}: left to the scheduler again")
    else:
        plural = "" if wanted == 1 else "s"
        print(f"{wording.title(status)}: {wanted} worker{plural} {'now' if wait else 'ordered'}")
