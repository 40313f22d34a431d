"""What the demo shows: the story, two rows that live, and the tables at the end."""

from __future__ import annotations

import io
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text
from stage import SLOTS

from eflib.launcher import wording
from eflib.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from evidence import Claim, JobSheet
    from rich.console import RenderableType

    from eflib.launcher.documents import Document

WIDTH = 112
STRIP_COLUMNS = 72
PLAIN_SECONDS = 10.0
"""How often the rows are told where they cannot be drawn over."""
HEIGHTS = " ▂▄▆█░"
MEASURED = 5
STYLES = {"RUNNING": "green", "PROFILING": "yellow", "SUCCEEDED": "bold green", "PENDING": "yellow"}


class View:
    """A terminal, or a pipe; with a second copy of all but the moving parts for a picture.

    Attributes:
        samples: Seconds and the number of workers by job, as they were seen; MEASURED stands for
            a job whose speed is being measured.
    """

    def __init__(self) -> None:
        width = None if sys.stdout.isatty() else WIDTH
        self._console = Console(highlight=False, width=width)
        self._paper = Console(
            record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, highlight=False
        )
        self._live: Live | None = None
        self._signs: list[tuple[str, str, int]] = []
        self._told: dict[str, int] = {}
        self._told_at = 0.0
        self.samples: list[tuple[float, dict[str, int]]] = []

    def say(self, *lines: str) -> None:
        """Tell what comes next."""
        self.print("")
        for line in lines:
            self.note(line, style="bold")

    def note(self, line: str, *, style: str = "") -> None:
        """Tell a detail."""
        self.print(Text(line, style=style))

    def print(self, *parts: RenderableType) -> None:
        """Print above the rows that live."""
        for part in parts:
            self._console.print(part, soft_wrap=isinstance(part, Text))
            self._paper.print(part)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Draw the rows over and over meanwhile, on a terminal."""
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, refresh_per_second=5, transient=True) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def show(self, jobs: list[Document]) -> None:
        """Show where the jobs stand; each change of size stays on the screen."""
        sizes = {str(job["name"]): _size(job) for job in jobs}
        if jobs:
            self.samples.append((time.monotonic(), sizes))
        self._tell_rescales(jobs)
        if self._live is not None:
            self._live.update(rows_table(jobs))
        signs = [(str(job["name"]), str(job["state"]), _size(job)) for job in jobs]
        is_new, self._signs = signs != self._signs, signs
        if is_new and all(state == "RUNNING" for _, state, _ in signs):
            self._paper.print(rows_table(jobs))
        if self._live is None and (is_new or time.monotonic() - self._told_at > PLAIN_SECONDS):
            self._told_at = time.monotonic()
            for job in jobs:
                if not wording.has_left(job):
                    line = f"  {job['name']}: {wording.progress(job)}"
                    self._console.print(Text(line), soft_wrap=True)

    def save(self, svg: Path) -> None:
        """Write the picture."""
        self._paper.save_svg(str(svg), title="make demo")

    def _tell_rescales(self, jobs: list[Document]) -> None:
        for job in jobs:
            told = self._told.setdefault(str(job["job"]), 0)
            for record in job.get("rescales", [])[told:]:
                self.note(f"  {job['name']}: {wording.rescale(record)}", style="magenta")
                self._told[str(job["job"])] += 1


def rows_table(jobs: list[Document]) -> Table:
    """Return a row for each job: where it stands now."""
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for column in ("job", "state", "workers", "step", "steps/s", "slack", ""):
        table.add_column(column, no_wrap=True)
    for job in jobs:
        size, slack = int(job.get("world_size") or 0), job.get("slack_s")
        state = str(job["state"])
        table.add_row(
            str(job["name"]),
            Text(state.lower(), style=STYLES.get(state, "")),
            Text.assemble(("■" * size, "green"), ("·" * (SLOTS - size), "dim")),
            f"{job.get('global_step') or 0}/{job.get('max_steps') or '?'}",
            f"{job['steps_per_s']:.2f}" if job.get("steps_per_s") else "-",
            "-" if slack is None else format_duration(float(slack)),
            Text(str(job.get("reason") or "")[:45], style="dim"),
        )
    return table


def slot_strips(samples: list[tuple[float, dict[str, int]]], names: list[str]) -> list[Text]:
    """Return the number of workers over time, a line of blocks for each job."""
    begin, end = samples[0][0], samples[-1][0]
    lines = [Text(f"\nWorkers over time, {format_duration(end - begin)} in all (░ measured)")]
    for name in names:
        columns = [0] * STRIP_COLUMNS
        for moment, sizes in samples:
            place = int((moment - begin) / max(end - begin, 1e-9) * (STRIP_COLUMNS - 1))
            columns[place] = max(columns[place], sizes.get(name, 0))
        blocks = "".join(HEIGHTS[size] for size in columns)
        lines.append(Text.assemble(f"  {name:<9} ", (blocks.rstrip(), "green")))
    return lines


def verdict_table(sheets: list[JobSheet]) -> Table:
    """Return what became of each job."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 2, 0, 0))
    for column in (
        "job",
        "deadline",
        "finished",
        "slack",
        "rescales, each with its pause",
        "samples",
    ):
        table.add_column(column)
    for sheet in sheets:
        is_good = sheet.has_whole_steps and sheet.has_each_sample_once
        counted = f"{sheet.status['global_step']} x {sheet.batch_size}"
        table.add_row(
            sheet.name,
            f"in {sheet.asked}",
            f"after {format_duration(sheet.seconds)}",
            Text(format_duration(sheet.slack), style="green" if sheet.slack >= 0 else "bold red"),
            "\n".join(_rescale(record) for record in sheet.status["rescales"]) or "none",
            Text(f"{counted}, each once an epoch" if is_good else f"{counted}, NOT each once"),
        )
    return table


def claim_list(found: list[Claim]) -> list[Text]:
    """Return what was claimed, and whether the records bear it out."""
    lines = [Text("\nHeld against what the workers wrote down", style="bold")]
    for text, holds in found:
        mark = ("  yes ", "green") if holds else ("  NO  ", "bold red")
        lines.append(Text.assemble(mark, text))
    return lines


def _size(job: Document) -> int:
    return MEASURED if job["state"] == "PROFILING" else min(int(job.get("world_size") or 0), SLOTS)


def _rescale(record: Document) -> str:
    pause = 1000 * float(record.get("pause_s") or 0.0)
    return f"{record['from']} -> {record['to']} at step {record['step']}: {pause:.0f} ms"
