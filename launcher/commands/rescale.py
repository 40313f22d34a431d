"""``efctl rescale``."""

from __future__ import annotations

from eflib.errors import EflibError
from eflib.launcher import services, tables, values, wording
from eflib.launcher.commands.reading import job_to_change
from eflib.launcher.documents import Document, open_cluster
from eflib.launcher.waiting import JobWatch
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
    """Give a job a fixed number of GPUs, or let the scheduler choose again.

    It is an operator's override: the number holds until 'efctl rescale JOB auto'. The job keeps
    training while the change is prepared.

    Args:
        job: A job's name or id.
        size: How many GPUs, or auto.
        wait: Return when the job trains on so many workers, or fail as soon as it is clear that it
            will not: it has ended, or no coordinator runs. With auto there is nothing to wait for.
        timeout: How long to wait at most, as in 90s or 2m.
        store: Where the cluster is: a folder or tcp://host:port.
        json: Print the coordinator's answer as one JSON object.
    """
    wanted = None if size == "auto" else values.number(size, "SIZE", least=0)
    bound = parse_duration(timeout)
    cluster = open_cluster(store)
    status = job_to_change(cluster, job)
    job_id = str(status["job"])
    services.need_coordinator(cluster)
    sender = services.client(cluster)
    try:
        reply = sender.request("rescale", job=job_id, num_gpus=wanted)
    except EflibError as refused:
        refused.hint = refused.hint or f"see what there is with: efctl nodes, efctl status {job}"
        raise
    if wait and wanted is not None:
        _wait(JobWatch(cluster, job_id), wording.title(status), wanted, bound)
    if json:
        tables.print_json(reply)
    elif wanted is None:
        print(f"{wording.title(status)}: sized by the scheduler again")
    else:
        plural = "" if wanted == 1 else "s"
        print(f"{wording.title(status)}: {wanted} worker{plural} {'now' if wait else 'requested'}")


def _wait(watch: JobWatch, title: str, wanted: int, seconds: float) -> None:
    """Wait until a job has so many workers, or never will."""
    held = False

    def is_done(status: Document) -> bool:
        nonlocal held
        held = held or status.get("pinned") == wanted
        return not wording.has_ended(status) and (status.get("world_size") or 0) == wanted

    def is_over(status: Document) -> str:
        if wording.has_ended(status):
            return f"job {title!r} has ended ({status['state']}) before it had {wanted} workers"
        if held and status.get("pinned") != wanted:
            other = status.get("pinned")
            now = "sized by the scheduler" if other is None else f"held at {other} workers"
            return f"job {title!r} is now {now}, not {wanted}: somebody rescaled it again"
        return ""

    watch.until(
        is_done,
        timeout=seconds,
        what=f"job {title!r} to train on {wanted} workers",
        hint=f"see why with: efctl status {title}",
        is_over=is_over,
    )
