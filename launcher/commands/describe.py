"""``efctl describe``."""

from __future__ import annotations

import shlex

from eflib.errors import printable
from eflib.launcher import tables, wording
from eflib.launcher.commands.reading import PROMISED, cluster_to_read, public
from eflib.units import format_deadline

_SHOWN = (
    *(name for name in PROMISED if not name.startswith("checkpoint_")),
    "checkpoint",
    "submitted",
    "started",
    "ended",
    "earliest_deadline",
    "pinned",
    "samples",
    "loss",
    "log_dir",
)


def command(job: str, *, store: str | None = None, json: bool = False) -> None:
    """Show everything known about a job: what was submitted, its rescales, its history.

    Args:
        job: A job's name or id.
        store: Where the cluster is: a folder or tcp://host:port.
        json: Print one JSON object.
    """
    cluster = cluster_to_read(store)
    status = public(cluster.find(job))
    spec = cluster.spec(str(status["job"])) or {}
    if json:
        tables.print_json({**status, "spec": {**spec, "env": None}})
        return
    tables.print_facts({**status, "checkpoint": wording.checkpoint(status)}, _SHOWN)
    _print_spec(spec)
    if status.get("rescales"):
        print("rescales")
        for record in status["rescales"]:
            print(f"  generation {record.get('generation')}: {wording.rescale(record)}")
    if status.get("story"):
        print("story")
        for event in status["story"]:
            moment = event.get("time")
            when = "-" if moment is None else format_deadline(moment)
            print(f"  {when}  {printable(str(event['text']))}")
    error = status.get("error")
    if error:
        print("error")
        tables.print_facts(error, ("rank", "node", "message", "log"))
        for line in str(error.get("traceback") or "").rstrip().splitlines():
            print(printable(line))


def _print_spec(spec: dict[str, object]) -> None:
    argv = spec.get("argv")
    words = [str(word) for word in argv] if isinstance(argv, list) else []
    if spec.get("module"):
        print(f"submitted as  -m {_joined([str(spec['module']), *words])}")
    elif spec.get("script"):
        print(f"submitted as  {_joined([str(spec['script']), *words])}")
    if spec.get("cwd"):
        print(f"in            {printable(str(spec['cwd']))}")


def _joined(words: list[str]) -> str:
    return printable(shlex.join(words))
