"""From a submitted script to a scaling curve: look at the script, measure what is not known.

One worker is started on a lent slot. When it says what it will train, the curve is looked up; if it
is not known, the job grows over 1, 2, 4, ... lent slots by the same generations that rescale it
later, and the speed of each size is measured. Steps of such a run are thrown away.

Sizes that were not measured, for lack of slots or because it would cost too much of a short job's
time, are guessed from those that were; a promise counts on less where the curve is a guess.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eflib import scheduling as core
from eflib.coordinator import timeouts
from eflib.coordinator.job import Job, Measuring, State
from eflib.coordinator.membership import Stage
from eflib.messages.generations import PROFILE, TRAIN
from eflib.profiler import refine
from eflib.profiler.fit import Host, Observation, guesses

if TYPE_CHECKING:
    from eflib.coordinator.plane import ControlPlane

Message = dict[str, Any]

MEASURED_SHARE = 0.1
"""Of a job's expected time: measuring a further size must not take more, all sizes together."""
ALWAYS_MEASURED = 2
"""So many sizes are measured whatever they cost: one alone says nothing of how a job scales."""


class Measurer:
    """Takes jobs from SUBMITTED to the admission decision.

    Args:
        plane: The control plane it is a part of.
    """

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    def pass_time(self, job: Job, now: float) -> bool:
        """Begin a run when slots can be lent, and end one that takes too long."""
        run = job.measuring
        if run is None:
            due = job.state is State.SUBMITTED and bool(self._plane.nodes) and now >= job.ask_at
            return due and self._ask_for_slots(job, now)
        if run.sizes and run.size == 0 and self._all_ready(job, run, now):
            self._next_size(job, now)
            return True
        if run.observed and now - run.aimed > timeouts.MEASURING:
            self._conclude(job, now)  # this size does not come: what was measured has to do
            return True
        if now > run.until:
            self.expired(job, now)
            return True
        return False

    @staticmethod
    def _all_ready(job: Job, run: Measuring, now: float) -> bool:
        """Tell whether no worker starts any more: a start takes cores from what is measured."""
        ready = {seat.gpu for seat in job.members.wanted() if seat.stage is Stage.READY}
        loan = timeouts.PROFILING_SHORT if run.is_short else timeouts.PROFILING
        # Some of the loan must be left: a speed that is too low is better than none.
        return ready >= set(run.gpus) or now > run.until - loan / 2

    def _ask_for_slots(self, job: Job, now: float) -> bool:
        most = self._most(job)
        wanted = 1 if job.expects_curve else most
        job.ask_at = now + timeouts.ASK_AGAIN
        terms = (timeouts.PROFILING, timeouts.PROFILING_SHORT)
        # Promises that cannot spare slots for long may be able to for as long as a run usually is.
        for seconds in terms[:1] if job.needs_long_loan else terms:
            granted = self._borrow(job, wanted, seconds, now)
            if granted:
                job.measuring = Measuring(
                    granted, until=now + seconds, is_short=seconds < timeouts.PROFILING
                )
                job.members.mode = TRAIN if job.expects_curve else PROFILE
                job.members.standby = granted[:1]
                job.move(State.PROFILING, "looks at the script", now)
                break
        return True

    def _borrow(self, job: Job, wanted: int, seconds: float, now: float) -> tuple[core.Gpu, ...]:
        """Return the slots that are lent; none if promises need them all."""
        event = core.ProfilingRequested(job.job, wanted, seconds)
        for command in self._plane.schedule((event,), now):
            if isinstance(command, core.ProfilingGranted):
                return command.gpus
            if isinstance(command, core.ProfilingDenied):
                job.reason = f"waits for a free slot to look at the script: {command.reason}"
        return ()

    def _most(self, job: Job) -> int:
        """Return how many slots the job could ever have, as things are."""
        most = sum(int(record["slots"]) for record in self._plane.nodes.values())
        return min(most, int(job.request.get("max_gpus") or most))

    def on_ready(self, job: Job, message: Message, now: float) -> None:
        """The script has reached ``fit()``: decide, or measure first."""
        run = job.measuring
        if run is None or job.announce:
            return
        job.announce = dict(message["announce"])
        known = message.get("known_curve")
        if known and not job.observed and not job.only_profile:
            job.observed = {int(size): Observation.of(one) for size, one in known.items()}
        if job.observed:
            self._decide(job, now)
        elif job.members.mode != PROFILE:  # a curve was expected, and is of another model
            job.expects_curve = False
            self.begin_again(job, "no curve is known for this model and batch size", now)
        else:
            powers = (1 << power for power in range(len(run.gpus).bit_length()))
            run.sizes = [size for size in powers if size <= len(run.gpus)]
            job.members.standby = run.gpus
            job.move(State.PROFILING, f"starts {len(run.gpus)} workers to measure with", now)

    def node_gone(self, job: Job, node: str, now: float) -> None:
        """A node on which a job may be looked at or measured is gone: it is not the job's fault."""
        if job.measuring is not None and any(gpu.node == node for gpu in job.measuring.gpus):
            self.begin_again(job, f"node {node} went away while the job was measured there", now)

    def begin_again(self, job: Job, reason: str, now: float) -> None:
        """Throw a run away and let the job ask for slots once more."""
        job.announce, job.measuring = {}, None
        job.members.aim(())
        self._plane.schedule((core.ProfilingEnded(job.job),), now)
        job.move(State.SUBMITTED, reason, now)

    def _decide(self, job: Job, now: float) -> None:
        """Ask for admission; a worker that already waits trains on if its slot fits."""
        job.measuring = None
        self.complete(job)
        job.members.mode = TRAIN  # members of a profiling run are stopped first
        job.members.aim(())
        self._plane.admit(job, now)

    def _next_size(self, job: Job, now: float) -> None:
        run = job.measuring
        if run is None:
            return
        run.size, run.aimed = run.sizes.pop(0), now
        run.began = min(run.began, now)
        job.members.aim(run.gpus[: run.size], f"measures at {run.size}")
        job.members.standby = run.gpus[run.size :]
        seen = run.observed.items()
        measured = ", ".join(f"{size}: {one.steps_per_s:.3g}/s" for size, one in seen)
        plural = "" if run.size == 1 else "s"
        text = f"measures at {run.size} slot{plural}" + (f" ({measured})" if measured else "")
        job.move(State.PROFILING, text, now)

    def on_measured(self, message: Message, now: float) -> None:
        """Rank 0 has measured the speed of a size."""
        job = self._plane.jobs.get(str(message.get("job")))
        if job is None or job.measuring is None or int(message["world_size"]) != job.measuring.size:
            return
        run = job.measuring
        run.observed[run.size] = Observation.of(message)
        job.tell(now, f"measured {run.observed[run.size].steps_per_s:.3g} steps/s at {run.size}")
        if run.sizes and self._is_dear(job, now):
            rest = ", ".join(map(str, run.sizes))
            job.tell(now, f"leaves out {rest}: measuring would take too much of a short job's time")
            run.sizes.clear()
        if run.sizes:
            self._next_size(job, now)
        else:
            self._conclude(job, now)

    @staticmethod
    def _is_dear(job: Job, now: float) -> bool:
        """Tell whether one more size, at the cost of the last, is over the bound of the share."""
        run = job.measuring
        if run is None or job.only_profile or len(run.observed) < ALWAYS_MEASURED:
            return False
        best = max(one.steps_per_s for one in run.observed.values())
        expected = float(job.announce["max_steps"]) / best
        return (now - run.began) + (now - run.aimed) > MEASURED_SHARE * expected

    def _conclude(self, job: Job, now: float) -> None:
        run = job.measuring
        if run is None:
            return
        job.observed = dict(run.observed)
        job.measuring_s = now - run.began
        job.tell(now, f"measuring took {job.measuring_s:.1f} s")
        self.complete(job)
        self._plane.keep_curve(job)
        if job.only_profile:
            self._plane.end(job, State.SUCCEEDED, "measured", now)
        else:
            self._decide(job, now)

    # The curve -----------------------------------------------------------------------------------

    def complete(self, job: Job) -> bool:
        """Guess the speed at sizes that were not measured; True if the guesses have changed.

        Nothing is added to a curve that a person gave.
        """
        if not job.observed or job.is_curve_given:
            return False
        powers = [1 << power for power in range(self._most(job).bit_length())]
        before, job.guessed = job.guessed, guesses(job.observed, powers, self._host(job))
        return job.guessed != before

    def curve(self, job: Job) -> core.ScalingCurve:
        """Return what may be promised: measured speeds, and guesses less their margins."""
        cautious = {size: guess.cautious for size, guess in job.guessed.items()}
        return core.ScalingCurve({**cautious, **job.points})

    def learn(self, job: Job, size: int, rate: float, now: float) -> None:
        """Take in the speed that live steps show at a size; the plan follows."""
        was_guessed = size in job.guessed
        job.observed = refine.refined(job.observed, size, rate)
        self.complete(job)
        what = "a guess is known now" if was_guessed else "curve corrected"
        job.tell(now, f"{what}: {rate:.3g} steps/s at {size}")
        self.retell(job, now)
        self._plane.keep_curve(job)

    def retell(self, job: Job, now: float) -> None:
        """Tell the scheduler of a job's newest curve."""
        if job.job in self._plane.scheduler.jobs():
            self._plane.schedule((core.CurveMeasured(job.job, self.curve(job)),), now)

    def _host(self, job: Job) -> Host | None:
        """Return what CPU slots of a node share; None where devices are not shared."""
        cores = job.announce.get("cores")
        if not cores or not self._plane.nodes:
            return None
        slots = max(int(record["slots"]) for record in self._plane.nodes.values())
        return Host(int(cores), slots, int(job.announce.get("threads") or 1))

    def expired(self, job: Job, now: float) -> None:
        """The lent slots are due back: decide by what there is."""
        run = job.measuring
        if run is None:
            return
        if run.observed:
            self._conclude(job, now)
            return
        if run.is_short:
            job.needs_long_loan = True
            self.begin_again(job, "the slots were lent for too short a time to measure", now)
            return
        what = "take two steps" if job.announce else "begin to train"
        reason = f"the script did not {what} within {timeouts.PROFILING:g} s"
        self._plane.end(job, State.FAILED, reason, now)
