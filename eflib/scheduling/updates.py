"""Facts that the scheduler is told, written into the book; what follows from them comes after."""

from __future__ import annotations

from eflib.scheduling.book import Book
from eflib.scheduling.scaling import ScalingCurve


def progressed(book: Book, job_id: str, steps_done: float) -> None:
    """Set the steps that a job has left to what was reported.

    A report that says done before ``JobEnded`` came leaves ``overdue_grace`` seconds of work: a job
    with none left would lose its GPUs while its last step is still being written down.

    Args:
        book: The state.
        job_id: The job; one that is not live is ignored.
        steps_done: Steps committed since its start.
    """
    job = book.jobs.get(job_id)
    if job is None:
        return
    job.left = max(job.request.total_steps - steps_done, 0.0)
    grace = job.rate(job.mask.bit_count()) * book.settings.overdue_grace
    if job.left <= 0.0 < grace:
        job.left = min(grace, job.request.total_steps)


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
