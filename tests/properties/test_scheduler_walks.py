"""Laws of the scheduler under any sequence of events, surprises included."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eflib.scheduling import (
    Admitted,
    CurveMeasured,
    Event,
    JobEnded,
    JobProgressed,
    JobRequest,
    JobSubmitted,
    NodeJoined,
    NodeLost,
    ProfilingRequested,
    Rejected,
    ScalingCurve,
    Scheduler,
    SchedulerSettings,
    SizePinned,
    TimePassed,
)
from eflib.scheduling.invariants import check
from tests.properties.worlds import wishes

SEEDS = range(60)


class Walk:
    """A scheduler under random events; each is followed by a check of all invariants."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.seed = seed
        self.scheduler = Scheduler(
            SchedulerSettings(
                rescale_cost=self.random.choice([0.0, 1.0, 30.0]),
                safety_margin=self.random.choice([0.0, 0.1]),
            )
        )
        self.now = 0.0
        self.number = 0
        self.journal: list[tuple[float, Event]] = []
        self.commands: list[tuple] = []

    def handle(self, event: Event) -> tuple:
        self.journal.append((self.now, event))
        commands = self.scheduler.handle(event, self.now)
        self.commands.append(commands)
        wrong = check(self.scheduler)
        assert not wrong, f"seed {self.seed}, event {len(self.journal)}, {event}: {wrong}"
        return commands

    def run(self, num_events: int) -> None:
        for node in range(self.random.choice([1, 2, 3])):
            self.handle(NodeJoined(f"n{node}", self.random.choice([1, 3, 4, 8])))
        acts = [self.submit] * 7 + [self.node] * 2 + [self.pin] * 2 + [self.profile] * 2
        acts += [self.progress, self.end, self.measure, self.wait, self.wait, self.wait]
        for _ in range(num_events):
            step = self.random.expovariate(1 / 50)
            wakeup = self.scheduler.next_wakeup(self.now)
            if wakeup is None or wakeup > self.now + step:
                self.now += step
            else:  # at a border of the plan, or a rounding before it
                self.now = max(self.now, wakeup - self.random.choice([0.0, 1e-9]))
            for job_id in self.scheduler.jobs():
                view = self.scheduler.view(job_id, self.now)
                done = view.steps_done >= view.total_steps * (1 - 1e-9)
                if done and self.random.random() < 0.9:
                    self.handle(JobEnded(job_id))
            self.random.choice(acts)()

    def any_job(self) -> str:
        return self.random.choice(self.scheduler.jobs() or ("nobody",))

    def submit(self) -> None:
        rate, points = self.random.uniform(1, 10), {}
        for exponent in range(5):
            points[1 << exponent] = rate
            rate *= self.random.uniform(0.8, 2.0)
        if self.random.random() < 0.2:
            points = {1: points[1], 3: points[1] * 2}
        steps = self.random.uniform(10, 2000)
        ideal = steps / points[1]
        deadline = self.random.choice([None, *[self.now + ideal * self.random.uniform(0.2, 2)] * 2])
        request = self.request(
            ScalingCurve(points),
            steps,
            deadline,
            soft=self.random.random() < 0.2,
            max_gpus=self.random.choice([None, None, 2, 4]),
        )
        for command in self.handle(JobSubmitted(request)):
            if isinstance(command, Rejected) and command.earliest_deadline is not None:
                again = self.request(
                    request.curve, steps, command.earliest_deadline, max_gpus=request.max_gpus
                )
                answer = self.handle(JobSubmitted(again))
                assert any(isinstance(c, Admitted) for c in answer), (self.seed, command, answer)

    def request(self, curve, steps, deadline, **fields) -> JobRequest:
        self.number += 1
        return JobRequest(f"j{self.number}", curve, steps, self.now, deadline, **fields)

    def node(self) -> None:
        name = self.random.choice(["n0", "n1", "n2"])
        if self.random.random() < 0.5:
            self.handle(NodeLost(name))
        else:
            self.handle(NodeJoined(name, self.random.choice([1, 3, 4, 8])))

    def pin(self) -> None:
        self.handle(SizePinned(self.any_job(), self.random.choice([None, 0, 1, 2, 3, 5])))

    def profile(self) -> None:
        self.number += 1
        gpus, seconds = self.random.choice([1, 2, 4, 8]), self.random.uniform(5, 60)
        self.handle(ProfilingRequested(f"p{self.number}", gpus, seconds))

    def progress(self) -> None:
        view = self.scheduler.view(self.any_job(), self.now)
        if view is not None:
            steps = max(0.0, view.steps_done * self.random.uniform(0.8, 1.2))
            self.handle(JobProgressed(view.job_id, steps))

    def end(self) -> None:
        self.handle(JobEnded(self.any_job()))

    def measure(self) -> None:
        rate = self.random.uniform(1, 10)
        curve = ScalingCurve({1: rate, 2: rate * 1.5, 4: rate * 2})
        self.handle(CurveMeasured(self.any_job(), curve))

    def wait(self) -> None:
        self.handle(TimePassed())


@pytest.mark.parametrize("seed", SEEDS)
def test_no_sequence_of_events_breaks_an_invariant(seed):
    Walk(seed).run(50)


class Reporting(Walk):
    """Every job reports after every event, about as the plan expects it."""

    def handle(self, event: Event) -> tuple:
        commands = super().handle(event)
        for job_id in self.scheduler.jobs():
            view = self.scheduler.view(job_id, self.now)
            steps = view.steps_done * self.random.uniform(0.995, 1.005)
            super().handle(JobProgressed(job_id, max(0.0, steps)))
        return commands


@pytest.mark.parametrize("seed", range(20))
def test_reports_that_are_about_as_planned_break_no_invariant(seed):
    Reporting(3000 + seed).run(30)


@pytest.mark.parametrize("seed", range(8))
def test_the_journal_replayed_gives_the_same_commands(seed):
    walk = Walk(1000 + seed)
    walk.run(40)
    again = Scheduler(walk.scheduler.settings)
    assert [again.handle(event, now) for now, event in walk.journal] == walk.commands


def pass_time(scheduler, now, until):
    """Wake the scheduler whenever it wants to be woken, as whoever drives it has to."""
    while (wakeup := scheduler.next_wakeup(now)) is not None and wakeup <= until:
        now = wakeup
        views = [scheduler.view(job_id, now) for job_id in scheduler.jobs()]
        ended = [v.job_id for v in views if v.steps_done >= v.total_steps * (1 - 1e-9)]
        for event in [JobEnded(job_id) for job_id in ended] or [TimePassed()]:
            scheduler.handle(event, now)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(wishes(), min_size=1, max_size=8),
    wishes(),
    st.sampled_from([4, 6, 8]),
    st.sampled_from([0.0, 20.0]),
)
def test_the_deadline_that_a_refusal_offers_is_admitted(drawn, last, gpus, cost):
    scheduler = Scheduler(SchedulerSettings(rescale_cost=cost))
    scheduler.handle(NodeJoined("n", gpus), 0.0)
    now = 0.0
    for number, wish in enumerate([*drawn, last]):
        pass_time(scheduler, now, now + wish.gap)
        now += wish.gap
        deadline = now + wish.seconds * (wish.tightness or 0.2)
        request = JobRequest(f"j{number}", wish.curve, wish.steps, now, deadline)
        for command in scheduler.handle(JobSubmitted(request), now):
            if isinstance(command, Rejected):
                offer = command.earliest_deadline
                again = JobRequest(f"r{number}", wish.curve, wish.steps, now, offer)
                assert isinstance(scheduler.handle(JobSubmitted(again), now)[0], Admitted)
                assert check(scheduler) == []


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(wishes(), min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_equal_jobs_are_treated_alike_whatever_their_names(drawn, shuffler):
    """Names say nothing: the same jobs under other names get the same counts."""
    names = [f"j{number}" for number in range(len(drawn))]
    others = names[:]
    shuffler.shuffle(others)
    counts = []
    for spelling in (names, others):
        scheduler = Scheduler(SchedulerSettings(rescale_cost=5.0))
        scheduler.handle(NodeJoined("n", 8), 0.0)
        answers = []
        for name, wish in zip(spelling, drawn, strict=True):
            deadline = None if wish.tightness is None else wish.seconds * wish.tightness
            request = JobRequest(name, wish.curve, wish.steps, 0.0, deadline)
            commands = scheduler.handle(JobSubmitted(request), 0.0)
            answers.append([type(command).__name__ for command in commands])
        views = [scheduler.view(name, 0.0) for name in spelling]
        answers.append([len(view.gpus) if view else None for view in views])
        counts.append(answers)
    assert counts[0] == counts[1]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(wishes(), st.floats(1.0, 500.0))
def test_a_later_deadline_never_turns_an_admission_into_a_refusal_on_an_idle_cluster(wish, later):
    answers = []
    for more in (0.0, later):
        scheduler = Scheduler(SchedulerSettings(rescale_cost=5.0))
        scheduler.handle(NodeJoined("n", 8), 0.0)
        deadline = wish.seconds * (wish.tightness or 1.0) + more
        request = JobRequest("j", wish.curve, wish.steps, 0.0, deadline)
        answers.append(isinstance(scheduler.handle(JobSubmitted(request), 0.0)[0], Admitted))
    assert answers != [True, False]
