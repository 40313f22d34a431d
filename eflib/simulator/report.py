"""What a simulation found: per job, per change, in sum; and the files that others read."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

from eflib.files import writing
from eflib.simulator.policies import ClusterShape, GpuIds
from eflib.simulator.trace import Trace, TraceJob

MET_TOLERANCE = 1e-6
"""Share of the deadline by which rounding may miss it."""


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """What became of one job.

    Attributes:
        request: Its row of the trace.
        admitted: False if the policy refused it.
        finished_at: Seconds of trace time; None if it never finished.
    """

    request: TraceJob
    admitted: bool
    finished_at: float | None

    @property
    def met(self) -> bool:
        """True if it finished by its deadline; a best-effort job meets if it finishes."""
        if self.finished_at is None:
            return False
        deadline = self.request.deadline
        return deadline is None or self.finished_at <= deadline * (1 + MET_TOLERANCE)


@dataclass(frozen=True, slots=True)
class Change:
    """A job holds these GPUs from this time on."""

    time: float
    job_id: str
    gpus: GpuIds


@dataclass(frozen=True, slots=True)
class Summary:
    """A simulation in sum.

    Attributes:
        policy: Its name.
        trace: Its name.
        profiles: Name or folder of the scaling curves; empty if not said.
        nodes: Of the cluster.
        gpus_per_node: Of the cluster.
        rescale_cost: Seconds charged per change.
        jobs: In the trace.
        deadline_jobs: Of them with a deadline that counts.
        admitted: Deadline jobs let in.
        refused: Deadline jobs not let in.
        met: Deadline jobs done in time.
        late: Deadline jobs let in and not done in time.
        best_effort_finished: Best-effort jobs done.
        best_effort_completion_s: Mean seconds from their submission to their end; None if none.
        gpu_hours: Held in all, pauses included.
        rescales: Changes of a running job's GPU count.
        migrations: Changes of a running job's GPUs at the same count.
        seconds: Time the simulation took; 0 if not measured.
    """

    policy: str
    trace: str
    profiles: str
    nodes: int
    gpus_per_node: int
    rescale_cost: float
    jobs: int
    deadline_jobs: int
    admitted: int
    refused: int
    met: int
    late: int
    best_effort_finished: int
    best_effort_completion_s: float | None
    gpu_hours: float
    rescales: int
    migrations: int
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """All that a simulation found.

    Attributes:
        outcomes: Per job, in the order of the trace.
        changes: In order of time.
        summary: In sum.
    """

    outcomes: tuple[JobOutcome, ...]
    changes: tuple[Change, ...]
    summary: Summary

    @classmethod
    def of(
        cls,
        trace: Trace,
        cluster: ClusterShape,
        policy: str,
        rescale_cost: float,
        outcomes: tuple[JobOutcome, ...],
        changes: Iterable[Change],
    ) -> Result:
        """Sum up a run.

        Args:
            trace: What was replayed.
            cluster: On what.
            policy: By which policy.
            rescale_cost: Seconds without progress after each change of a job's GPUs.
            outcomes: What became of each job.
            changes: Who held which GPUs from when on, in any order.
        """
        ordered = tuple(sorted(changes, key=lambda change: change.time))
        hard = [o for o in outcomes if o.request.deadline is not None]
        effort = [
            o.finished_at - o.request.submitted_at
            for o in outcomes
            if o.request.deadline is None and o.finished_at is not None
        ]
        admitted = sum(o.admitted for o in hard)
        met = sum(o.met for o in hard)
        gpu_seconds, rescales, migrations = _moves(ordered)
        summary = Summary(
            policy=policy,
            trace=trace.name,
            profiles="",
            nodes=cluster.nodes,
            gpus_per_node=cluster.gpus_per_node,
            rescale_cost=rescale_cost,
            jobs=len(outcomes),
            deadline_jobs=len(hard),
            admitted=admitted,
            refused=len(hard) - admitted,
            met=met,
            late=admitted - met,
            best_effort_finished=len(effort),
            best_effort_completion_s=sum(effort) / len(effort) if effort else None,
            gpu_hours=gpu_seconds / 3600,
            rescales=rescales,
            migrations=migrations,
        )
        return cls(outcomes, ordered, summary)

    def timed(self, seconds: float, profiles: str) -> Result:
        """Return the same with the time it took and the curves it was made with."""
        return replace(self, summary=replace(self.summary, seconds=seconds, profiles=profiles))

    def write(self, folder: Path) -> None:
        """Write ``jobs.csv``, ``schedule.csv`` and ``summary.json``.

        Args:
            folder: Made if it is not there.

        Raises:
            UsageError: It cannot be written.
        """
        with writing(folder, "the simulated run"):
            self._write(folder)

    def _write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "jobs.csv").open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(_JOB_COLUMNS)
            writer.writerows(_job_row(outcome) for outcome in self.outcomes)
        with (folder / "schedule.csv").open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(("time", "job_id", "gpus"))
            for change in self.changes:
                writer.writerow((repr(change.time), change.job_id, spell_gpus(change.gpus)))
        text = json.dumps(asdict(self.summary), indent=2) + "\n"
        (folder / "summary.json").write_text(text, encoding="utf-8")


_JOB_COLUMNS = (
    "job_id",
    "admitted",
    "finish_time",
    "met",
    "submission_time",
    "deadline",
    "best_effort",
    "model_name",
    "batch_size",
)


def _job_row(outcome: JobOutcome) -> tuple[object, ...]:
    request = outcome.request
    return (
        request.job_id,
        int(outcome.admitted),
        "" if outcome.finished_at is None else repr(outcome.finished_at),
        int(outcome.met),
        repr(request.submitted_at),
        "" if request.deadline is None else repr(request.deadline),
        int(request.deadline is None),
        request.model,
        request.global_batch_size,
    )


def spell_gpus(gpus: GpuIds) -> str:
    """Return ids as ranges.

    Examples:
        >>> spell_gpus((0, 1, 2, 3, 8))
        '0-3;8'
    """
    if not gpus:
        return ""
    parts: list[list[int]] = [[gpus[0], gpus[0]]]
    for before, gpu in pairwise(gpus):
        if gpu == before + 1:
            parts[-1][1] = gpu
        else:
            parts.append([gpu, gpu])
    return ";".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def _moves(changes: Iterable[Change]) -> tuple[float, int, int]:
    """Return GPU-seconds held, rescales and migrations."""
    held: dict[str, tuple[float, GpuIds]] = {}
    gpu_seconds, rescales, migrations = 0.0, 0, 0
    for change in changes:
        since, before = held.get(change.job_id, (change.time, ()))
        gpu_seconds += len(before) * (change.time - since)
        if before and change.gpus:
            rescales += len(before) != len(change.gpus)
            migrations += len(before) == len(change.gpus)
        held[change.job_id] = (change.time, change.gpus)
    return gpu_seconds, rescales, migrations
