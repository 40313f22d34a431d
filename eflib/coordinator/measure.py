"""From a submitted script to a scaling curve: look at the script, measure what is not known.

One worker is started on a lent slot. When it says what it will train, the curve is looked up; if it
is not known, the job grows over 1, 2, 4, ... lent slots by the same generations that rescale it
later, and the speed of each size is measured. Steps of such a run are thrown away.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from eflib import scheduling as core
from eflib.coordinator import timeouts
from eflib.coordinator.job import Job, Measuring, State
from eflib.coordinator.membership import Stage
from eflib.store.messages import PROFILE, TRAIN

if TYPE_CHECKING:
    from eflib.coordinator.plane import ControlPlane

Message = dict[str, Any]


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
        if run.sizes and run.size == 0 and self._all_ready(job, now):
            self._next_size(job, now)
            return True
        if run.points and now - run.since > timeouts.MEASURING:
            self._conclude(job, now)  # this size does not come: what was measured has to do
            return True
        if now > run.until:
            self.expired(job, now)
            return True
        return False

    @staticmethod
    def _all_ready(job: Job, now: float) -> bool:
        starting = [seat for seat in job.members.wanted() if seat.stage is Stage.STARTING]
        longest = max((now - seat.started_at for seat in starting), default=0.0)
        return not starting or longest > timeouts.JOINERS

    def _ask_for_slots(self, job: Job, now: float) -> bool:
        most = sum(int(record["slots"]) for record in self._plane.nodes.values())
        wanted = 1 if job.expects_curve else min(most, job.request.get("max_gpus") or most)
        event = core.ProfilingRequested(job.job, wanted, timeouts.PROFILING)
        granted: tuple[core.Gpu, ...] = ()
        job.ask_at = now + timeouts.ASK_AGAIN
        for command in self._plane.schedule((event,), now):
            if isinstance(command, core.ProfilingGranted):
                granted = command.gpus
            elif isinstance(command, core.ProfilingDenied):
                job.reason = f"waits for a free slot to look at the script: {command.reason}"
        if granted:
            job.measuring = Measuring(granted, until=now + timeouts.PROFILING)
            job.members.mode = TRAIN if job.expects_curve else PROFILE
            job.members.standby = granted[:1]
            job.move(State.PROFILING, "looks at the script", now)
        return True

    def on_ready(self, job: Job, message: Message, now: float) -> None:
        """The script has reached ``fit()``: decide, or measure first."""
        run = job.measuring
        if run is None or job.announce:
            return
        job.announce = dict(message["announce"])
        known = message.get("known_curve")
        if known and not job.points and not job.only_profile:
            job.points = {int(size): float(rate) for size, rate in known.items()}
        if job.points:
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
        job.members.mode = TRAIN  # members of a profiling run are stopped first
        job.members.aim(())
        self._plane.admit(job, now)

    def _next_size(self, job: Job, now: float) -> None:
        run = job.measuring
        if run is None:
            return
        run.size, run.since = run.sizes.pop(0), math.inf
        job.members.aim(run.gpus[: run.size], f"measures at {run.size}")
        job.members.standby = run.gpus[run.size :]
        measured = ", ".join(f"{size}: {rate:.3g}/s" for size, rate in run.points.items())
        plural = "" if run.size == 1 else "s"
        text = f"measures at {run.size} slot{plural}" + (f" ({measured})" if measured else "")
        job.move(State.PROFILING, text, now)

    @staticmethod
    def on_switched(job: Job, now: float) -> None:
        """A size was entered: its time begins now."""
        if job.measuring is not None:
            job.measuring.since = now

    def on_measured(self, message: Message, now: float) -> None:
        """Rank 0 has measured the speed of a size."""
        job = self._plane.jobs.get(str(message.get("job")))
        if job is None or job.measuring is None or int(message["world_size"]) != job.measuring.size:
            return
        run = job.measuring
        run.points[run.size] = float(message["steps_per_s"])
        run.spread[run.size] = float(message["spread"])
        job.tell(now, f"measured {run.points[run.size]:.3g} steps/s at {run.size}")
        if run.sizes:
            self._next_size(job, now)
        else:
            self._conclude(job, now)

    def _conclude(self, job: Job, now: float) -> None:
        run = job.measuring
        if run is None:
            return
        job.points = dict(run.points)
        self._plane.keep_curve(job, run.spread)
        if job.only_profile:
            self._plane.end(job, State.SUCCEEDED, "measured", now)
        else:
            self._decide(job, now)

    def expired(self, job: Job, now: float) -> None:
        """The lent slots are due back: decide by what there is."""
        run = job.measuring
        if run is None:
            return
        if run.points:
            self._conclude(job, now)
            return
        self._plane.end(
            job,
            State.FAILED,
            f"the script did not begin to train within {timeouts.PROFILING:g} s",
            now,
        )
