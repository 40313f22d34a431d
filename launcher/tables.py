"""Documents as tables and lists for a terminal."""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Table

from eflib.errors import printable
from eflib.launcher import wording
from eflib.units import format_deadline, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable

PIPE_WIDTH = 1000
MAX_REASON = 120
"""Longest reason in a table, in characters; ``efctl describe`` has it whole."""
Document = dict[str, Any]
_COLUMNS = (
    "job",
    "name",
    "state",
    "workers",
    "step",
    "steps/s",
    "deadline",
    "slack",
    "checkpoint",
    "reason",
)
_MOMENTS = ("submitted", "started", "ended", "deadline", "projected_finish", "earliest_deadline")
_DURATIONS = ("slack_s",)
_LABELS = {"slack_s": "slack", "steps_per_s": "steps/s", "checkpoint": "last checkpoint"}


def print_json(facts: object) -> None:
    """Print facts as one JSON object on a line of its own; a number that JSON lacks is null."""
    print(json.dumps(_finite(facts), allow_nan=False))


def print_jobs(jobs: Iterable[Document]) -> None:
    """Print jobs, one in a row."""
    table = _table(*_COLUMNS)
    for job in jobs:
        table.add_row(*_row(job))
    _print(table)


def print_nodes(nodes: Iterable[Document]) -> None:
    """Print nodes, one in a row."""
    table = _table("node", "device", "slots", "used", "jobs", "host", "pid")
    for node in nodes:
        workers = node.get("workers") or []
        names = sorted({str(worker.get("job_name") or worker.get("job")) for worker in workers})
        table.add_row(
            _text(node.get("node")),
            _text(node.get("device_name") or node.get("device")),
            _text(node.get("slots")),
            str(len({worker.get("slot") for worker in workers})),
            printable(", ".join(names)) or "-",
            _text(node.get("host")),
            _text(node.get("pid")),
        )
    _print(table)


def print_columns(columns: dict[str, list[str]], *, left: Iterable[str] = ()) -> None:
    """Print columns of equally many texts, to the right but for those named in ``left``."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        justify: Literal["left", "right"] = "left" if name in left else "right"
        table.add_column(name, overflow="fold", justify=justify)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*map(printable, row))
    _print(table)


def print_facts(facts: Document, names: Iterable[str]) -> None:
    """Print facts, one on a line, as a person reads them; those that are not known are left out."""
    known = [name for name in names if facts.get(name) not in (None, "")]
    shown = [(_LABELS.get(name, name.replace("_", " ")), facts[name], name) for name in known]
    width = max((len(label) for label, _, _ in shown), default=0)
    for label, value, name in shown:
        print(f"{label:<{width}}  {readable(name, value)}")


def readable(name: str, value: object) -> str:
    """Return a fact's value as a person reads it: moments with their zone, durations in units."""
    if name in _MOMENTS and isinstance(value, (int, float)):
        return format_deadline(value)
    if name in _DURATIONS and isinstance(value, (int, float)):
        return format_duration(value)
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


def _row(job: Document) -> list[str]:
    last = job.get("max_steps")
    step = _text(job.get("global_step")) + ("" if last is None else f"/{last}")
    rate = job.get("steps_per_s")
    deadline, slack = job.get("deadline"), job.get("slack_s")
    ended = wording.has_ended(job)
    return [
        _text(job.get("job")),
        _text(job.get("name")),
        _text(job.get("state")),
        "-" if ended else _text(job.get("world_size")),
        step,
        "-" if not rate or ended else f"{rate:.3g}",
        "-" if deadline is None else format_deadline(deadline),
        "-" if slack is None else format_duration(slack),
        wording.checkpoint(job) or "-",
        wording.cut(_text(job.get("reason")), MAX_REASON),
    ]


def _text(value: object) -> str:
    return "-" if value is None or value == "" else printable(str(value))


def _finite(value: object) -> object:
    """Return facts with None in place of each number that is infinite or not a number."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print(table: Table) -> None:
    # In a pipe there is no width to keep to: a row stays on one line.
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    Console(file=sys.stdout, highlight=False, markup=False, width=width).print(table)
