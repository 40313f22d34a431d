"""Facts that the scheduler is told, written into the book; what follows from them comes after."""

from __future__ import annotations

import math

from eflib.scheduling.book import Book
from eflib.scheduling.jobs import Job
from eflib.scheduling.plan import DEADLINE_TOLERANCE
from eflib.scheduling.scaling import ScalingCurve

ON_PLAN_DRIFT = 1.0
ON_PLAN_SHARE = 0.01
"""How far a report may move a job's finish, in seconds or as a share of the time until then, before
the cluster is planned anew. A thousand jobs that report every 5 s would otherwise plan 200 times a
second, for deviations that no decision depends on: the plan itself keeps a margin of 10 %."""


def progressed(book: Book, job_id: str, steps_done: float) -> bool:
    """Set the steps that a job has left to what was reported; False if that is as planned.

    A report that says done before ``JobEnded`` came leaves ``overdue_grace`` seconds of work: a job
    with none left would lose its GPUs while its last step is still being written down.

    Args:
        book: The state.
        job_id: The job; one that is not live is ignored.
        steps_done: Steps committed since its start.
    """
    job = book.jobs.get(job_id)
    if job is None:
        return False
    job.left = max(job.request.total_steps - steps_done, 0.0)
    grace = job.rate(job.mask.bit_count()) * book.settings.overdue_grace
    if job.left <= 0.0 < grace:
        job.left = min(grace, job.request.total_steps)
        return True
    return not _is_on_plan(book, job)


def _is_on_plan(book: Book, job: Job) -> bool:
    """True if the standing row still does the work, in time, and ends about when it was said to."""
    if job.pinned is not None:
        return False
    finish = book.outlook(job)
    # A row that no longer reaches the end has to be made longer, however small the lag: at its
    # border the job would lose its GPUs.
    if finish == math.inf or finish > job.promise + DEADLINE_TOLERANCE:
        return finish == job.finish and job.promise == math.inf
    # Held against the finish of the last planning, so that small lags cannot add up unseen.
    tolerance = max(ON_PLAN_DRIFT, ON_PLAN_SHARE * (job.finish - book.now))
    return abs(finish - job.finish) <= tolerance


def measured(book: Book, job_id: str, curve: ScalingCurve) -> None:
    """Replace a job's curve.

    Args:
        book: The state.
        job_id: The job; one that is not live is ignored.
        curve: The new one.
    """
    job = book.jobs.get(job_id)
    if job is not None and curve != job.curve:
        job.set_curve(curve)


def node_joined(book: Book, node: str, num_gpus: int) -> None:
    """Add a node.

    Args:
        book: The state.
        node: Its name.
        num_gpus: Its size. One that is there already with this size is not touched: an agent that
            registers twice must not cost its jobs their GPUs.
    """
    if book.cluster.nodes.get(node) == num_gpus:
        return
    node_lost(book, node)
    book.cluster.join(node, num_gpus)


def node_lost(book: Book, node: str) -> None:
    """Remove a node; its jobs keep what other nodes give them until they are planned anew.

    Args:
        book: The state.
        node: Its name; one that is not there is ignored.
    """
    gone = book.cluster.lose(node)
    for loan in book.loans.values():
        loan.mask &= ~gone
    for job in book.jobs.values():
        if job.mask & gone:
            job.mask &= ~gone
            # The survivors form a new generation, which takes as long as any rescale.
            job.ready_at = max(job.ready_at, book.now + book.settings.rescale_cost)
