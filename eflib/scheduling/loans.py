"""GPUs lent for a profiling run: as many as the promises can do without, for a bounded time."""

from __future__ import annotations

from eflib.scheduling import promises
from eflib.scheduling.blocks import best_fit
from eflib.scheduling.book import Book, Loan
from eflib.scheduling.commands import Command, ProfilingDenied, ProfilingGranted


def lend(book: Book, job_id: str, max_gpus: int, seconds: float, commands: list[Command]) -> None:
    """Lend the largest power of two of at most ``max_gpus`` GPUs that breaks no promise."""
    if job_id in book.loans:
        commands.append(ProfilingDenied(job_id, "it is being profiled already"))
        return
    if max_gpus < 1 or seconds <= 0:
        commands.append(ProfilingDenied(job_id, f"{max_gpus} GPUs for {seconds:g} s are none"))
        return
    exponent = min(max_gpus, _sparable(book)).bit_length() - 1
    while exponent >= 0:
        for mask in _choices(book, exponent, seconds):
            book.loans[job_id] = Loan(mask, book.now + seconds)
            plan = promises.refit(book, book.periods())
            if plan is not None:
                promises.adopt(book, plan)
                commands.append(ProfilingGranted(job_id, book.cluster.gpus(mask)))
                return
            del book.loans[job_id]
        exponent -= 1
    commands.append(
        ProfilingDenied(job_id, "every GPU is needed to keep a promise, lent or pinned")
    )


def _sparable(book: Book) -> int:
    """Return how many GPUs leave one to each job that runs: measuring shall pause nobody."""
    lent = sum(loan.mask.bit_count() for loan in book.loans.values())
    running = sum(1 for job in book.jobs.values() if job.mask)
    return max(book.cluster.num_gpus - lent - running, 1)


def _choices(book: Book, exponent: int, seconds: float) -> list[int]:
    """Return blocks to try: idle now and spare for the time, spare for the time, spare now, any."""
    occupancy = book.occupancy(book.promised())
    now = book.now
    spare = occupancy.free_over(now, now + seconds)
    everything = book.periods()[0][1]
    idle = everything
    for job in book.jobs.values():
        idle &= ~job.mask
    found: list[int] = []
    for free in (spare & idle, spare, occupancy.free[0], everything):
        mask = best_fit(free, exponent, low=False)
        if mask and mask not in found:
            found.append(mask)
    return found
