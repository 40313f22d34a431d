"""Workers that fail, die or end early, and what becomes of their job."""

import pytest

from eflib.coordinator import timeouts
from eflib.coordinator.effects import RecordExit
from eflib.coordinator.failures import (
    CRASH_LIMIT,
    LEFT_EARLY,
    NO_STEP_LIMIT,
    NO_TRAINER,
    SAME_PLACE_LIMIT,
)
from eflib.coordinator.job import State
from tests.unit.coordinator.world import CURVE, World


@pytest.fixture
def world():
    return World()


def test_an_exception_before_training_fails_the_job_with_its_message(world):
    world.is_quiet = True
    job = world.submit()
    world.settle()
    worker = next(iter(world.workers))
    error = {"message": "ValueError: no data", "traceback": "Traceback ..."}
    world.exit(worker, exitcode=1, error=error)
    world.settle()
    assert job.state is State.FAILED
    assert "ValueError: no data" in job.reason
    assert (job.run.error.message, job.run.error.exitcode) == ("ValueError: no data", 1)
    assert job.run.error.log.endswith(f"{worker}.log")
    assert world.workers == {}


def test_an_exception_while_measuring_fails_the_job_with_its_message(world):
    world.is_quiet = True
    job = world.submit(curve=None)
    world.settle()
    world.exit(next(iter(world.workers)), exitcode=1, error={"message": "ImportError: x"})
    world.settle()
    assert (job.state, job.run.error.message) == (State.FAILED, "ImportError: x")


def test_a_worker_killed_while_measuring_is_no_fault_of_the_script(world):
    job = world.submit(curve=None)
    world.turn()
    world.kill(next(iter(world.workers)))
    assert job.state is State.SUBMITTED
    world.settle()
    world.wait(2 * timeouts.ASK_AGAIN)
    world.settle()
    assert (job.state, job.speed.points) == (State.RUNNING, CURVE)


def test_a_script_that_is_killed_each_time_it_is_measured_fails(world):
    world.is_quiet = True
    job = world.submit(curve=None)
    for _ in range(3):
        assert job.is_live
        world.wait(2 * timeouts.ASK_AGAIN)
        world.settle()
        world.kill(next(iter(world.workers)))
    assert (job.state, job.run.error.message) == (State.FAILED, "killed by SIGKILL")


def test_a_node_that_leaves_in_order_while_a_job_is_measured_does_not_fail_it(world):
    job = world.submit(curve=None)
    world.turn()
    for worker in list(world.workers):
        world.exit(worker, number="SIGTERM")
    world.tell("node_left", node="n0")
    world.join("n1", 4)
    world.wait(2 * timeouts.ASK_AGAIN)
    world.settle()
    assert job.state is State.RUNNING


def test_a_script_that_ends_without_a_trainer_says_so(world):
    world.is_quiet = True
    job = world.submit(curve=None)
    world.settle()
    world.exit(next(iter(world.workers)))
    world.settle()
    assert job.state is State.FAILED
    assert job.reason == f"rank 0 on n0: {NO_TRAINER}"


def test_a_worker_killed_by_a_signal_is_replaced(world):
    job = world.submit()
    world.settle()
    victim = world.workers_of(job)[2]
    world.kill(victim)
    assert job.state is State.RUNNING
    world.settle()
    assert (job.state, world.sizes()[job.job]) == (State.RUNNING, 4)
    assert victim not in world.workers
    assert job.run.failures[0].message == "killed by SIGKILL"
    assert job.run.failures[0].rank == 2


def test_an_exception_of_one_worker_in_training_is_survived_twice_and_ends_the_job_then(world):
    job = world.submit()
    world.settle()
    for times in (1, 2, 3):
        assert job.state is State.RUNNING
        worker = world.workers_of(job)[-1]
        world.exit(worker, exitcode=1, error={"message": "RuntimeError: bad sample"})
        world.settle()
        assert len(job.run.failures) == times
    assert job.state is State.FAILED
    assert "RuntimeError: bad sample" in job.reason
    assert world.workers == {}


def test_all_workers_killed_at_once_start_again_from_their_checkpoint(world):
    job = world.submit()
    world.settle()
    for worker in world.workers_of(job):
        world.kill(worker)
    assert job.is_live
    world.settle()
    assert (job.state, world.sizes()[job.job]) == (State.RUNNING, 4)


def test_all_workers_with_an_exception_start_again_and_the_third_time_ends_the_job(world):
    job = world.submit()
    world.settle()
    for _ in range(3):
        assert job.state is State.RUNNING
        for place, worker in enumerate(world.workers_of(job)):
            if worker in world.workers:
                world.exit(worker, exitcode=1, error={"message": f"KeyError: {place}"})
        world.settle()
    assert job.state is State.FAILED
    assert job.reason == "rank 0 on n0: KeyError: 0"


def test_a_step_that_hangs_three_times_ends_the_job_and_a_frozen_worker_does_not(world):
    job = world.submit()
    world.settle()
    for _ in range(5):
        world.hang(world.workers_of(job)[1], "silent", "hung: gave no sign of life for 10 s")
        world.settle()
    assert job.state is State.RUNNING
    assert "rank 1 on n0: hung: gave no sign of life for 10 s" in [text for _, text in job.story]
    for _ in range(3):
        assert job.state is State.RUNNING
        world.hang(world.workers_of(job)[-1], "step", "hung: computed in one step for ...")
        world.settle()
    assert (job.state, job.reason) == (
        State.FAILED,
        "rank 3 on n0: hung: computed in one step for ...",
    )


@pytest.mark.parametrize("comes_further", [True, False])
def test_generations_that_bring_no_step_end_a_job_only_if_it_comes_no_further(world, comes_further):
    job = world.submit()
    world.settle()
    for number in range(NO_STEP_LIMIT):
        assert job.state is State.RUNNING
        world.kill(world.workers_of(job)[-1])
        world.settle()
        if comes_further:
            progress = {"global_step": 10 + number}
            world.tell("progress", job=job.job, progress=progress)
    assert job.state is (State.RUNNING if comes_further else State.FAILED)


def test_a_job_that_came_no_further_fails_with_what_was_raised_first(world):
    job = world.submit()
    world.settle()
    for number in range(NO_STEP_LIMIT):
        assert job.state is State.RUNNING
        if number == 7:
            world.exit(world.workers_of(job)[-1], exitcode=1, error={"message": "KeyError: 7"})
        else:
            world.kill(world.workers_of(job)[-1])
        world.settle()
    assert (job.state, job.reason) == (State.FAILED, "rank 3 on n0: KeyError: 7")


def raised(words):
    return {"message": words, "traceback": f'Traceback:\n  File "s.py", line 3\n    f()\n{words}\n'}


def test_a_keyboard_interrupt_is_an_error_of_the_script_though_a_signal_ends_the_process(world):
    job = world.submit()
    world.settle()
    for _ in range(3):
        assert job.state is State.RUNNING
        worker = world.workers_of(job)[-1]
        world.exit(worker, number="SIGINT", error=raised("KeyboardInterrupt"))
        world.settle()
    assert (job.state, job.reason) == (State.FAILED, "rank 3 on n0: KeyboardInterrupt")


@pytest.mark.parametrize(("number", "ends"), [("SIGABRT", True), ("SIGKILL", False)])
def test_the_same_crash_again_and_again_ends_the_job_and_kills_from_outside_do_not(
    world, number, ends
):
    job = world.submit()
    world.settle()
    for step in range(CRASH_LIMIT):
        assert job.state is State.RUNNING
        world.exit(world.workers_of(job)[-1], number=number)
        world.settle()
        world.tell("progress", job=job.job, progress={"global_step": 10 + step})
    assert job.state is (State.FAILED if ends else State.RUNNING)


def test_an_error_at_the_same_place_is_the_same_whatever_it_says(world):
    job = world.submit()
    world.settle()
    for number in range(SAME_PLACE_LIMIT):
        assert job.state is State.RUNNING
        worker = world.workers_of(job)[-1]
        world.exit(worker, exitcode=1, error=raised(f"ValueError: loss is {number}"))
        world.settle()
        world.tell("progress", job=job.job, progress={"global_step": 10 + number})
    assert (job.state, job.reason) == (State.FAILED, "rank 3 on n0: ValueError: loss is 0")


def test_a_worker_that_dies_after_the_last_step_matters_only_if_it_is_rank_0(world):
    job = world.submit()
    world.settle()
    workers = world.workers_of(job)
    world.tell("finished", job=job.job, generation=1, step=1000)
    world.tell("finished", job=job.job, generation=2, step=1000)
    world.kill(workers[2])
    for worker in (workers[0], workers[1], workers[3]):
        world.exit(worker)
    world.settle()
    assert job.state is State.SUCCEEDED
    assert [text for _, text in job.story].count("training ended at step 1000") == 1


def test_the_workers_of_a_lost_node_get_an_exit_on_record_for_their_peers(world):
    job = world.submit()
    world.settle()
    lost = set(world.workers_of(job))
    world.plane.take_effects()
    world.tell("node_lost", node="n0")
    effects = world.plane.take_effects()
    records = [one.record for one in effects if isinstance(one, RecordExit)]
    assert {one.worker for one in records} == lost
    assert {one.error.message for one in records} == {
        "lost with node n0, which gave no sign of life"
    }


def test_a_worker_that_ends_in_training_with_exit_code_0_is_a_failure(world):
    job = world.submit()
    world.settle()
    world.exit(world.workers_of(job)[3])
    assert job.run.failures[0].message == LEFT_EARLY
    world.settle()
    assert job.state is State.RUNNING


def test_a_failure_after_the_last_step_fails_the_job(world):
    job = world.submit()
    world.settle()
    world.tell("finished", job=job.job, generation=1, step=1000)
    world.exit(world.workers_of(job)[0], exitcode=1, error={"message": "OSError: no space"})
    world.settle()
    assert (job.state, job.run.error.message) == (State.FAILED, "OSError: no space")


@pytest.mark.parametrize("curve", [None, CURVE], ids=["to be measured", "known"])
def test_a_job_that_does_not_train_yet_cannot_finish(world, curve):
    world.is_quiet = True
    job = world.submit(curve=curve)
    world.turn()
    world.tell("finished", job=job.job, generation=1, step=1000)
    assert job.run.finished_step is None
    world.is_quiet = False
    world.settle()
    assert job.state is State.RUNNING


def test_a_job_succeeds_once_its_last_worker_has_gone(world):
    job = world.submit()
    world.settle()
    world.tell("finished", job=job.job, generation=1, step=1000)
    *early, last = world.workers_of(job)
    for worker in early:
        world.exit(worker)
    world.settle()
    assert job.state is State.RUNNING
    world.exit(last)
    assert job.state is State.SUCCEEDED
    assert job.run.ended == world.now
