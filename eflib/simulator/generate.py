"""Make traces of jobs: drawn at random from one seed, or from the raw log of a real cluster.

Both give jobs as the paper's evaluation has them: a duration and a number of GPUs say how much
work a job is, on the model drawn for it, and the deadline is a multiple of the duration.

References:
    Gu et al., "ElasticFlow: An Elastic Serverless Training Platform for Distributed Deep
    Learning", ASPLOS 2023, section 6.1, https://doi.org/10.1145/3575693.3575721
    Narayanan et al., "Heterogeneity-Aware Cluster Scheduling Policies for Deep Learning
    Workloads", OSDI 2020 (Gavel), section 7.1: the shape of the durations.
"""

import csv
import math
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, fields
from itertools import accumulate
from pathlib import Path

from eflib.errors import UsageError
from eflib.files import read_text, writing
from eflib.scheduling.scaling import ScalingCurve

Curves = Mapping[tuple[str, int], ScalingCurve]

# Share of jobs by GPUs asked for: Microsoft's ITP clusters, as the artifact's generator has it.
GPU_REQUESTS = {1: 0.83, 2: 0.03, 4: 0.03, 8: 0.10, 16: 0.01}
# Share of short jobs, and the decades of their durations and of the long ones', in minutes. The
# artifact's generator has the short ones start at 10 minutes; Gavel's at 10 ** 1.5.
SHORT_SHARE = 0.8
SHORT_DECADES = (1.0, 2.5)
LONG_DECADES = (2.5, 4.0)
DEADLINE_FACTORS = (0.5, 1.5)  # the paper's lambda, uniform
MAX_VALUE = 1e12  # of a time, duration or GPU count in a log
MAX_JOBS = 1_000_000
MAX_GAP = 1e9  # seconds; some thirty years
MAX_FACTOR = 1e6
RAW_COLUMNS = ("job_id", "submission_time", "duration", "num_gpu")


@dataclass(frozen=True)
class TraceRow:
    """One row of a trace; the fields are its columns.

    Attributes:
        job_id: Any text, unique in the trace.
        submission_time: In seconds from the trace's origin.
        num_iteration: Steps of work.
        model_name: Name of the model, with ``batch_size`` the key of its curve.
        deadline: Absolute, in seconds from the trace's origin.
        batch_size: Samples per step over all GPUs.
        num_gpu: GPUs that the user asked for.
        duration: Seconds that the work takes on them.
        best_effort: 1: the deadline does not count.
    """

    job_id: str
    submission_time: int
    num_iteration: int
    model_name: str
    deadline: int
    batch_size: int
    num_gpu: int
    duration: int
    best_effort: int


COLUMNS = tuple(field.name for field in fields(TraceRow))


@dataclass(frozen=True)
class Draws:
    """What is drawn for each job, and the seed it is drawn from.

    Every quantity has a stream of its own, so that changing one leaves the others as they were:
    traces that differ in ``best_effort_share`` alone hold the same jobs.

    Attributes:
        seed: Same seed, same trace, on every machine and Python.
        best_effort_share: Share of jobs without a deadline that counts, from 0 to 1.
        deadline_factors: Least and greatest deadline, in durations after submission.

    Raises:
        UsageError: The share is no share, or the factors are not in order and above 0.
    """

    seed: int = 0
    best_effort_share: float = 0.0
    deadline_factors: tuple[float, float] = DEADLINE_FACTORS

    def __post_init__(self) -> None:
        if not 0 <= self.best_effort_share <= 1:
            raise UsageError(
                f"best-effort share {self.best_effort_share} is not within 0 and 1",
                hint="write 0.3 for three jobs in ten",
            )
        low, high = self.deadline_factors
        if not 0 < low <= high <= MAX_FACTOR:
            raise UsageError(
                f"deadline factors {low} to {high} are not a range above 0 and up to "
                f"{MAX_FACTOR:g}",
                hint="write the smaller one first, as in 0.5,1.5",
            )

    def stream(self, quantity: str) -> random.Random:
        """Return the random stream of one quantity."""
        return random.Random(f"{self.seed}/{quantity}")


def generate(
    curves: Curves, *, num_jobs: int, mean_gap: float, draws: Draws | None = None
) -> tuple[TraceRow, ...]:
    """Draw a trace: Poisson arrivals, log-uniform durations, models, GPU requests, deadlines.

    Args:
        curves: Scaling curves by (model, global batch size). A job runs one of those measured at
            every count of ``GPU_REQUESTS``, or, if there is none, any.
        num_jobs: Number of jobs; at least 1.
        mean_gap: Mean time between submissions, in seconds; 0 submits all at once.
        draws: Seed, deadlines and share of best-effort jobs; ``Draws()`` if None.

    Returns:
        Jobs in order of submission, the first at 0.

    Raises:
        UsageError: ``num_jobs`` or ``mean_gap`` is out of range, or there is no curve.
    """
    if not 1 <= num_jobs <= MAX_JOBS:
        raise UsageError(
            f"a trace must have 1 to {MAX_JOBS} jobs, got {num_jobs}", hint="100 make a short one"
        )
    if not 0 <= mean_gap <= MAX_GAP:
        raise UsageError(
            f"the mean gap between jobs must be 0 to {MAX_GAP:g} seconds, got {mean_gap}",
            hint="1500 is that of the paper's traces; 0 submits all jobs at once",
        )
    draws = draws or Draws()
    gaps, durations, requests = (draws.stream(name) for name in ("gap", "duration", "num_gpu"))
    drawn_gaps = (-math.log(1.0 - gaps.random()) * mean_gap for _ in range(num_jobs - 1))
    arrivals = accumulate(drawn_gaps, initial=0.0)
    raw = [
        (str(index), int(arrival), _duration(durations), _request(requests))
        for index, arrival in enumerate(arrivals)
    ]
    return tuple(_complete(raw, _scalable(curves), draws))


def convert(
    log: str | Path, curves: Curves, *, draws: Draws | None = None, min_duration: float = 0.0
) -> tuple[TraceRow, ...]:
    """Make a trace of a raw cluster log, drawing models and deadlines for its jobs.

    Args:
        log: CSV file with the columns ``job_id,submission_time,duration,num_gpu``, in any order
            and with others between them; times in seconds.
        curves: Scaling curves by (model, global batch size). A job runs one that was measured at
            its number of GPUs, or, if there is none, any.
        draws: Seed, deadlines and share of best-effort jobs; ``Draws()`` if None.
        min_duration: Jobs below it, in seconds, are left out, as the published traces leave out
            those below 600 s.

    Returns:
        Jobs in order of submission.

    Raises:
        UsageError: The log cannot be read; names file, line and column.
    """
    raw = [job for job in _read_log(Path(log)) if job[2] >= min_duration]
    if not raw:
        raise UsageError(f"no job in {log}", hint="is every duration below the least one?")
    raw.sort(key=lambda job: (job[1], job[0]))
    return tuple(_complete(raw, curves, draws or Draws()))


def write(jobs: Iterable[TraceRow], path: str | Path) -> Path:
    """Write a trace as CSV with the columns of ``COLUMNS``, and return its path.

    Args:
        jobs: The rows, in order.
        path: The file; one of that name is replaced.

    Raises:
        UsageError: It cannot be written.
    """
    file = Path(path)
    with writing(file, "the trace"), file.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(astuple(job) for job in jobs)
    return file


def _complete(
    raw: Iterable[tuple[str, int, int, int]], curves: Curves, draws: Draws
) -> Iterator[TraceRow]:
    """Draw what a log does not say: model, deadline, and whether it counts."""
    if not curves:
        raise UsageError(
            "no scaling curve to draw a job's model from",
            hint="curves need a global batch size; see: efctl profiles list",
        )
    models, factors, efforts = (draws.stream(n) for n in ("model", "deadline", "best_effort"))
    for job_id, submitted, duration, num_gpus in raw:
        fitting = [key for key in sorted(curves) if num_gpus in curves[key].counts]
        model, batch_size = _choose(models, fitting or sorted(curves))
        factor = draws.deadline_factors[0] + factors.random() * (
            draws.deadline_factors[1] - draws.deadline_factors[0]
        )
        yield TraceRow(
            job_id=job_id,
            submission_time=submitted,
            num_iteration=max(1, round(duration * curves[model, batch_size].throughput(num_gpus))),
            model_name=model,
            deadline=submitted + max(1, int(factor * duration)),
            batch_size=batch_size,
            num_gpu=num_gpus,
            duration=duration,
            best_effort=int(efforts.random() < draws.best_effort_share),
        )


def _choose(stream: random.Random, keys: list[tuple[str, int]]) -> tuple[str, int]:
    """Draw one key from one number of the stream; ``choice`` may change between Pythons."""
    return keys[int(stream.random() * len(keys))]


def _duration(stream: random.Random) -> int:
    """Draw a duration in seconds: log-uniform within the decades of short or long jobs."""
    low, high = SHORT_DECADES if stream.random() < SHORT_SHARE else LONG_DECADES
    return int(60 * 10 ** (low + stream.random() * (high - low)))


def _request(stream: random.Random) -> int:
    """Draw a number of GPUs by the shares of ``GPU_REQUESTS``."""
    point, total = stream.random(), 0.0
    for num_gpus, share in GPU_REQUESTS.items():
        total += share
        if point < total:
            return num_gpus
    return max(GPU_REQUESTS)


def _scalable(curves: Curves) -> Curves:
    """Return the curves that were measured at every count that a job may ask for."""
    whole = {k: curve for k, curve in curves.items() if set(GPU_REQUESTS) <= set(curve.counts)}
    return whole or curves


def _read_log(file: Path) -> Iterator[tuple[str, int, int, int]]:
    """Yield (job_id, submission, duration, GPUs) of each row of a raw log."""
    text = read_text(file, "the log")
    reader = csv.DictReader(text.splitlines())
    missing = [column for column in RAW_COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise UsageError(
            f"{file}:1: no column {', '.join(missing)}",
            hint=f"a log has the columns {','.join(RAW_COLUMNS)}",
        )
    seen: set[str] = set()
    for row in reader:
        place = f"{file}:{reader.line_num}"
        if not row["job_id"] or row["job_id"] in seen:
            raise UsageError(
                f"{place}: column job_id: {row['job_id']!r} is empty or a repetition",
                hint="every job needs an id of its own",
            )
        seen.add(row["job_id"])
        submitted = _number(row, "submission_time", 0, place)
        duration, num_gpus = _number(row, "duration", 1, place), _number(row, "num_gpu", 1, place)
        yield row["job_id"], submitted, duration, num_gpus


def _number(row: Mapping[str, str | None], column: str, least: int, place: str) -> int:
    """Return a number from a row of a log, cut to a whole one."""
    word = row[column] or ""
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not least <= value <= MAX_VALUE:
        raise UsageError(
            f"{place}: column {column}: {word!r} is not a number from {least} to {MAX_VALUE:g}",
            hint="times are in seconds",
        )
    return int(value)
