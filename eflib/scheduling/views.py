"""What a person may know: a job's state, why it holds what it holds, why one was refused."""

from __future__ import annotations

import math

from eflib.scheduling import promises
from eflib.scheduling.book import Book
from eflib.scheduling.jobs import Job, JobState, JobView, Tier


def view(book: Book, job: Job, now: float) -> JobView:
    """Return what a person may know about a live job at a time.

    Args:
        book: The state.
        job: A live job.
        now: Scheduler time in seconds; steps between the last event and it are extrapolated.
    """
    running = max(now - max(job.synced_at, job.ready_at), 0.0) if job.mask else 0.0
    left = max(job.left - job.rate(job.mask.bit_count()) * running, 0.0)
    deadline = job.request.deadline
    finish = promises.projected_finish(book, job)
    return JobView(
        job_id=job.job_id,
        state=JobState.RUNNING if job.mask else JobState.WAITING,
        gpus=book.cluster.gpus(job.mask),
        steps_done=job.request.total_steps - left,
        total_steps=job.request.total_steps,
        deadline=deadline,
        projected_finish=finish,
        slack=None if deadline is None else deadline - finish,
        minimum_share=promises.minimum_share(book, job),
        pinned=job.pinned,
        promised=job.promise < math.inf,
        reason=_reason(book, job),
    )


def _reason(book: Book, job: Job) -> str:
    """Return why the job holds what it holds."""
    if job.pinned is not None:
        return f"held at {job.pinned} GPUs by an operator"
    count = job.mask.bit_count()
    if job.promise < math.inf:
        if not count:
            ahead = max(0.0, job.row[0].start - book.now)
            return f"waiting: its deadline can be met with a start in {ahead:.0f} s"
        return f"holds {count} GPUs, ends {job.promise - job.finish:.0f} s before its deadline"
    what = "soft deadline" if job.tier(book.now) is Tier.SOFT else "best effort"
    return f"{what}: {'holds ' + str(count) + ' spare GPUs' if count else 'waiting for a GPU'}"


def why_refused(book: Book, job: Job, earliest: float | None) -> str:
    """Return why a deadline cannot be promised.

    Args:
        book: The state.
        job: The newcomer.
        earliest: Deadline in seconds that would be accepted; None if unknown or if none would.
    """
    if earliest is None and book.settings.quotes:
        return f"no GPU of the {book.cluster.num_gpus} in the cluster can be foreseen for it"
    if job.deadline <= book.now:
        return f"its deadline is {book.now - job.deadline:.0f} s in the past"
    alone = book.now + book.seconds_alone(job)
    if alone > job.deadline:
        return (
            f"even alone it would take {alone - book.now:.0f} s at its fastest, "
            f"and the deadline is in {job.deadline - book.now:.0f} s"
        )
    if earliest is None:
        return "the other promised jobs leave too few GPUs free before its deadline"
    return (
        f"the GPUs left by {len(book.promised())} promised jobs would finish it in "
        f"{earliest - book.now:.0f} s, and the deadline is in {job.deadline - book.now:.0f} s"
    )
