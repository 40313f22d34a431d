"""What must hold of a scheduler after every event; a list of what does not, for tests and debugging."""

from __future__ import annotations

import math

from eflib.scheduling.blocks import is_block
from eflib.scheduling.plan import DEADLINE_TOLERANCE
from eflib.scheduling.scheduler import Scheduler


def check(scheduler: Scheduler) -> list[str]:
    """Return a line for each invariant that does not hold; empty if all do.

    Args:
        scheduler: As it is between two events.
    """
    book = scheduler._book
    wrong: list[str] = []
    taken = 0
    for name, loan in book.loans.items():
        if loan.mask & taken:
            wrong.append(f"GPUs lent to {name} are lent twice")
        taken |= loan.mask
    for job in book.jobs.values():
        name = job.job_id
        if job.mask & taken:
            wrong.append(f"GPUs of {name} are held twice")
        taken |= job.mask
        if job.mask and job.pinned is None and not is_block(job.mask):
            wrong.append(f"{name} holds no aligned block: {job.mask:b}")
        if (
            job.request.max_gpus
            and job.pinned is None
            and job.mask.bit_count() > job.request.max_gpus
        ):
            wrong.append(f"{name} holds more than {job.request.max_gpus} GPUs")
        if job.promise < math.inf and job.pinned is None:
            finish = book.outlook(job)
            if finish > job.promise + DEADLINE_TOLERANCE:
                wrong.append(f"{name} is promised {job.promise} and would end at {finish}")
        for before, after in zip(job.row, job.row[1:], strict=False):
            if before.end > after.start + 1e-6:
                wrong.append(f"the row of {name} overlaps itself")
    if taken & ~book.cluster.available:
        wrong.append("a GPU is held that is not there")
    occupancy = book.occupancy(j for j in book.jobs.values() if j.pinned is None)
    flat = [s for j in book.jobs.values() if j.pinned is None for s in j.row]
    for start, free in zip(occupancy.times, occupancy.free, strict=True):
        at = start + 1e-6
        held = 0
        for segment in flat:
            if segment.start <= at < segment.end - 1e-6:
                if held & segment.mask:
                    wrong.append(f"two rows hold one GPU at {start}")
                held |= segment.mask
        if held & ~book.cluster.available:
            wrong.append(f"a row holds a GPU that is not there at {start}")
        if held & free:
            wrong.append(f"rows and what is free disagree at {start}")
    return wrong
