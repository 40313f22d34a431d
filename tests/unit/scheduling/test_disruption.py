"""Who runs stays where it is, shrunk, unless a promise asks for more."""

import random

import pytest

from eflib.scheduling import (
    JobEnded,
    JobRequest,
    JobSubmitted,
    ProfilingEnded,
    ProfilingGranted,
    ProfilingRequested,
    ScalingCurve,
    TimePassed,
)
from tests.unit.scheduling.builders import CONCAVE, LINEAR, Watched, kinds


def slots(cluster: Watched, job_id: str) -> set[int]:
    """Return the indices that a job holds on the only node."""
    return {gpu.index for gpu in cluster.gpus.get(job_id, ())}


@pytest.mark.parametrize("curve", [LINEAR, CONCAVE])
@pytest.mark.parametrize("cost", [0.0, 2.0])
def test_a_loose_job_on_all_gpus_keeps_half_of_its_own_for_a_tight_newcomer(curve, cost):
    cluster = Watched(4, rescale_cost=cost)
    cluster.submit("a", 400 * curve.throughput(1), curve=curve, deadline=5000.0)
    assert cluster.holds("a") == 4
    cluster.now = 20.0
    assert kinds(cluster.submit("b", 200, deadline=125.0 + cost)) == ["Admitted"]
    assert slots(cluster, "b") | slots(cluster, "a") == {0, 1, 2, 3}
    assert (cluster.holds("a"), cluster.holds("b")) == (2, 2)


def test_a_third_job_moves_neither_of_two_that_can_shrink():
    """The shares of the two lie on other GPUs than they hold: the plan must follow them."""
    cluster = Watched(4)
    cluster.submit("a", 400, deadline=2000.0, curve=CONCAVE)
    cluster.now = 4.0
    cluster.submit("b", 200, deadline=600.0, curve=CONCAVE)
    before = {job: slots(cluster, job) for job in "ab"}
    assert sorted(map(len, before.values())) == [2, 2]
    cluster.now = 8.0
    assert kinds(cluster.submit("c", 600, deadline=500.0, curve=CONCAVE)) == ["Admitted"]
    for job, held in before.items():
        assert slots(cluster, job), f"{job} waits"
        assert slots(cluster, job) <= held
    assert cluster.holds("c") >= 1


def test_a_job_that_will_need_more_later_is_not_moved_for_a_newcomer_with_time():
    cluster = Watched(4, rescale_cost=2.0)
    cluster.submit("tight", 400, deadline=130.0)
    cluster.submit("loose", 100, deadline=3000.0)
    before = slots(cluster, "tight")
    cluster.now = 10.0
    cluster.submit("late", 100, deadline=2900.0)
    assert slots(cluster, "tight") == before


def test_a_newcomer_takes_idle_gpus_and_not_those_of_a_best_effort_job():
    cluster = Watched(8)
    cluster.submit("effort", 4000, max_gpus=4)
    held = slots(cluster, "effort")
    cluster.submit("a", 380, deadline=100.0, max_gpus=4)
    assert slots(cluster, "effort") == held
    assert cluster.holds("a") == 4


def test_a_best_effort_job_shrinks_for_a_promise_that_needs_half():
    cluster = Watched(4)
    cluster.submit("effort", 4000)
    cluster.submit("a", 190, deadline=100.0)
    assert (cluster.holds("effort"), cluster.holds("a")) == (2, 2)


def test_a_job_is_paused_where_the_newcomer_needs_all():
    cluster = Watched(4)
    cluster.submit("a", 100, deadline=5000.0)
    cluster.now = 5.0
    assert kinds(cluster.submit("b", 390, deadline=104.0)) == ["Admitted"]
    assert (cluster.holds("a"), cluster.holds("b")) == (0, 4)


def test_a_job_with_time_is_moved_where_the_newcomer_needs_a_whole_block():
    """Two jobs on one GPU each, in both halves: only a move makes room for two GPUs together."""
    cluster = Watched(4)
    for number in range(4):
        cluster.submit(f"j{number}", 1000, deadline=10_000.0)
    by_slot = {min(slots(cluster, f"j{number}")): f"j{number}" for number in range(4)}
    cluster.handle(JobEnded(by_slot[1]), 10.0)
    cluster.handle(JobEnded(by_slot[3]), 10.0)
    assert kinds(cluster.submit("b", 195, deadline=110.0)) == ["Admitted"]
    assert cluster.holds("b") == 2
    assert all(cluster.holds(by_slot[slot]) == 1 for slot in (0, 2))


def test_a_job_that_is_measured_takes_from_each_what_it_can_spare():
    cluster = Watched(4, rescale_cost=1.0)
    cluster.submit("a", 400, deadline=3000.0)
    cluster.submit("b", 400, deadline=2000.0)
    before = {job: slots(cluster, job) for job in "ab"}
    assert sorted(map(len, before.values())) == [2, 2]
    commands = cluster.handle(ProfilingRequested("p", 4, 30.0), 10.0)
    (granted,) = [c for c in commands if isinstance(c, ProfilingGranted)]
    assert len(granted.gpus) == 2
    for job, held in before.items():
        assert slots(cluster, job)
        assert slots(cluster, job) <= held
    cluster.handle(ProfilingEnded("p"), 20.0)
    assert all(slots(cluster, job) & held for job, held in before.items())


def could_all_stay(cluster: Watched, request: JobRequest) -> bool:
    """True if constant shares inside what each holds keep all promises, the newcomer's as well."""
    book = cluster.scheduler.book
    cost = book.settings.rescale_cost
    taken = 0
    for job in book.jobs.values():
        held = job.mask.bit_count()
        for count, rate in job.curve.usable(held):
            begin = max(book.now, job.ready_at) if count == held else book.now + cost
            if begin + job.left / rate <= job.promise:
                low = (job.mask & -job.mask).bit_length() - 1
                taken |= ((1 << count) - 1) << low
                break
        else:
            return False
    for count, rate in request.curve.usable(book.cluster.num_gpus):
        if book.now + cost + request.total_steps / rate <= request.deadline:
            blocks = (((1 << count) - 1) << at for at in range(0, book.cluster.num_gpus, count))
            return any(not block & (taken | ~book.cluster.available) for block in blocks)
    return False


def drawn(draw: random.Random, number: int, cluster: Watched) -> JobRequest:
    """Draw a job of some minutes with a deadline that is tight or loose."""
    rate, points = 1.0, {}
    for exponent in range(4):
        points[1 << exponent] = rate
        rate *= draw.uniform(1.3, 2.0)
    seconds = draw.uniform(50, 600)
    factor = draw.choice([0.5, 0.8, 1.0, 1.5, 3.0, 8.0])
    deadline = cluster.now + seconds * factor
    return JobRequest(f"j{number}", ScalingCurve(points), seconds, cluster.now, deadline)


def pass_time(cluster: Watched, until: float) -> None:
    """Go from border to border of the plan, ending jobs when they are done."""
    scheduler = cluster.scheduler
    while (wakeup := scheduler.next_wakeup(cluster.now)) is not None and wakeup <= until:
        done = [j.job_id for j in scheduler.book.jobs.values() if j.finish <= wakeup + 1e-6]
        cluster.handle(JobEnded(done[0]) if done else TimePassed(), wakeup)
    cluster.handle(TimePassed(), until)


@pytest.mark.parametrize("cost", [0.0, 5.0])
@pytest.mark.parametrize("gpus", [4, 6, 8])
def test_nobody_is_paused_or_moved_whom_a_constant_share_would_have_left_in_place(gpus, cost):
    decided = 0
    for seed in range(40):
        draw = random.Random(seed)
        cluster = Watched(gpus, rescale_cost=cost)
        jobs = cluster.scheduler.book.jobs
        for number in range(4):
            request = drawn(draw, number, cluster)
            running = {name: job.mask for name, job in jobs.items()}
            calm = all(running.values()) and could_all_stay(cluster, request)
            cluster.handle(JobSubmitted(request))
            for name, mask in running.items() if calm else ():
                decided += 1
                assert jobs[name].mask & mask, (seed, number, name)
            pass_time(cluster, cluster.now + draw.uniform(1, 60))
    assert decided > 50
