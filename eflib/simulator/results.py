"""Read what simulations wrote, for figures and comparisons: one folder is one run.

A folder holds ``jobs.csv`` (what became of each job), ``schedule.csv`` (who held which GPUs from
when on) and ``summary.json`` (policy, cluster, counts).
"""

import csv
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from eflib.errors import UsageError
from eflib.files import read_text

WRITER = "efctl simulate --out DIR writes a run"
DRAINING = 1.5  # share of the time of submissions that a figure shows at most
Range = tuple[int, int]  # first GPU, number of GPUs


@dataclass(frozen=True)
class JobResult:
    """What became of one job of a trace. Times are seconds from the trace's origin.

    Attributes:
        job_id: Its name in the trace.
        admitted: Whether it was let in.
        finished_at: When its work was done; None if never.
        met: Whether that was by its deadline.
        submitted_at: When it arrived.
        best_effort: Whether its deadline does not count.
        model: Name of its model.
        global_batch_size: With ``model``, the key of its scaling curve.
    """

    job_id: str
    admitted: bool
    finished_at: float | None
    met: bool
    submitted_at: float
    best_effort: bool
    model: str
    global_batch_size: int


@dataclass(frozen=True)
class Holding:
    """GPUs that a job held for a while; adjacent ones are one range.

    Attributes:
        job_id: Who held them.
        start: From when, in seconds.
        end: Until when, in seconds.
        ranges: (first GPU, number of GPUs), ascending.
    """

    job_id: str
    start: float
    end: float
    ranges: tuple[Range, ...]

    @property
    def num_gpus(self) -> int:
        """How many GPUs it is."""
        return sum(count for _, count in self.ranges)


@dataclass(frozen=True)
class RunResult:
    """One simulated run.

    Attributes:
        folder: Where it lies.
        policy: Name of the policy.
        trace: Name of the trace.
        profiles: Name or folder of the scaling curves that it was simulated with.
        num_gpus: Size of the cluster.
        gpus_per_node: Size of a node.
        jobs: Every job of the trace, by job_id.
        holdings: In order of start.
    """

    folder: Path
    policy: str
    trace: str
    profiles: str
    num_gpus: int
    gpus_per_node: int
    jobs: Mapping[str, JobResult]
    holdings: tuple[Holding, ...]

    @property
    def start(self) -> float:
        """Time of the first submission, in seconds."""
        return min((job.submitted_at for job in self.jobs.values()), default=0.0)

    @property
    def end(self) -> float:
        """Time at which the last GPUs were given back, in seconds."""
        return max((holding.end for holding in self.holdings), default=self.start)

    @property
    def horizon(self) -> float:
        """Time up to which a figure shows the run, in seconds.

        After the last submission a cluster drains, and one long job can take most of the time that
        there is: no more than half the time of submissions is shown of that.
        """
        last = max((job.submitted_at for job in self.jobs.values()), default=self.start)
        drained = self.start + DRAINING * (last - self.start)
        return min(self.end, drained) if drained > self.start else self.end

    @property
    def satisfaction(self) -> float:
        """Share of the jobs with a deadline that met it; nan without such jobs."""
        counted = [job.met for job in self.jobs.values() if not job.best_effort]
        return sum(counted) / len(counted) if counted else math.nan

    @property
    def best_effort_share(self) -> float:
        """Share of the jobs that have no deadline."""
        return sum(job.best_effort for job in self.jobs.values()) / max(1, len(self.jobs))

    @property
    def best_effort_completion_time(self) -> float:
        """Mean time from submission to end of best-effort jobs that ended, in seconds, or nan."""
        times = [
            job.finished_at - job.submitted_at
            for job in self.jobs.values()
            if job.best_effort and job.finished_at is not None
        ]
        return sum(times) / len(times) if times else math.nan


def load(folder: str | Path) -> RunResult:
    """Read the folder of one run.

    Raises:
        UsageError: A file is missing or not as the simulator writes it; names file and line.
    """
    place = Path(folder)
    summary = _summary(place / "summary.json")
    jobs = {job.job_id: job for job in _jobs(place / "jobs.csv")}
    try:
        return RunResult(
            folder=place,
            policy=str(summary["policy"]),
            trace=Path(str(summary["trace"])).stem,
            profiles=str(summary["profiles"]),
            num_gpus=int(summary["nodes"]) * int(summary["gpus_per_node"]),
            gpus_per_node=int(summary["gpus_per_node"]),
            jobs=jobs,
            holdings=tuple(sorted(_holdings(place / "schedule.csv"), key=_by_start)),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UsageError(
            f"{place / 'summary.json'} is not a summary: {error}", hint=WRITER
        ) from error


def _by_start(holding: Holding) -> tuple[float, str]:
    return holding.start, holding.job_id


def _summary(file: Path) -> dict[str, Any]:
    """Return the object in a summary."""
    try:
        found = json.loads(_text(file))
    except json.JSONDecodeError as error:
        raise UsageError(f"{file}:{error.lineno}: not JSON: {error.msg}", hint=WRITER) from error
    except (RecursionError, ValueError):
        raise UsageError(f"{file} is not a summary: its JSON is too deep", hint=WRITER) from None
    if not isinstance(found, dict):
        raise UsageError(f"{file} is not a summary: expected an object", hint=WRITER)
    return found


def _jobs(file: Path) -> Iterator[JobResult]:
    """Yield the rows of jobs.csv."""
    for line, row in _rows(file):
        try:
            yield JobResult(
                job_id=row["job_id"],
                admitted=row["admitted"] == "1",
                finished_at=float(row["finish_time"]) if row["finish_time"] else None,
                met=row["met"] == "1",
                submitted_at=float(row["submission_time"]),
                best_effort=row["best_effort"] == "1",
                model=row["model_name"],
                global_batch_size=int(row["batch_size"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"{file}:{line}: not a row of jobs.csv: {error}", hint=WRITER
            ) from error


def _holdings(file: Path) -> Iterator[Holding]:
    """Yield every stay on GPUs, from one row of a job in schedule.csv to its next."""
    rows: defaultdict[str, list[tuple[float, tuple[Range, ...]]]] = defaultdict(list)
    for line, row in _rows(file):
        try:
            rows[row["job_id"]].append((float(row["time"]), _ranges(row["gpus"])))
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"{file}:{line}: not a row of schedule.csv: {error}", hint=WRITER
            ) from error
    for job_id, changes in rows.items():
        for (start, ranges), (end, _) in pairwise(changes):
            if ranges and end > start:
                yield Holding(job_id, start, end, ranges)


def _ranges(text: str) -> tuple[Range, ...]:
    """Return the ranges that "0-7;12" spells."""
    ranges = []
    for word in filter(None, text.split(";")):
        first, _, last = word.partition("-")
        ranges.append((int(first), int(last or first) - int(first) + 1))
    return tuple(ranges)


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, row) of a CSV file with a header."""
    reader = csv.DictReader(_text(file).splitlines())
    for row in reader:
        yield reader.line_num, row


def _text(file: Path) -> str:
    """Return a file's text, or say which part of a run is missing."""
    return read_text(file, "the file of a simulated run", hint=WRITER)
