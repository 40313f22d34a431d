"""Read a trace of jobs, refusing a bad one by file, line and column."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from eflib.errors import UsageError
from eflib.files import read_text
from eflib.scheduling.scaling import ScalingCurve

Curves = Mapping[tuple[str, int], ScalingCurve]
"""Scaling curves by model and global batch size."""

SPELLINGS: dict[str, tuple[str, ...]] = {
    "job_id": ("job_id",),
    "submitted_at": ("submission_time", "submit_time"),
    "total_steps": ("num_iteration", "iteration"),
    "model": ("model_name",),
    "deadline": ("deadline", "ddl"),
    "global_batch_size": ("batch_size",),
    "num_gpus": ("num_gpu",),
    "duration": ("duration",),
    "best_effort": ("best_effort",),
}
"""Our word for each column, and the published spellings of it."""

FORM = "for the form of a trace, see one that this makes: efctl trace jobs.csv --jobs 3"
MAX_VALUE = 1e15
"""The largest number of a trace."""

OPTIONAL = frozenset({"num_gpus", "duration", "best_effort"})


@dataclass(frozen=True, slots=True)
class TraceJob:
    """One job of a trace. Times are seconds from the trace's origin.

    Attributes:
        job_id: Unique in the trace.
        submitted_at: When it arrives.
        total_steps: Steps of work, above 0.
        model: With ``global_batch_size``, the key of its curve.
        global_batch_size: Samples per step over all GPUs.
        deadline: Absolute; None for best effort.
        num_gpus: GPUs that its user asked for, at least 1; an elastic policy ignores it.
        duration: Seconds its user thought it takes on them; an elastic policy ignores it.
        line: Line of the file, for messages; 0 if it came from elsewhere.
    """

    job_id: str
    submitted_at: float
    total_steps: float
    model: str
    global_batch_size: int
    deadline: float | None
    num_gpus: int = 1
    duration: float = 0.0
    line: int = 0


@dataclass(frozen=True, slots=True)
class Trace:
    """Jobs in the order of submission, and where they came from."""

    jobs: tuple[TraceJob, ...]
    name: str = "trace"


def read_trace(file: Path) -> Trace:
    """Read a trace in either published spelling of the columns.

    Args:
        file: A CSV file with a header.

    Raises:
        UsageError: The file cannot be read, lacks a column, or a value is bad; names file, line
            and column.
    """
    text = read_text(file, "the trace", hint="efctl trace makes one")
    try:
        rows = list(csv.reader(text.splitlines(keepends=True)))
    except csv.Error as error:
        raise UsageError(f"cannot read the trace {file}: {error}", hint=FORM) from error
    if not rows:
        raise UsageError(f"{file}:1:1: the trace is empty", hint="the first line names the columns")
    columns = _columns(file, rows[0])
    jobs: dict[str, TraceJob] = {}
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        job = _Row(file, number, row, rows[0], columns).job()
        if job.job_id in jobs:
            raise UsageError(
                f"{file}:{number}:{columns['job_id'] + 1}: job {job.job_id!r} is there already",
                hint="every job needs an id of its own",
                detail=f"first on line {jobs[job.job_id].line}",
            )
        jobs[job.job_id] = job
    ordered = sorted(jobs.values(), key=lambda job: (job.submitted_at, job.line))
    return Trace(tuple(ordered), file.stem)


def check_curves(trace: Trace, curves: Curves, file: Path | None = None) -> None:
    """Refuse a trace with a job whose scaling curve is not known.

    Args:
        trace: The jobs.
        curves: By model and global batch size.
        file: Where the trace was read from, for the message.

    Raises:
        UsageError: Names the first such job and what is known of its model.
    """
    for job in trace.jobs:
        if (job.model, job.global_batch_size) in curves:
            continue
        sizes = sorted(size for model, size in curves if model == job.model)
        models = sorted({model for model, _ in curves})
        hint = (
            f"{job.model} is known with batch sizes {', '.join(map(str, sizes))}"
            if sizes
            else f"known models: {', '.join(models) or 'none'}"
        )
        where = f"{file or trace.name}:{job.line}: "
        raise UsageError(
            f"{where}no scaling curve for {job.model!r} with batch size {job.global_batch_size}",
            hint=hint,
        )


def _columns(file: Path, header: list[str]) -> dict[str, int]:
    """Return the place of each of our words in the header."""
    names = [name.strip().lstrip("\ufeff") for name in header]
    found: dict[str, int] = {}
    for word, spellings in SPELLINGS.items():
        for spelling in spellings:
            if spelling in names and word not in found:
                found[word] = names.index(spelling)
        if word not in found and word not in OPTIONAL:
            wanted = " or ".join(repr(s) for s in spellings)
            raise UsageError(
                f"{file}:1: the trace has no column {wanted}",
                detail=f"columns: {', '.join(names)}",
                hint=FORM,
            )
    return found


class _Row:
    """One line of a trace on its way to being a job."""

    def __init__(
        self, file: Path, line: int, cells: list[str], header: list[str], columns: dict[str, int]
    ) -> None:
        self._file, self._line = file, line
        self._cells, self._header, self._columns = cells, header, columns

    def job(self) -> TraceJob:
        """Return the job, or refuse the line."""
        best_effort = "best_effort" in self._columns and self._flag("best_effort")
        return TraceJob(
            job_id=self._text("job_id"),
            submitted_at=self._number("submitted_at", lambda v: True, "a number"),
            total_steps=self._number("total_steps", lambda v: v > 0, "a number above 0"),
            model=self._text("model"),
            global_batch_size=int(self._whole("global_batch_size")),
            deadline=None if best_effort else self._number("deadline", lambda v: True, "a number"),
            num_gpus=int(self._whole("num_gpus")) if "num_gpus" in self._columns else 1,
            duration=self._duration(),
            line=self._line,
        )

    def _duration(self) -> float:
        if "duration" not in self._columns:
            return 0.0
        return self._number("duration", lambda v: v >= 0, "a number of at least 0")

    def _text(self, word: str) -> str:
        place = self._columns[word]
        text = self._cells[place].strip() if place < len(self._cells) else ""
        if not text:
            raise self._bad(word, "nothing is there", "a value")
        return text

    def _whole(self, word: str) -> float:
        return self._number(word, lambda v: v >= 1 and v == int(v), "an integer of at least 1")

    def _flag(self, word: str) -> bool:
        place = self._columns[word]
        text = self._cells[place].strip() if place < len(self._cells) else ""
        if text in {"", "0", "0.0"}:
            return False
        if text in {"1", "1.0"}:
            return True
        raise self._bad(word, repr(text), "0 or 1")

    def _number(self, word: str, is_good: Callable[[float], bool], wanted: str) -> float:
        text = self._text(word)
        try:
            value = float(text)
        except ValueError:
            raise self._bad(word, repr(text), wanted) from None
        if not abs(value) <= MAX_VALUE or not is_good(value):
            raise self._bad(word, repr(text), wanted)
        return value

    def _bad(self, word: str, found: str, wanted: str) -> UsageError:
        place = self._columns[word]
        name = self._header[place].strip()
        return UsageError(
            f"{self._file}:{self._line}:{place + 1}: {name} should be {wanted}, not {found}"
            if found != "nothing is there"
            else f"{self._file}:{self._line}:{place + 1}: {name} is missing",
            hint=FORM,
        )
