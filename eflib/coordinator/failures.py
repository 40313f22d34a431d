"""How a job ends, and when a failed worker ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eflib.coordinator.job import Job, State
from eflib.coordinator.membership import Stage

if TYPE_CHECKING:
    from eflib.coordinator.plane import ControlPlane

Message = dict[str, Any]

SAME_ERROR_LIMIT = 3
"""A job ends when the same error has been raised in so many of its generations."""
DEATH_LIMIT = 100
"""A job ends when so many of its workers have failed or died and it has not come further since."""
PREEMPTED_STATUS = 4
"""The exit code of a worker that was asked to leave, and of the command line then."""
NO_TRAINER = (
    "the script ended without training: it never reached ElasticTrainer.fit() or its loop form"
)
LEFT_EARLY = "a worker ended with exit code 0 before training was over"


class Failures:
    """Judges the exits of workers.

    Args:
        plane: The control plane it is a part of.
    """

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    def on_worker_exited(self, message: Message, now: float) -> None:
        """A worker is gone: as it should, or not."""
        job = self._plane.jobs.get(str(message.get("job")))
        if job is None or str(message.get("worker")) not in job.members.seats:
            return
        seat = job.members.seats[str(message["worker"])]
        was_alive, expected = seat.is_alive, self._is_expected(job, message)
        job.members.exited(seat.worker)
        if not was_alive or not job.is_live or expected:
            return
        rank = job.members.newest.rank_of(seat.worker)
        failure = {
            "node": message.get("node"),
            "rank": seat.rank if rank is None else rank,
            "message": describe_exit(message, was_ready=bool(seat.ready_at)),
            "traceback": (message.get("error") or {}).get("traceback"),
            "log": message.get("log"),
            "exitcode": message.get("exitcode"),
            "signal": message.get("signal"),
            "hang": message.get("hang", ""),
            "generation": job.members.settled.number,
            "step": job.furthest_step,
        }
        job.failures.append(failure)
        job.tell(now, f"rank {failure['rank']} on {failure['node']}: {failure['message']}")
        if self._ends_job(job, failure):
            self._fail(job, failure, now)
        elif job.measuring is not None:
            self._plane.measure_again(job, f"a worker was lost: {failure['message']}", now)

    @staticmethod
    def _is_expected(job: Job, message: Message) -> bool:
        """Tell whether an exit belongs to the plan: a leaver, a dismissed one, the end."""
        seat = job.members.seats[str(message["worker"])]
        status = message.get("exitcode")
        if seat.dismissed or job.members.ending or status == PREEMPTED_STATUS:
            return True
        left = seat.stage is Stage.MEMBER and not job.members.is_member(seat)
        if job.finished_step is not None:  # rank 0 may be saving the model; the others are not
            return status == 0 or job.members.newest.rank_of(seat.worker) != 0
        return status == 0 and left

    def _ends_job(self, job: Job, failure: Message) -> bool:
        """Decide whether a failure ends the job or is survived."""
        if job.finished_step is not None:
            return True
        died = failure["signal"] is not None or failure["exitcode"] is None
        if job.measuring is not None:
            return not died or len(job.failures) >= SAME_ERROR_LIMIT
        if sum(one["step"] == job.furthest_step for one in job.failures) >= DEATH_LIMIT:
            return True
        if died and failure["hang"] != "step":
            return False  # killed, or lost with its agent: nothing that the script did
        # All ranks of a generation may raise the same: that is one time.
        times = {one["generation"] for one in job.failures if one["message"] == failure["message"]}
        return job.members.settled.number == 0 or len(times) >= SAME_ERROR_LIMIT

    def _fail(self, job: Job, failure: Message, now: float) -> None:
        same = [one for one in job.failures if one["message"] == failure["message"]]
        job.error = same[0]
        where = f"rank {job.error['rank']} on {job.error['node']}"
        self._plane.end(job, State.FAILED, f"{where}: {job.error['message']}", now)

    def settle(self, job: Job, now: float) -> bool:
        """End a job whose workers have all gone after training was over; True if it ended."""
        if job.finished_step is not None and not job.members.alive():
            self._plane.end(job, State.SUCCEEDED, "", now)
            return True
        return False


def describe_exit(message: Message, *, was_ready: bool) -> str:
    """Say in a line how a worker ended."""
    error = message.get("error") or {}
    if error.get("message"):
        return str(error["message"])
    if message.get("signal") is not None:
        return f"killed by {message['signal']}"
    if message.get("exitcode") == 0:
        return LEFT_EARLY if was_ready else NO_TRAINER
    return f"exit code {message.get('exitcode')}"
