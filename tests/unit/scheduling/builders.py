"""Small clusters, curves and jobs, so that a test names only what it is about."""

from typing import Any

from eflib.scheduling import (
    Command,
    Event,
    JobRequest,
    JobSubmitted,
    NodeJoined,
    ScalingCurve,
    Scheduler,
    SchedulerSettings,
)
from eflib.scheduling.invariants import check

LINEAR = ScalingCurve({1: 1.0, 2: 2.0, 4: 4.0, 8: 8.0})
CONCAVE = ScalingCurve({1: 10.0, 2: 18.0, 4: 30.0, 8: 40.0})


class Watched:
    """A scheduler whose invariants are checked after every event, on a clock of its own."""

    def __init__(self, *nodes: int, **settings: Any) -> None:
        self.scheduler = Scheduler(SchedulerSettings(**settings))
        self.now = 0.0
        self.gpus: dict[str, tuple] = {}
        for number, size in enumerate(nodes):
            self.handle(NodeJoined(f"n{number}", size))

    def handle(self, event: Event, now: float | None = None) -> tuple[Command, ...]:
        self.now = self.now if now is None else now
        commands = self.scheduler.handle(event, self.now)
        wrong = check(self.scheduler)
        assert not wrong, f"after {event} at {self.now}: {wrong}"
        for command in commands:
            if type(command).__name__ == "Assigned":
                self.gpus[command.job_id] = command.gpus
        return commands

    def submit(self, job_id: str, steps: float, **fields: Any) -> tuple[Command, ...]:
        curve = fields.pop("curve", LINEAR)
        request = JobRequest(job_id, curve, steps, self.now, **fields)
        return self.handle(JobSubmitted(request))

    def holds(self, job_id: str) -> int:
        return len(self.gpus.get(job_id, ()))

    def view(self, job_id: str):
        view = self.scheduler.view(job_id, self.now)
        assert view is not None
        return view


def kinds(commands: tuple[Command, ...]) -> list[str]:
    """Return the names of commands, assignments left out."""
    names = [type(command).__name__ for command in commands]
    return [name for name in names if name != "Assigned"]
