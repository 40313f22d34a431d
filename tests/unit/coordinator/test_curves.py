"""What live steps and guesses do to a curve."""

import pytest

from eflib.coordinator.effects import KeepCurve
from eflib.profiler import refine
from tests.unit.coordinator.world import CURVE, World


@pytest.fixture
def world():
    return World()


def progress(world, job, rate, step=10):
    size = job.members.settled.world_size
    document = {"global_step": step, "world_size": size, "steps_per_s": rate}
    world.tell("progress", job=job.job, progress=document)


def test_a_curve_is_corrected_by_live_steps_that_differ_long_enough(world):
    job = world.submit()
    world.settle()
    for _ in range(refine.PATIENCE - 1):
        progress(world, job, 17.0)
        assert job.speed.points == CURVE
    progress(world, job, 17.0)
    assert job.speed.points == pytest.approx({1: 5.0, 2: 9.5, 4: 17.0})


def test_one_slow_moment_corrects_nothing(world):
    job = world.submit()
    world.settle()
    for rate in (17.0, 17.0, 33.0, 17.0, 17.0):
        progress(world, job, rate)
    assert job.speed.points == CURVE


def test_progress_moves_the_projected_finish(world):
    job = world.submit(deadline=world.now + 500)
    world.settle()
    before = world.plane.status(job, None, world.now).projected_finish
    progress(world, job, None, step=900)
    after = world.plane.status(job, None, world.now)
    assert after.projected_finish < before
    assert after.slack_s == pytest.approx(job.request.deadline - after.projected_finish)


def planned(world, job):
    """Return the curve that the scheduler plans with."""
    return dict(world.plane.scheduler.book.jobs[job.job].curve.points)


def test_sizes_that_could_not_be_measured_are_guessed_and_planned_with_a_margin(world):
    world.submit("wide", curve={1: 1.0, 2: 2.0}, deadline=world.now + 600)  # takes two for good
    world.settle()
    job = world.submit("new", curve=None)
    world.settle()

    assert set(job.speed.points) == {1, 2}
    guess = job.speed.guessed[4]
    assert 19.0 < guess.steps_per_s < 38.0
    assert planned(world, job) == {**job.speed.points, 4: pytest.approx(guess.cautious)}
    document = world.plane.status(job, None, world.now)
    assert document.curve == {1: 10.0, 2: 19.0}
    assert document.curve_guesses[4].margin > 0.03


def test_a_curve_that_a_person_gave_is_not_added_to(world):
    job = world.submit(curve={1: 10.0, 2: 19.0})
    world.settle()
    world.join("n1", 4)

    assert job.speed.guessed == {}
    assert planned(world, job) == {1: 10.0, 2: 19.0}


def test_a_node_that_joins_lets_a_measured_job_grow_beyond_what_was_measured(world):
    job = world.submit(curve=None)
    world.settle()
    world.join("n1", 4)

    assert job.speed.points == CURVE
    assert set(planned(world, job)) == {1, 2, 4, 8}


def test_live_steps_at_a_guessed_size_are_its_measurement_from_then_on(world):
    job = world.submit(curve=None)
    world.settle()
    world.join("n1", 4)
    world.settle()
    assert job.members.settled.world_size == 8
    world.plane.take_effects()
    for _ in range(refine.PATIENCE):
        assert 8 in job.speed.guessed
        progress(world, job, job.speed.guessed[8].steps_per_s)  # no drift, and known for sure now

    assert 8 not in job.speed.guessed
    assert planned(world, job)[8] == job.speed.points[8]
    assert world.plane.take_effects() == [KeepCurve(job.job)]


def test_reports_in_a_row_are_of_one_size(world):
    job = world.submit(curve=None)
    world.settle()
    for _ in range(refine.PATIENCE - 1):
        progress(world, job, 2 * job.speed.points[4])
    assert job.speed.deviations == refine.PATIENCE - 1
    world.join("n1", 4)
    world.settle()

    assert job.members.settled.world_size == 8
    assert job.speed.deviations == 0


def measured_slowly(world, job, *, seconds):
    """Let a job be measured at a pace at which each size takes some seconds."""
    enter = world.tell_switched

    def slowly(*args):
        world.now += seconds
        enter(*args)

    world.tell_switched = slowly
    world.settle()
    return job


def test_a_short_job_is_measured_at_two_sizes_and_guessed_at_the_others(world):
    job = measured_slowly(world, world.submit(curve=None), seconds=3.0)  # of 30 s at full speed

    assert set(job.speed.points) == {1, 2}
    assert set(job.speed.guessed) == {4}
    assert any("skipping 4" in text for _, text in job.story)
    assert world.plane.status(job, None, world.now).measuring_s == 6.0


def test_what_a_person_asks_to_be_profiled_is_measured_at_every_size(world):
    job = measured_slowly(world, world.submit(curve=None, kind="profile"), seconds=3.0)

    assert job.speed.points == CURVE


def test_measuring_costs_a_longer_job_little_and_is_not_cut_short(world):
    job = measured_slowly(world, world.submit(curve=None), seconds=0.5)

    assert job.speed.points == CURVE
