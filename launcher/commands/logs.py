"""``efctl logs``."""

from __future__ import annotations

import sys

from eflib.errors import UsageError
from eflib.launcher import values, wording
from eflib.launcher.commands.reading import cluster_to_read
from eflib.launcher.documents import Cluster, Document
from eflib.launcher.logs import RankLog, ranks
from eflib.launcher.waiting import JobWatch

POLL_SECONDS = 0.2


def command(
    job: str,
    *,
    follow: bool = False,
    rank: str | None = None,
    store: str | None = None,
) -> None:
    """Print what a job's ranks have written, generation by generation.

    Args:
        job: A job's name or id.
        follow: Keep printing until the job ends, or no coordinator is running any more.
        rank: Only this rank's lines; by default those of all ranks, one rank after the other.
        store: Where the cluster is: a folder or tcp://host:port.
    """
    only = values.number(rank, "--rank", least=0)
    cluster = cluster_to_read(store)
    status = cluster.find(job)
    if not status.get("log_dir") and not follow:
        raise UsageError(
            f"job {wording.title(status)!r} has no logs yet ({wording.progress(status)})",
            hint=f"wait for them with: efctl logs -f {job}",
        )
    known = ranks(status.get("log_dir") or "")
    if only is not None and only not in known and not follow:
        raise UsageError(
            f"job {wording.title(status)!r} has no log of rank {only}",
            hint=f"there are logs of ranks {', '.join(map(str, known))}"
            if known
            else "no rank has written a log on this machine",
        )
    _print_until_ended(cluster, status, only, follow=follow)


def _print_until_ended(
    cluster: Cluster, status: Document, only: int | None, *, follow: bool
) -> None:
    logs: dict[int, RankLog] = {}
    watch = JobWatch(cluster, str(status["job"]))
    while True:
        is_last = not follow or wording.has_ended(status)
        folder = status.get("log_dir") or ""
        for rank in [only] if only is not None else ranks(folder):
            log = logs.setdefault(rank, RankLog(folder, rank))
            for line in log.new_lines(is_last=is_last):
                sys.stdout.write(f"[{wording.title(status)} {rank}]: {line}\n")
        sys.stdout.flush()
        if is_last:
            return
        watch.pause(POLL_SECONDS)
        status = watch.look()
