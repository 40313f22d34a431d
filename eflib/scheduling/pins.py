"""An operator's override: a job holds exactly so many GPUs, in any shape."""

from __future__ import annotations

import math

from eflib.scheduling import promises
from eflib.scheduling.book import Book
from eflib.scheduling.buddy import positions
from eflib.scheduling.commands import Command, PinRefused
from eflib.scheduling.jobs import Job
from eflib.scheduling.plan import work_to_plan


def pin(book: Book, job_id: str, num_gpus: int | None, commands: list[Command]) -> None:
    """Begin, change or end an override; what cannot be had is refused and nothing changes.

    Args:
        book: The state.
        job_id: The job.
        num_gpus: The size to hold; None ends the override.
        commands: Gets ``PinRefused`` if it cannot be had.
    """
    job = book.jobs.get(job_id)
    if job is None:
        commands.append(PinRefused(job_id, "there is no such job"))
        return
    if num_gpus is None:
        _unpin(book, job)
        return
    if num_gpus < 0 or num_gpus > book.cluster.num_gpus:
        reason = f"the cluster has {book.cluster.num_gpus} GPUs, not {num_gpus}"
        commands.append(PinRefused(job_id, reason))
        return
    if not _take(book, job, num_gpus):
        reason = f"{num_gpus} GPUs would break the promise to another job, or another fixed size"
        commands.append(PinRefused(job_id, reason))


def hold(book: Book, job: Job) -> None:
    """Keep a pinned job at its size after a node was lost, if there is room; write its row."""
    if job.pinned is not None and job.mask.bit_count() != job.pinned:
        wanted = min(job.pinned, book.cluster.num_gpus)
        pinned = job.pinned
        # After a loss an operator's size may not be there any more; as much of it as there is, and
        # the whole again when a node comes.
        if _take(book, job, wanted):
            job.pinned = pinned
    book.refresh_pinned(job)


def _unpin(book: Book, job: Job) -> None:
    """Give the job back to the plan: its promise, if any, holds from where it is now."""
    if job.pinned is None:
        return
    job.pinned = None
    job.row, job.base, job.finish = [], [], math.inf
    # Its row was what it held; whether a plan keeps its promise from here has to be looked at.
    book.surprised = True


def _take(book: Book, job: Job, count: int) -> bool:
    """Give the job exactly ``count`` GPUs if every other promise can be kept."""
    before = (job.pinned, job.mask, job.ready_at, job.row, job.finish)
    for mask in _choices(book, job, count):
        job.pinned = count
        job.hold(mask, now=book.now, settings=book.settings)
        book.refresh_pinned(job)
        # Tried on the book itself and put back if it fails: an operator may move jobs, but not
        # break a promise made to somebody else.
        plan = promises.refit(book, book.periods())
        if plan is not None:
            promises.adopt(book, plan)
            return True
        job.pinned, job.mask, job.ready_at, job.row, job.finish = before
    return False


def _choices(book: Book, job: Job, count: int) -> list[int]:
    """Return sets to try: its own first, then what is spare for long, then near its own."""
    fixed = 0
    for other in book.jobs.values():
        if other is not job and other.pinned is not None:
            fixed |= other.mask
    for loan in book.loans.values():
        fixed |= loan.mask
    usable = book.cluster.available & ~fixed
    if usable.bit_count() < count:
        return []
    others = [j for j in book.promised() if j is not job]
    rate = job.rate(count)
    finish = book.now + work_to_plan(job, book.settings) / rate if rate else math.inf
    occupancy = book.occupancy(others)
    spare_long = occupancy.free_over(book.now, finish)
    spare_now = occupancy.free[0]
    idle = usable
    for other in book.jobs.values():
        idle &= ~other.mask
    found: list[int] = []
    # What no promise needs for as long as the job will run needs no new plan; the empty preference
    # then takes the nearest, whoever has to move.
    for preference in ((spare_long & idle, spare_long, spare_now & idle, spare_now), ()):
        mask = _pick(job.mask & usable, usable, preference, count)
        if mask not in found:
            found.append(mask)
    return found


def _pick(own: int, usable: int, preference: tuple[int, ...], count: int) -> int:
    """Return ``count`` positions: own ones first, then by preference, then nearest to the own."""
    chosen = 0
    for group in (own, *preference, usable):
        room = count - chosen.bit_count()
        candidates = positions(group & usable & ~chosen)
        anchor = ((own or chosen) & -(own or chosen)).bit_length() - 1 if own or chosen else 0
        # The distance in the tree of blocks (highest differing bit), not on the line: what shares a
        # block with its own GPUs is most likely on the same node.
        candidates.sort(key=lambda p: ((p ^ anchor).bit_length(), p))
        for position in candidates[:room]:
            chosen |= 1 << position
    return chosen
