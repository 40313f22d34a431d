"""From plan to GPUs held: leftovers are given away, then the present is carried out."""

from __future__ import annotations

import math

from eflib.scheduling.backfill import backfill
from eflib.scheduling.book import Book
from eflib.scheduling.commands import Assigned, Command
from eflib.scheduling.jobs import Tier
from eflib.scheduling.plan import head_of
from eflib.scheduling.spare import SpareGpus


def allocate(book: Book) -> None:
    """Fit what yields into what the promises leave, then give away the rest.

    Args:
        book: The state; the rows of its jobs change, what they hold does not yet.
    """
    promised = book.promised()
    # With a margin each decision is held against the finish that counts it in; a decision that
    # would use up the margin is then not taken for the sake of spare GPUs.
    if book.surprised or book.settings.safety_margin:
        for job in promised:
            job.finish = book.outlook_with_margin(job)
    book.surprised = False
    occupancy = book.occupancy(promised)
    yielding = book.yielding()
    # Rows of yielding jobs are made anew each time: they hold no promise, so nothing is lost, and
    # what an arrival took from them shows at once.
    for job in yielding:
        job.row, job.base, job.finish = [], [], math.inf
        if job.tier(book.now) is Tier.SOFT:
            found = backfill(
                job, occupancy, deadline=job.deadline, now=book.now, settings=book.settings
            )
            if found is not None:
                job.row, job.finish = found
                occupancy.flip(job.row)
    if occupancy.free[0]:
        SpareGpus(occupancy, book.now, book.settings).spread(promised, yielding)
    # A person is told the finish that is expected, not the cautious one.
    if book.settings.safety_margin:
        for job in (*promised, *yielding):
            job.finish = book.outlook(job)


def carry_out(book: Book, commands: list[Command]) -> None:
    """Hold what the plan says for now, and say what changed.

    Args:
        book: The state.
        commands: Gets an ``Assigned`` for each job whose GPUs are others than last said.
    """
    for job in book.jobs.values():
        if job.pinned is None:
            job.hold(head_of(job.row, book.now), now=book.now, settings=book.settings)
        if job.mask != job.told:
            job.told = job.mask
            commands.append(Assigned(job.job_id, book.cluster.gpus(job.mask)))
