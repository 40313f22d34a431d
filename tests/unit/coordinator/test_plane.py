"""The control plane as a fold: each job's way from its submission to its end."""

import pytest

from eflib.coordinator import timeouts
from eflib.coordinator.failures import DEATH_LIMIT, LEFT_EARLY, NO_TRAINER
from eflib.coordinator.job import ENDED, TRANSITIONS, State
from eflib.profiler import refine
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
    assert job.points == CURVE
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
    kept = [one for one in world.plane.take_effects() if one.kind == "curve"]
    assert [one.key for one in kept] == [job.job]
    assert {size: one.spread for size, one in job.observed.items()} == {1: 0.1, 2: 0.1, 4: 0.1}


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
    assert (job.state, job.points) == (State.RUNNING, CURVE)
    assert worker in world.workers  # the worker that was looked at trains on


def test_a_script_whose_known_curve_is_of_another_model_is_measured(world):
    job = world.submit(curve=None, expects_curve=True)
    world.settle()
    world.wait(2 * timeouts.ASK_AGAIN)
    world.settle()
    assert any("no curve is known for this model" in text for _, text in job.story)
    assert (job.state, job.points) == (State.RUNNING, CURVE)


def test_no_size_is_measured_while_workers_start_which_takes_cores(world):
    world.is_quiet = True
    job = world.submit(curve=None)
    world.settle()
    for coming in range(4):
        assert job.measuring.size == 0, f"is measured with {coming} of 4 workers started"
        world.ready(min(set(world.workers) - world.announced))
        world.settle()

    assert job.points == CURVE


def test_a_worker_that_does_not_start_does_not_keep_the_others_from_being_measured(world):
    world.is_quiet = True
    job = world.submit(curve=None)
    world.settle()
    for _ in range(3):
        world.ready(min(set(world.workers) - world.announced))
        world.settle()
    assert not job.measuring.observed
    world.wait(timeouts.PROFILING / 2 + 1)
    world.settle()

    assert set(job.measuring.observed) == {1, 2}


def test_a_script_that_starts_for_longer_than_half_the_loan_is_measured_beside_other_starts(world):
    world.is_quiet = True
    job = world.submit(curve=None)
    world.settle()
    world.wait(timeouts.PROFILING / 2 + 1)
    world.ready(next(iter(world.workers)))
    world.settle()

    assert set(job.measuring.observed) == {1}


def test_a_size_that_does_not_come_is_waited_for_within_a_bound(world):
    job = world.submit(curve=None)
    while not (job.measuring and 1 in job.measuring.observed):
        world.turn()
    world.tell_switched = lambda *_: None  # the next one is made, and never entered
    begin = world.now
    while job.state is State.PROFILING:
        world.wait(1.0)

    assert world.now - begin <= timeouts.MEASURING + 2
    assert set(job.points) == {1}


def test_a_run_of_efctl_profile_ends_with_the_curve(world):
    job = world.submit(curve=None, kind="profile")
    world.settle()
    assert (job.state, job.points) == (State.SUCCEEDED, CURVE)
    assert world.workers == {}


def test_measuring_goes_on_with_what_came_when_a_size_does_not(world):
    job = world.submit(curve=None)
    while 2 not in job.points and not (job.measuring and 1 in job.measuring.observed):
        world.turn()
    world.is_quiet = True
    for worker in [one for one in world.workers if one not in world.announced]:
        world.announced.add(worker)
    world.tell_switched = lambda *_: None  # no larger size is ever entered
    world.wait(timeouts.PROFILING + 1)
    assert job.state is not State.PROFILING
    assert 1 in job.points


def test_a_script_that_never_begins_to_train_fails_when_the_loan_is_over(world):
    world.is_quiet = True
    job = world.submit(curve=None)
    world.settle()
    world.wait(timeouts.PROFILING + 1)
    world.settle()
    assert job.state is State.FAILED
    assert "did not begin to train within 120 s" in job.reason
    assert world.workers == {}


def test_an_impossible_deadline_is_refused_with_the_earliest_that_is_not(world):
    job = world.submit(deadline=world.now + 5)
    world.settle()
    assert job.state is State.REJECTED
    assert job.earliest_deadline > world.now + 1000 / 34
    assert world.workers == {}
    document = world.plane.document(job, {}, world.now)
    assert document["earliest_deadline"] == job.earliest_deadline
    assert document["reason"]
    again = world.submit(deadline=job.earliest_deadline)
    world.settle()
    assert again.state is State.RUNNING


def test_a_deadline_of_another_shrinks_a_job_without_ending_its_workers(world):
    wide = world.submit("wide")
    world.settle()
    before = world.workers_of(wide)
    tight = world.submit("tight", deadline=world.now + 1000 / 19 * 1.1 + 25)
    world.settle()
    assert tight.state is State.RUNNING
    assert wide.state is State.RUNNING
    assert world.sizes()[wide.job] < 4
    assert set(world.workers_of(wide)) < set(before)
    world.finish(tight)
    world.settle()
    assert world.sizes()[wide.job] == 4
    assert wide.failures == []


def test_a_job_without_slots_is_paused_to_save_and_comes_back(world):
    job = world.submit("idle")
    world.settle()
    first = world.workers_of(job)
    world.tell("rescale", request="x", job=job.job, num_gpus=0)
    world.settle()
    assert job.state is State.PAUSED
    assert world.workers_of(job) == []
    assert world.saved == [job.job] * 4
    world.tell("rescale", request="y", job=job.job, num_gpus=None)
    world.settle()
    assert job.state is State.RUNNING
    assert len(world.workers_of(job)) == 4
    assert not set(world.workers_of(job)) & set(first)


def test_a_rescale_holds_the_size_until_it_is_given_back(world):
    job = world.submit()
    world.settle()
    for size in (1, 3, 2, 4):
        world.tell("rescale", request="x", job=job.job, num_gpus=size)
        world.settle()
        assert world.sizes()[job.job] == size
        assert world.replies()[-1] == {"job": job.job, "num_gpus": size, "target": size}
        assert job.pinned == size
    assert [(one["from"], one["to"]) for one in job.rescales] == [(4, 1), (1, 3), (3, 2), (2, 4)]


def test_a_survivor_of_every_rescale_keeps_its_process(world):
    job = world.submit()
    world.settle()
    for size in (1, 3, 2, 4):
        before = world.workers_of(job)
        world.tell("rescale", request="x", job=job.job, num_gpus=size)
        world.settle()
        after = world.workers_of(job)
        shorter = min(len(before), len(after))
        assert len(set(before) & set(after)) == shorter


@pytest.mark.parametrize("num_gpus", [5, 99, -1])
def test_a_rescale_that_cannot_be_is_refused_and_changes_nothing(world, num_gpus):
    job = world.submit()
    world.settle()
    world.tell("rescale", request="x", job=job.job, num_gpus=num_gpus)
    assert world.error()["code"] == "rescale-refused"
    assert str(num_gpus) in world.error()["problem"]
    world.settle()
    assert (job.pinned, world.sizes()[job.job]) == (None, 4)


def test_a_job_that_is_not_admitted_yet_cannot_be_rescaled(world):
    world.is_quiet = True
    job = world.submit(curve=None)
    world.tell("rescale", request="x", job=job.job, num_gpus=2)
    assert world.error()["problem"] == "job 'a' is profiling: it cannot be rescaled yet"


@pytest.mark.parametrize("kind", ["rescale", "cancel"])
def test_an_order_to_a_job_that_is_not_there_is_refused(world, kind):
    world.tell(kind, request="x", job="nobody", num_gpus=1)
    assert world.error()["problem"] == "there is no live job 'nobody'"
    assert world.error()["code"] == "usage"


def test_cancel_stops_the_workers_and_frees_the_slots(world):
    job, other = world.submit("a"), world.submit("b")
    world.settle()
    world.tell("cancel", request="x", job="a")
    assert job.state is State.CANCELLED
    world.settle()
    assert world.workers_of(job) == []
    assert world.sizes()[other.job] == 4
    world.tell("cancel", request="y", job="a")
    assert "has ended" in world.error()["problem"]


@pytest.mark.parametrize("quiet", [True, False])
def test_cancel_while_measuring_gives_the_slots_back(world, quiet):
    world.is_quiet = quiet
    job = world.submit(curve=None)
    world.turn()
    world.tell("cancel", request="x", job=job.job)
    world.is_quiet = False
    world.settle()
    assert job.state is State.CANCELLED
    assert world.workers == {}
    other = world.submit("b")
    world.settle()
    assert world.sizes()[other.job] == 4


def test_a_job_is_found_by_id_or_as_the_newest_live_one_of_its_name(world):
    first = world.submit("a")
    second = world.submit("a")
    assert world.plane.find(first.job) is first
    world.now += 1
    assert world.plane.find("a").name == "a"
    world.tell("cancel", request="x", job=second.job)
    assert world.plane.find("a") is first
    assert world.plane.find("b") is None


def test_a_job_without_a_node_says_so_and_starts_when_one_joins():
    world = World(nodes=())
    job = world.submit()
    assert job.reason == "waits for a node: none has joined yet"
    world.settle()
    world.join("n0", 2)
    world.settle()
    assert (job.state, world.sizes()[job.job]) == (State.RUNNING, 2)


def test_a_node_that_joins_is_used_and_one_that_leaves_is_left(world):
    job = world.submit(curve={1: 10.0, 2: 19.0, 4: 34.0, 8: 60.0})
    world.settle()
    world.join("n1", 4)
    world.settle()
    assert world.sizes()[job.job] == 8
    for worker in [one for one, held in world.workers.items() if held["node"] == "n1"]:
        world.kill(worker)
    world.tell("node_left", node="n1")
    world.settle()
    assert (job.state, world.sizes()[job.job]) == (State.RUNNING, 4)


def test_a_lost_node_takes_its_workers_with_it(world):
    job = world.submit(curve={1: 10.0, 2: 19.0, 4: 34.0, 8: 60.0})
    world.join("n1", 4)
    world.settle()
    kept = [one for one, held in world.workers.items() if held["node"] == "n0"]
    for worker in set(world.workers) - set(kept):
        del world.workers[worker]
    world.tell("node_lost", node="n1")
    world.settle()
    assert set(world.workers) == set(kept)
    assert (job.state, world.sizes()[job.job]) == (State.RUNNING, 4)


def test_the_only_node_lost_in_training_pauses_the_job_until_one_joins(world):
    job = world.submit()
    world.settle()
    world.workers.clear()
    world.tell("node_lost", node="n0")
    world.settle()
    assert job.is_live
    assert world.sizes()[job.job] in (0, 4)
    world.join("n1", 2)
    world.settle()
    assert (job.state, world.sizes()[job.job]) == (State.RUNNING, 2)


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
    assert {held["node"] for held in world.workers.values()} == {"n1"}


# Failures -----------------------------------------------------------------------------------------


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
    assert (job.error["message"], job.error["exitcode"]) == ("ValueError: no data", 1)
    assert job.error["log"].endswith(f"{worker}.log")
    assert world.workers == {}


def test_an_exception_while_measuring_fails_the_job_with_its_message(world):
    world.is_quiet = True
    job = world.submit(curve=None)
    world.settle()
    world.exit(next(iter(world.workers)), exitcode=1, error={"message": "ImportError: x"})
    world.settle()
    assert (job.state, job.error["message"]) == (State.FAILED, "ImportError: x")


def test_a_worker_killed_while_measuring_is_no_fault_of_the_script(world):
    job = world.submit(curve=None)
    world.turn()
    world.kill(next(iter(world.workers)))
    assert job.state is State.SUBMITTED
    world.settle()
    world.wait(2 * timeouts.ASK_AGAIN)
    world.settle()
    assert (job.state, job.points) == (State.RUNNING, CURVE)


def test_a_script_that_is_killed_each_time_it_is_measured_fails(world):
    world.is_quiet = True
    job = world.submit(curve=None)
    for _ in range(3):
        assert job.is_live
        world.wait(2 * timeouts.ASK_AGAIN)
        world.settle()
        world.kill(next(iter(world.workers)))
    assert (job.state, job.error["message"]) == (State.FAILED, "killed by SIGKILL")


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
    assert job.failures[0]["message"] == "killed by SIGKILL"
    assert job.failures[0]["rank"] == 2


def test_an_exception_of_one_worker_in_training_is_survived_twice_and_ends_the_job_then(world):
    job = world.submit()
    world.settle()
    for times in (1, 2, 3):
        assert job.state is State.RUNNING
        worker = world.workers_of(job)[-1]
        world.exit(worker, exitcode=1, error={"message": "RuntimeError: bad sample"})
        world.settle()
        assert len(job.failures) == times
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
def test_so_many_deaths_end_a_job_only_if_it_comes_no_further(world, comes_further):
    job = world.submit()
    world.settle()
    for number in range(DEATH_LIMIT):
        assert job.state is State.RUNNING
        world.kill(world.workers_of(job)[-1])
        world.settle()
        if comes_further:
            progress = {"global_step": 10 + number}
            world.tell("progress", job=job.job, progress=progress)
    assert job.state is (State.RUNNING if comes_further else State.FAILED)


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
    records = {one.key: one.body for one in world.plane.take_effects() if one.kind == "exit"}
    assert set(records) == lost
    assert {one["error"]["message"] for one in records.values()} == {
        "lost with node n0, which gave no sign of life"
    }


def test_a_worker_that_ends_in_training_with_exit_code_0_is_a_failure(world):
    job = world.submit()
    world.settle()
    world.exit(world.workers_of(job)[3])
    assert job.failures[0]["message"] == LEFT_EARLY
    world.settle()
    assert job.state is State.RUNNING


def test_a_failure_after_the_last_step_fails_the_job(world):
    job = world.submit()
    world.settle()
    world.tell("finished", job=job.job, generation=1, step=1000)
    world.exit(world.workers_of(job)[0], exitcode=1, error={"message": "OSError: no space"})
    world.settle()
    assert (job.state, job.error["message"]) == (State.FAILED, "OSError: no space")


@pytest.mark.parametrize("curve", [None, CURVE], ids=["to be measured", "known"])
def test_a_job_that_does_not_train_yet_cannot_finish(world, curve):
    world.is_quiet = True
    job = world.submit(curve=curve)
    world.turn()
    world.tell("finished", job=job.job, generation=1, step=1000)
    assert job.finished_step is None
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
    assert job.ended == world.now


# Progress -----------------------------------------------------------------------------------------


def progress(world, job, rate, step=10):
    size = job.members.settled.world_size
    document = {"global_step": step, "world_size": size, "steps_per_s": rate}
    world.tell("progress", job=job.job, progress=document)


def test_a_curve_is_corrected_by_live_steps_that_differ_long_enough(world):
    job = world.submit()
    world.settle()
    for _ in range(refine.PATIENCE - 1):
        progress(world, job, 17.0)
        assert job.points == CURVE
    progress(world, job, 17.0)
    assert job.points == pytest.approx({1: 5.0, 2: 9.5, 4: 17.0})


def test_one_slow_moment_corrects_nothing(world):
    job = world.submit()
    world.settle()
    for rate in (17.0, 17.0, 33.0, 17.0, 17.0):
        progress(world, job, rate)
    assert job.points == CURVE


def test_progress_moves_the_projected_finish(world):
    job = world.submit(deadline=world.now + 500)
    world.settle()
    before = world.plane.document(job, {}, world.now)["projected_finish"]
    progress(world, job, None, step=900)
    after = world.plane.document(job, {}, world.now)
    assert after["projected_finish"] < before
    assert after["slack_s"] == pytest.approx(job.request["deadline"] - after["projected_finish"])


# Laws of the table and of what is told ------------------------------------------------------------


def test_every_state_can_be_reached_and_those_that_end_have_no_way_on():
    reached = {State.SUBMITTED} | {state for moves in TRANSITIONS.values() for state in moves}
    assert set(TRANSITIONS) == set(State) == reached
    assert {state for state, moves in TRANSITIONS.items() if not moves} == ENDED


def test_an_illegal_move_is_refused(world):
    job = world.submit()
    job.state = State.SUCCEEDED
    with pytest.raises(ValueError, match="no way from SUCCEEDED to RUNNING"):
        job.move(State.RUNNING, "", world.now)


def test_an_input_of_no_known_type_is_not_taken(world):
    assert world.plane.handle({"type": "gossip"}, world.now) is False
    assert world.plane.handle({}, world.now) is False


def test_a_document_has_what_efctl_status_promises(world):
    job = world.submit(deadline=world.now + 500)
    world.settle()
    wanted = "job state world_size generation global_step max_steps steps_per_s deadline"
    wanted += " projected_finish slack_s reason"
    document = world.plane.document(job, {"global_step": 7, "steps_per_s": 3.0}, world.now)
    assert set(wanted.split()) <= set(document)
    assert (document["state"], document["world_size"], document["generation"]) == ("RUNNING", 4, 1)
    assert (document["global_step"], document["max_steps"]) == (7, 1000)
    assert len(document["workers"]) == len(document["slots"]) == 4


def test_an_assignment_names_node_ranks_and_folders(world):
    job = world.submit()
    world.settle()
    assigned = world.plane.assignments()["n0"]
    assert sorted(one["local_rank"] for one in assigned) == [0, 1, 2, 3]
    assert sorted(one["slot"] for one in assigned) == [0, 1, 2, 3]
    assert {one["local_world_size"] for one in assigned} == {4}
    assert {one["log_dir"] for one in assigned} == {f"/home/jobs/{job.job}/logs"}
    assert {one["checkpoint_dir"] for one in assigned} == {f"/home/jobs/{job.job}/checkpoints"}
    assert {(one["master_addr"], one["master_port"]) for one in assigned} == {("n0", 29500)}


# What is guessed ----------------------------------------------------------------------------------


def planned(world, job):
    """Return the curve that the scheduler plans with."""
    return dict(world.plane.scheduler.book.jobs[job.job].curve.points)


def test_sizes_that_could_not_be_measured_are_guessed_and_planned_with_a_margin(world):
    world.submit("wide", curve={1: 1.0, 2: 2.0}, deadline=world.now + 600)  # takes two for good
    world.settle()
    job = world.submit("new", curve=None)
    world.settle()

    assert set(job.points) == {1, 2}
    guess = job.guessed[4]
    assert 19.0 < guess.steps_per_s < 38.0
    assert planned(world, job) == {**job.points, 4: pytest.approx(guess.cautious)}
    document = world.plane.document(job, {}, world.now)
    assert document["curve"] == {"1": 10.0, "2": 19.0}
    assert document["curve_guesses"]["4"]["margin"] > 0.03


def test_a_curve_that_a_person_gave_is_not_added_to(world):
    job = world.submit(curve={1: 10.0, 2: 19.0})
    world.settle()
    world.join("n1", 4)

    assert job.guessed == {}
    assert planned(world, job) == {1: 10.0, 2: 19.0}


def test_a_node_that_joins_lets_a_measured_job_grow_beyond_what_was_measured(world):
    job = world.submit(curve=None)
    world.settle()
    world.join("n1", 4)

    assert job.points == CURVE
    assert set(planned(world, job)) == {1, 2, 4, 8}


def test_live_steps_at_a_guessed_size_are_its_measurement_from_then_on(world):
    job = world.submit(curve=None)
    world.settle()
    world.join("n1", 4)
    world.settle()
    assert job.members.settled.world_size == 8
    world.plane.take_effects()
    for _ in range(refine.PATIENCE):
        assert 8 in job.guessed
        progress(world, job, job.guessed[8].steps_per_s)  # no drift, and known for sure now

    assert 8 not in job.guessed
    assert planned(world, job)[8] == job.points[8]
    assert [one.kind for one in world.plane.take_effects()] == ["curve"]


def test_reports_in_a_row_are_of_one_size(world):
    job = world.submit(curve=None)
    world.settle()
    for _ in range(refine.PATIENCE - 1):
        progress(world, job, 2 * job.points[4])
    assert job.deviations == refine.PATIENCE - 1
    world.join("n1", 4)
    world.settle()

    assert job.members.settled.world_size == 8
    assert job.deviations == 0


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

    assert set(job.points) == {1, 2}
    assert set(job.guessed) == {4}
    assert any("leaves out 4" in text for _, text in job.story)
    assert job.document(None, {}, world.now)["measuring_s"] == 6.0


def test_what_a_person_asks_to_be_profiled_is_measured_at_every_size(world):
    job = measured_slowly(world, world.submit(curve=None, kind="profile"), seconds=3.0)

    assert job.points == CURVE


def test_measuring_costs_a_longer_job_little_and_is_not_cut_short(world):
    job = measured_slowly(world, world.submit(curve=None), seconds=0.5)

    assert job.points == CURVE


# Slots to measure with ----------------------------------------------------------------------------


def test_slots_that_promises_spare_for_a_short_time_alone_are_lent_for_that_time(world):
    """For two minutes the running job cannot do without its slots; for twenty seconds it can."""
    world.submit("busy", curve={4: 10.0}, deadline=world.now + 150)
    world.settle()
    job = world.submit("new", curve=None)

    assert job.measuring.is_short
    assert job.measuring.until == world.now + timeouts.PROFILING_SHORT
    world.settle()
    assert job.points


def test_in_a_short_loan_one_worker_that_starts_slowly_is_not_waited_for_until_its_end(world):
    world.submit("busy", curve={4: 10.0}, deadline=world.now + 150)
    world.settle()
    world.is_quiet = True
    job = world.submit("new", curve=None)
    world.settle()
    while len(set(world.workers) - world.announced) != 1 or not job.announce:
        world.ready(min(set(world.workers) - world.announced))
        world.settle()

    assert not job.measuring.observed
    world.wait(timeouts.PROFILING_SHORT / 2 + 1)
    world.settle()

    assert 1 in job.measuring.observed


def test_a_script_that_needs_longer_to_begin_is_not_failed_by_a_short_loan(world):
    busy = world.submit("busy", curve={4: 10.0}, deadline=world.now + 150)
    world.settle()
    world.is_quiet = True
    job = world.submit("new", curve=None)
    world.settle()
    assert job.measuring.is_short

    world.wait(timeouts.PROFILING_SHORT + 2)

    assert (job.state, job.needs_long_loan) == (State.SUBMITTED, True)
    assert busy.is_live
