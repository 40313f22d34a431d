"""GPUs lent for a profiling run: as many as the promises can do without, for a bounded time."""

from __future__ import annotations

from eflib.scheduling import promises
from eflib.scheduling.book import Book, Loan
from eflib.scheduling.buddy import best_fit, positions
from eflib.scheduling.commands import Command, ProfilingDenied, ProfilingGranted
from eflib.scheduling.disruption import disruption, least_to_keep
from eflib.scheduling.plan import Plan


def lend(book: Book, job_id: str, max_gpus: int, seconds: float, commands: list[Command]) -> None:
    """Lend a power of two of at most ``max_gpus`` GPUs, so that no promise breaks.

    The largest for which every running job keeps some of its GPUs; if there is none, the largest.

    Args:
        book: The state.
        job_id: Name of the run.
        max_gpus: At most so many.
        seconds: For so long.
        commands: Gets ``ProfilingGranted`` or ``ProfilingDenied``.
    """
    if job_id in book.loans:
        commands.append(ProfilingDenied(job_id, "it is being profiled already"))
        return
    if max_gpus < 1 or seconds <= 0:
        commands.append(ProfilingDenied(job_id, f"{max_gpus} GPUs for {seconds:g} s are none"))
        return
    largest = min(max_gpus, _sparable(book)).bit_length() - 1
    fallback: tuple[int, Plan] | None = None
    # Large first: a curve measured at 1, 2, 4, ... GPUs ends where the loan does, and what lies
    # beyond is a guess that promises count on less.
    for exponent in range(largest, -1, -1):
        for mask in _choices(book, exponent, seconds):
            book.loans[job_id] = Loan(mask, book.now + seconds)
            plan = promises.refit(book, book.periods())
            if plan is not None:
                if not any(disruption(book, plan)):
                    _grant(book, job_id, plan, commands)
                    return
                fallback = fallback or (mask, plan)
            del book.loans[job_id]
    if fallback is not None:
        mask, plan = fallback
        book.loans[job_id] = Loan(mask, book.now + seconds)
        _grant(book, job_id, plan, commands)
        return
    commands.append(
        ProfilingDenied(job_id, "every GPU is needed to keep a promise, lent or pinned")
    )


def _grant(book: Book, job_id: str, plan: Plan, commands: list[Command]) -> None:
    """Adopt the plan around a loan that is in the book already."""
    promises.adopt(book, plan)
    commands.append(ProfilingGranted(job_id, book.cluster.gpus(book.loans[job_id].mask)))


def _sparable(book: Book) -> int:
    """Return how many GPUs leave one to each job that runs: measuring shall pause nobody."""
    lent = sum(loan.mask.bit_count() for loan in book.loans.values())
    running = sum(1 for job in book.jobs.values() if job.mask)
    # At least one is tried even on a full cluster: without a curve the job cannot be admitted at
    # all.
    return max(book.cluster.num_gpus - lent - running, 1)


def _choices(book: Book, exponent: int, seconds: float) -> list[int]:
    """Return sets to try, best first.

    Blocks that are idle now and spare for the time; then what those that run can give up and still
    keep some, as a block or anyhow on one node; then what is spare for the time, spare now, any.
    """
    occupancy = book.occupancy(book.promised())
    now = book.now
    spare = occupancy.free_over(now, now + seconds)
    everything = book.periods()[0][1]
    idle = everything & ~book.held()
    given = everything & ~least_to_keep(book)
    found: list[int] = []
    # Idle GPUs first, as nobody notices; high positions, as jobs that end late gather at the low
    # end.
    for free in (spare & idle, spare & given, occupancy.free[0] & given, given):
        mask = best_fit(free, exponent, low=False)
        if mask and mask not in found:
            found.append(mask)
    # Measuring needs no aligned block, but one node: between nodes it would measure the network.
    for node in book.cluster.node_masks():
        some = positions(given & node)[-(1 << exponent) :]
        if len(some) == 1 << exponent:
            found.append(sum(1 << position for position in some))
            break
    for free in (spare, occupancy.free[0], everything):
        mask = best_fit(free, exponent, low=False)
        if mask and mask not in found:
            found.append(mask)
    return found
