"""The worked example of ``docs/policy.md``: what the scheduler answers, and the figure of it.

``python docs/tools/policy_example.py`` writes the figure anew; a test holds page and figure against
``story()``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from eflib.scheduling import (
    Assigned,
    JobEnded,
    JobProgressed,
    JobRequest,
    JobSubmitted,
    NodeJoined,
    Rejected,
    ScalingCurve,
    Scheduler,
    SchedulerSettings,
    TimePassed,
)

if TYPE_CHECKING:
    from eflib.scheduling import Command, Event

FIGURE = Path(__file__).parents[1] / "images" / "policy.svg"
NUM_GPUS = 4
CURVE = ScalingCurve({1: 10.0, 2: 18.0, 4: 30.0})
COLOURS = {"A": "#4878a8", "B": "#d9823b", "C": "#5f9e6e"}


@dataclass
class Story:
    """What happened.

    Attributes:
        holdings: ``(start, end, counts)`` with the GPUs of each job, equal neighbours joined.
        ends: When each job was done, in seconds.
        refusal: The answer to the first wish for job C.
        shares: ``(job, submitted at, minimum share at admission)``.
    """

    holdings: list[tuple[float, float, dict[str, int]]] = field(default_factory=list)
    ends: dict[str, float] = field(default_factory=dict)
    refusal: Rejected | None = None
    shares: list[tuple[str, float, int]] = field(default_factory=list)


class Stage:
    """A scheduler, and jobs that run exactly as fast as their curve says."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(SchedulerSettings())
        self.story = Story()
        self.now = 0.0
        self.steps: dict[str, int] = {}
        self.left: dict[str, float] = {}
        self.held: dict[str, int] = {}
        self.tell(NodeJoined("node0", NUM_GPUS))

    def tell(self, *events: Event) -> list[Command]:
        """Tell the scheduler what happened, progress first, and do what it says."""
        known = [JobProgressed(job, self.steps[job] - left) for job, left in self.left.items()]
        commands = list(self.scheduler.handle_all([*known, *events], self.now))
        for command in commands:
            if isinstance(command, Assigned):
                self.held[command.job_id] = len(command.gpus)
        return commands

    def submit(self, job: str, steps: int, deadline: float) -> Rejected | None:
        """Ask for a job now; the answer is None if it was admitted."""
        request = JobRequest(job, CURVE, steps, self.now, deadline=deadline)
        for command in self.tell(JobSubmitted(request)):
            if isinstance(command, Rejected):
                return command
        self.steps[job] = steps
        self.left[job] = float(steps)
        view = self.scheduler.view(job, self.now)
        self.story.shares.append((job, self.now, view.minimum_share if view else 0))
        return None

    def run_until(self, end: float) -> None:
        """Let time pass up to ``end``, or until no job is left."""
        while self.now < end and (self.left or end < float("inf")):
            rates = {job: CURVE.throughput(self.held.get(job, 0)) for job in self.left}
            ends = [self.now + left / rates[job] for job, left in self.left.items() if rates[job]]
            wakeup = self.scheduler.next_wakeup(self.now)
            then = min([end, *ends, *([wakeup] if wakeup is not None else [])])
            self._note(then)
            for job, rate in rates.items():
                self.left[job] -= rate * (then - self.now)
            self.now = then
            done = [job for job, left in self.left.items() if left < 1e-6]
            for job in done:
                self.story.ends[job] = then
                del self.left[job], self.held[job]
            self.tell(*map(JobEnded, done), TimePassed())

    def _note(self, then: float) -> None:
        counts = {job: count for job, count in sorted(self.held.items()) if count}
        holdings = self.story.holdings
        if holdings and holdings[-1][2] == counts:
            holdings[-1] = (holdings[-1][0], then, counts)
        elif then > self.now:
            holdings.append((self.now, then, counts))


def story() -> Story:
    """Return what the scheduler makes of the example."""
    stage = Stage()
    stage.submit("A", 900, deadline=100.0)
    stage.run_until(10.0)
    stage.submit("B", 850, deadline=60.0)
    stage.story.refusal = stage.submit("C", 840, deadline=45.0)
    stage.submit("C", 840, deadline=70.0)
    stage.run_until(float("inf"))
    return stage.story


def figure(told: Story) -> str:
    """Return a drawing of who holds how many GPUs when, as SVG."""
    left, top, height, per_second = 60, 20, 44, 7.0
    bottom = top + NUM_GPUS * height
    width = left + 100 * per_second + 30
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="14"',
        f' viewBox="0 0 {width:.0f} {bottom + 64}">',
        f'<rect width="{width:.0f}" height="{bottom + 64}" fill="#ffffff"/>',
    ]
    for start, end, counts in told.holdings:
        below = 0
        for job, count in counts.items():
            x, wide = left + start * per_second, (end - start) * per_second
            y = bottom - (below + count) * height
            lines.append(
                f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{count * height}"'
                f' fill="{COLOURS[job]}" stroke="#ffffff"/>'
            )
            if wide > 20:
                lines.append(
                    f'<text x="{x + wide / 2:.1f}" y="{y + count * height / 2 + 5:.0f}"'
                    f' text-anchor="middle" fill="#ffffff">{job}</text>'
                )
            below += count
    for count in range(NUM_GPUS + 1):
        y = bottom - count * height
        lines.append(f'<text x="{left - 10}" y="{y + 5}" text-anchor="end">{count}</text>')
    for second in range(0, 101, 10):
        x = left + second * per_second
        lines.append(f'<text x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{second}</text>')
    for job, deadline in (("B", 60), ("C", 70), ("A", 100)):
        x = left + deadline * per_second
        lines.append(
            f'<line x1="{x:.1f}" y1="{top - 10}" x2="{x:.1f}" y2="{bottom}"'
            f' stroke="{COLOURS[job]}" stroke-width="2" stroke-dasharray="6 4"/>'
        )
        lines.append(
            f'<text x="{x:.1f}" y="{bottom + 38}" text-anchor="middle" fill="{COLOURS[job]}">'
            f"{job} due</text>"
        )
    lines.append(f'<text x="{left}" y="{bottom + 56}">seconds; height: GPUs held</text>')
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    FIGURE.write_text(figure(story()), encoding="utf-8")
