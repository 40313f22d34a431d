"""From a submitted script to a scaling curve, measured on lent slots."""

import pytest

from eflib.coordinator import timeouts
from eflib.coordinator.effects import KeepCurve
from eflib.coordinator.job import State
from tests.unit.coordinator.world import ANNOUNCE, CURVE, World


@pytest.fixture
def world():
    return World()


def test_an_unknown_script_is_measured_at_1_2_4_then_admitted_and_trained(world):
    job = world.submit(curve=None)
    assert job.state is State.PROFILING
    world.settle()
    told = [text for _, text in job.story if text.startswith("measured")]
    assert told == [
        "measured 10 steps/s at 1",
        "measured 19 steps/s at 2",
        "measured 34 steps/s at 4",
    ]
    assert job.speed.points == CURVE
    assert job.state is State.RUNNING
    assert job.members.newest.mode == "train"
    assert world.sizes() == {job.job: 4}
    world.finish(job)
    world.settle()
    assert job.state is State.SUCCEEDED
    assert world.workers == {}
    assert world.plane.is_idle()


def test_the_measured_curve_is_kept_once(world):
    job = world.submit(curve=None)
    world.settle()
    kept = [one for one in world.plane.take_effects() if isinstance(one, KeepCurve)]
    assert kept == [KeepCurve(job.job)]
    assert {size: one.spread for size, one in job.speed.observed.items()} == {
        1: 0.1,
        2: 0.1,
        4: 0.1,
    }


def test_a_given_curve_skips_measuring(world):
    job = world.submit()
    world.settle()
    assert not any("measure" in text for _, text in job.story)
    assert job.state is State.RUNNING
    assert job.members.newest.number == 1  # one generation from nothing to four workers
    assert world.sizes() == {job.job: 4}


def test_a_known_curve_of_a_known_script_skips_measuring(world):
    world.is_quiet = True
    job = world.submit(curve=None, expects_curve=True)
    world.settle()
    (worker,) = world.workers
    known = {str(size): {"steps_per_s": rate} for size, rate in CURVE.items()}
    world.tell("worker_ready", job=job.job, worker=worker, announce=ANNOUNCE, known_curve=known)
    world.announced.add(worker)
    assert job.state is State.PENDING
    world.is_quiet = False
    world.settle()
    assert (job.state, job.speed.points) == (State.RUNNING, CURVE)
    assert worker in world.workers  # the worker that was looked at trains on


def test_a_script_whose_known_curve_is_of_another_model_is_measured(world):
    job = world.submit(curve=None, expects_curve=True)
    world.settle()
    world.wait(2 * timeouts.ASK_AGAIN)
    world.settle()
    assert any("no curve is known for this model" in text for _, text in job.story)
    assert (job.state, job.speed.points) == (State.RUNNING, CURVE)


def test_no_size_is_measured_while_workers_start_which_takes_cores(world):
    world.is_quiet = True
    job = world.submit(curve=None)
    world.settle()
    for coming in range(4):
        assert job.speed.profiling.size == 0, f"is measured with {coming} of 4 workers started"
        world.ready(min(set(world.workers) - world.announced))
        world.settle()

    assert job.speed.points == CURVE


def test_a_worker_that_does_not_start_does_not_keep_the_others_from_being_measured(world):
    world.is_quiet = True
    job = world.submit(curve=None)
    world.settle()
    for _ in range(3):
        world.ready(min(set(world.workers) - world.announced))
        world.settle()
    assert not job.speed.profiling.observed
    world.wait(timeouts.PROFILING / 2 + 1)
    world.settle()

    assert set(job.speed.profiling.observed) == {1, 2}


def test_a_script_that_starts_for_longer_than_half_the_loan_is_measured_beside_other_starts(world):
    world.is_quiet = True
    job = world.submit(curve=None)
    world.settle()
    world.wait(timeouts.PROFILING / 2 + 1)
    world.ready(next(iter(world.workers)))
    world.settle()

    assert set(job.speed.profiling.observed) == {1}


def test_a_run_of_efctl_profile_ends_with_the_curve(world):
    job = world.submit(curve=None, kind="profile")
    world.settle()
    assert (job.state, job.speed.points) == (State.SUCCEEDED, CURVE)
    assert world.workers == {}


def test_measuring_goes_on_with_what_came_when_a_size_does_not(world):
    job = world.submit(curve=None)
    while 2 not in job.speed.points and not (
        job.speed.profiling and 1 in job.speed.profiling.observed
    ):
        world.turn()
    world.is_quiet = True
    for worker in [one for one in world.workers if one not in world.announced]:
        world.announced.add(worker)
    world.tell_switched = lambda *_: None  # no larger size is ever entered
    world.wait(timeouts.PROFILING + 1)
    assert job.state is not State.PROFILING
    assert 1 in job.speed.points


def test_a_script_that_never_begins_to_train_fails_when_the_loan_is_over(world):
    world.is_quiet = True
    job = world.submit(curve=None)
    world.settle()
    world.wait(timeouts.PROFILING + 1)
    world.settle()
    assert job.state is State.FAILED
    assert "did not begin to train within 120 s" in job.reason
    assert world.workers == {}


def test_a_node_lost_while_a_job_is_measured_on_it_does_not_fail_the_job(world):
    job = world.submit(curve=None)
    world.turn()
    world.workers.clear()
    world.tell("node_lost", node="n0")
    world.join("n1", 4)
    world.settle()
    world.wait(5)
    world.settle()
    assert job.state is State.RUNNING
    assert {world.node_of[one] for one in world.workers} == {"n1"}


def test_slots_that_promises_spare_for_a_short_time_alone_are_lent_for_that_time(world):
    """For two minutes the running job cannot do without its slots; for twenty seconds it can."""
    world.submit("busy", curve={4: 10.0}, deadline=world.now + 150)
    world.settle()
    job = world.submit("new", curve=None)

    assert job.speed.profiling.is_short
    assert job.speed.profiling.until == world.now + timeouts.PROFILING_SHORT
    world.settle()
    assert job.speed.points


def test_in_a_short_loan_one_worker_that_starts_slowly_is_not_waited_for_until_its_end(world):
    world.submit("busy", curve={4: 10.0}, deadline=world.now + 150)
    world.settle()
    world.is_quiet = True
    job = world.submit("new", curve=None)
    world.settle()
    while len(set(world.workers) - world.announced) != 1 or not job.speed.announce:
        world.ready(min(set(world.workers) - world.announced))
        world.settle()

    assert not job.speed.profiling.observed
    world.wait(timeouts.PROFILING_SHORT / 2 + 1)
    world.settle()

    assert 1 in job.speed.profiling.observed


def test_a_script_that_needs_longer_to_begin_is_not_failed_by_a_short_loan(world):
    busy = world.submit("busy", curve={4: 10.0}, deadline=world.now + 150)
    world.settle()
    world.is_quiet = True
    job = world.submit("new", curve=None)
    world.settle()
    assert job.speed.profiling.is_short

    world.wait(timeouts.PROFILING_SHORT + 2)

    assert (job.state, job.speed.needs_long_loan) == (State.SUBMITTED, True)
    assert busy.is_live
