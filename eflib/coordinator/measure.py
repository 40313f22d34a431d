"""From a submitted script to a scaling curve: look at the script, measure what is not known.

One worker is started on a lent slot. When it says what it will train, the curve is looked up; if it
is not known, the job grows over 1, 2, 4, ... lent slots by the same generations that rescale it
later, and the speed of each size is measured. Steps of such a run are thrown away.

Sizes that were not measured, for lack of slots or because it would cost too much of a short job's
time, are guessed from those that were; a promise counts on less where the curve is a guess.

All functions here concern one job: they change its ``speed`` and ``members``, and return what the
plane should do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eflib import scheduling as core
from eflib.coordinator import timeouts
from eflib.coordinator.effects import (
    AskAdmission,
    BorrowSlots,
    Decisions,
    EndJob,
    KeepCurve,
    ReturnSlots,
    TellCurve,
)
from eflib.coordinator.job import Job, State
from eflib.coordinator.membership import Stage
from eflib.coordinator.records import Profiling
from eflib.messages.fields import MAX_RATE, MIN_RATE
from eflib.messages.generations import PROFILE, TRAIN
from eflib.profiler import refine
from eflib.profiler.fit import Host, Observation, guesses

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eflib.messages.inbox import Measured
    from eflib.messages.journal import SpeedRecord, TakenWorkerReady
    from eflib.messages.records import NodeRecord

MEASURED_SHARE = 0.1
"""Of a job's expected time: measuring a further size must not take more, all sizes together."""
ALWAYS_MEASURED = 2
"""So many sizes are measured whatever they cost: one alone says nothing of how a job scales."""


@dataclass(frozen=True)
class Room:
    """How many slots there are.

    Attributes:
        total: On all nodes.
        largest: On the largest node; 0 without nodes.
    """

    total: int
    largest: int

    @staticmethod
    def of(nodes: Mapping[str, NodeRecord]) -> Room:
        """Return the room on nodes."""
        slots = [record.slots for record in nodes.values()]
        return Room(sum(slots), max(slots, default=0))


# What comes due -----------------------------------------------------------------------------------


def pass_time(job: Job, room: Room, now: float) -> Decisions | None:
    """Begin a run when slots may be lent, and end one that takes too long.

    Returns:
        What to do; None when nothing has come due.
    """
    run = job.speed.profiling
    if run is None:
        is_due = job.state is State.SUBMITTED and room.largest > 0 and now >= job.speed.ask_at
        return _ask_for_slots(job, room, now) if is_due else None
    if run.sizes and run.size == 0 and _all_ready(job, run, now):
        _next_size(job, run, now)
        return ()
    if run.observed and run.since_aimed(now) > timeouts.MEASURING:
        return _conclude(job, run, room, now)  # the size does not come: what there is has to do
    if now > run.until:
        return expired(job, room, now)
    return None


def expired(job: Job, room: Room, now: float) -> Decisions:
    """The lent slots are due back: decide by what there is."""
    run = job.speed.profiling
    if run is None:
        return ()
    if run.observed:
        return _conclude(job, run, room, now)
    if run.is_short:
        job.speed.needs_long_loan = True
        return begin_again(job, "the slots were lent for too short a time to measure", now)
    what = "take two steps" if job.speed.announce else "begin to train"
    reason = f"the script did not {what} within {timeouts.PROFILING:g} s"
    return (EndJob(job, State.FAILED, reason),)


def _all_ready(job: Job, run: Profiling, now: float) -> bool:
    """Tell whether no worker starts any more: a start takes cores from what is measured."""
    ready = {seat.gpu for seat in job.members.wanted() if seat.stage is Stage.READY}
    loan = timeouts.PROFILING_SHORT if run.is_short else timeouts.PROFILING
    # Some of the loan must be left: a speed that is too low is better than none.
    return ready >= set(run.gpus) or now > run.until - loan / 2


def _ask_for_slots(job: Job, room: Room, now: float) -> Decisions:
    job.speed.ask_at = now + timeouts.ASK_AGAIN
    wanted = 1 if job.speed.expects_curve else most_slots(job, room)
    # Promises that cannot spare slots for long may be able to for as long as a run usually is.
    terms = (timeouts.PROFILING, timeouts.PROFILING_SHORT)
    return (BorrowSlots(job, wanted, terms[:1] if job.speed.needs_long_loan else terms),)


# What happened ------------------------------------------------------------------------------------


def granted(job: Job, gpus: tuple[core.Gpu, ...], seconds: float, now: float) -> None:
    """Slots were lent: start a worker that looks at the script."""
    job.speed.profiling = Profiling(
        gpus, until=now + seconds, is_short=seconds < timeouts.PROFILING
    )
    job.members.mode = TRAIN if job.speed.expects_curve else PROFILE
    job.members.standby = gpus[:1]
    job.move(State.PROFILING, "starting the script to see what it trains", now)


def denied(job: Job, reason: str) -> None:
    """No slots can be lent just now."""
    job.reason = f"waiting for a free slot to start the script: {reason}"


def on_ready(job: Job, message: TakenWorkerReady, room: Room, now: float) -> Decisions:
    """The script has reached ``fit()``: decide, or measure first."""
    speed, run = job.speed, job.speed.profiling
    if run is None or speed.announce is not None:
        return ()
    speed.announce = message.announce
    if message.known_curve and not speed.observed and not job.only_profile:
        speed.observed = {size: _observation(one) for size, one in message.known_curve.items()}
    if speed.observed:
        return _decide(job, room)
    if job.members.mode != PROFILE:  # a curve was expected, and is of another model
        speed.expects_curve = False
        return begin_again(job, "no curve is known for this model and batch size", now)
    powers = (1 << power for power in range(len(run.gpus).bit_length()))
    run.sizes = [size for size in powers if size <= len(run.gpus)]
    job.members.standby = run.gpus
    job.move(State.PROFILING, f"starting {len(run.gpus)} workers to measure with", now)
    return ()


def node_gone(job: Job, node: str, now: float) -> Decisions:
    """A node on which a job may be looked at or measured is gone: it is not the job's fault."""
    run = job.speed.profiling
    if run is None or all(gpu.node != node for gpu in run.gpus):
        return ()
    return begin_again(job, f"node {node} was lost while the job was measured there", now)


def begin_again(job: Job, reason: str, now: float) -> Decisions:
    """Throw a run away and let the job ask for slots once more."""
    job.speed.drop_run()
    job.members.aim(())
    job.move(State.SUBMITTED, reason, now)
    return (ReturnSlots(job),)


def on_measured(job: Job, message: Measured, room: Room, now: float) -> Decisions:
    """Rank 0 has measured the speed of a size."""
    run = job.speed.profiling
    is_current = message.generation == job.members.settled.number
    if run is None or not run.size or message.world_size != run.size or not is_current:
        return ()
    run.observed[run.size] = _observation(message)
    job.tell(now, f"measured {message.steps_per_s:.3g} steps/s at {run.size}")
    if run.sizes and _is_dear(job, run, now):
        rest = ", ".join(map(str, run.sizes))
        job.tell(now, f"skipping {rest}: measuring would take too much of a short job's time")
        run.sizes.clear()
    if run.sizes:
        _next_size(job, run, now)
        return ()
    return _conclude(job, run, room, now)


def _next_size(job: Job, run: Profiling, now: float) -> None:
    size = run.next_size(now)
    job.members.aim(run.gpus[:size], f"measuring at {size}")
    job.members.standby = run.gpus[size:]
    measured = ", ".join(f"{n}: {one.steps_per_s:.3g}/s" for n, one in run.observed.items())
    text = f"measuring at {size} slot{'' if size == 1 else 's'}"
    job.move(State.PROFILING, text + (f" ({measured})" if measured else ""), now)


def _is_dear(job: Job, run: Profiling, now: float) -> bool:
    """Tell whether one more size, at the cost of the last, is over the bound of the share."""
    announce = job.speed.announce
    if announce is None or job.only_profile or len(run.observed) < ALWAYS_MEASURED:
        return False
    best = max(one.steps_per_s for one in run.observed.values())
    return run.since_began(now) + run.since_aimed(now) > MEASURED_SHARE * announce.max_steps / best


def _conclude(job: Job, run: Profiling, room: Room, now: float) -> Decisions:
    job.speed.conclude(run, now)
    job.tell(now, f"measuring took {job.speed.measuring_s:.1f} s")
    complete(job, room)
    keep = KeepCurve(job.job)
    if job.only_profile:
        return (keep, ReturnSlots(job), EndJob(job, State.SUCCEEDED, "measured"))
    return (keep, *_decide(job, room))


def _decide(job: Job, room: Room) -> Decisions:
    """Ask for admission; a worker that already waits trains on if its slot fits."""
    job.speed.profiling = None
    complete(job, room)
    job.members.mode = TRAIN  # members of a profiling run are stopped first
    job.members.aim(())
    return (AskAdmission(job),)


# The curve ----------------------------------------------------------------------------------------


def most_slots(job: Job, room: Room) -> int:
    """Return how many slots the job could ever have, as things are."""
    return min(room.total, job.request.max_gpus or room.total)


def complete(job: Job, room: Room) -> bool:
    """Guess the speed at sizes that were not measured; True if the guesses have changed.

    Nothing is added to a curve that a person gave.
    """
    speed = job.speed
    if not speed.observed or job.is_curve_given:
        return False
    powers = [1 << power for power in range(most_slots(job, room).bit_length())]
    before, speed.guessed = speed.guessed, guesses(speed.observed, powers, _host(job, room))
    return speed.guessed != before


def curve(job: Job) -> core.ScalingCurve:
    """Return what may be promised: measured speeds, and guesses less their margins."""
    cautious = {size: guess.cautious for size, guess in job.speed.guessed.items()}
    return core.ScalingCurve({**cautious, **job.speed.points})


def learn(job: Job, room: Room, size: int, rate: float, now: float) -> Decisions:
    """Take in the speed that live steps show at a size; the plan follows."""
    was_guessed = size in job.speed.guessed
    observed = refine.refined(job.speed.observed, size, rate)
    if not all(MIN_RATE <= one.steps_per_s <= MAX_RATE for one in observed.values()):
        return ()  # no machine is as fast or as slow: the report is wrong
    job.speed.observed = observed
    complete(job, room)
    what = "extrapolated point measured" if was_guessed else "curve corrected"
    job.tell(now, f"{what}: {rate:.3g} steps/s at {size}")
    return (TellCurve(job), KeepCurve(job.job))


def _observation(record: SpeedRecord | Measured) -> Observation:
    return Observation(record.steps_per_s, record.spread, record.cpu_s, record.memory_bytes)


def _host(job: Job, room: Room) -> Host | None:
    """Return what CPU slots of a node share; None where devices are not shared."""
    announce = job.speed.announce
    if announce is None or not announce.cores or not room.largest:
        return None
    return Host(announce.cores, room.largest, announce.threads or 1)
