"""What must hold of a scheduler after every event, for tests and debugging."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from eflib.scheduling.book import Book
from eflib.scheduling.buddy import is_block
from eflib.scheduling.jobs import Job
from eflib.scheduling.plan import DEADLINE_TOLERANCE
from eflib.scheduling.scheduler import Scheduler

_JUST_AFTER = 1e-6


def check(scheduler: Scheduler) -> list[str]:
    """Return a line for each invariant that does not hold; empty if all do.

    Args:
        scheduler: As it is between two events.
    """
    book = scheduler.book
    wrong = [*_holdings(book), *_plan(book)]
    for job in book.jobs.values():
        wrong.extend(_job(book, job))
    return wrong


def _holdings(book: Book) -> Iterator[str]:
    """No GPU is held or lent twice, and none that is not there."""
    taken = 0
    held = [(f"GPUs lent to {name}", loan.mask) for name, loan in book.loans.items()]
    held += [(f"GPUs of {job.job_id}", job.mask) for job in book.jobs.values()]
    for name, mask in held:
        if mask & taken:
            yield f"{name} are held twice"
        taken |= mask
    if taken & ~book.cluster.available:
        yield "a GPU is held that is not there"


def _job(book: Book, job: Job) -> Iterator[str]:
    """Blocks are aligned, bounds kept, promises within reach, rows in order."""
    name, free = job.job_id, job.pinned is None
    most = job.request.max_gpus
    if free and job.mask and not is_block(job.mask):
        yield f"{name} holds no aligned block: {job.mask:b}"
    if free and most and job.mask.bit_count() > most:
        yield f"{name} holds more than {most} GPUs"
    if free and job.promise < math.inf:
        finish = book.outlook(job)
        if finish > job.promise + DEADLINE_TOLERANCE:
            yield f"{name} is promised {job.promise} and would end at {finish}"
    for before, after in pairwise(job.row):
        if before.end > after.start + _JUST_AFTER:
            yield f"the row of {name} overlaps itself"


def _plan(book: Book) -> Iterator[str]:
    """The rows of the standing plan are disjoint, and on GPUs that are there."""
    rows = [job.row for job in book.jobs.values() if job.pinned is None]
    segments = [segment for row in rows for segment in row]
    for start, available in book.periods():
        times = {start, *(s.start for s in segments if s.start > start)}
        for time in sorted(times):
            held = 0
            for segment in segments:
                if segment.start <= time + _JUST_AFTER < segment.end - _JUST_AFTER:
                    if held & segment.mask:
                        yield f"two rows hold one GPU at {time}"
                    held |= segment.mask
            if time <= start and held & ~available:
                yield f"a row holds a GPU that is not available at {time}"
