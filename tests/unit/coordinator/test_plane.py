"""The control plane as a fold: sizes, requests and nodes."""

import pytest

from eflib.coordinator import timeouts
from eflib.coordinator.job import ENDED, TRANSITIONS, State
from eflib.coordinator.requests import find
from eflib.messages.records import Progress
from eflib.messages.replies import Reply
from tests.unit.coordinator.world import World


@pytest.fixture
def world():
    return World()


def test_a_size_that_does_not_come_is_waited_for_within_a_bound(world):
    job = world.submit(curve=None)
    while not (job.speed.profiling and 1 in job.speed.profiling.observed):
        world.turn()
    world.tell_switched = lambda *_: None  # the next one is made, and never entered
    begin = world.now
    while job.state is State.PROFILING:
        world.wait(1.0)

    assert world.now - begin <= timeouts.MEASURING + 2
    assert set(job.speed.points) == {1}


def test_an_impossible_deadline_is_refused_with_the_earliest_that_is_not(world):
    job = world.submit(deadline=world.now + 5)
    world.settle()
    assert job.state is State.REJECTED
    assert job.run.earliest_deadline > world.now + 1000 / 34
    assert world.workers == {}
    document = world.plane.status(job, None, world.now)
    assert document.earliest_deadline == job.run.earliest_deadline
    assert document.reason
    again = world.submit(deadline=job.run.earliest_deadline)
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
    assert wide.run.failures == []


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
        world.tell("rescale", request=f"x{size}", job=job.job, num_gpus=size)
        world.settle()
        assert world.sizes()[job.job] == size
        assert world.replies()[-1] == Reply(job=job.job, num_gpus=size, target=size)
        assert job.run.pinned == size
    assert [(one.from_, one.to) for one in job.run.rescales] == [(4, 1), (1, 3), (3, 2), (2, 4)]


def test_a_survivor_of_every_rescale_keeps_its_process(world):
    job = world.submit()
    world.settle()
    for size in (1, 3, 2, 4):
        before = world.workers_of(job)
        world.tell("rescale", request=f"x{size}", job=job.job, num_gpus=size)
        world.settle()
        after = world.workers_of(job)
        shorter = min(len(before), len(after))
        assert len(set(before) & set(after)) == shorter


@pytest.mark.parametrize("num_gpus", [5, 99, -1])
def test_a_rescale_that_cannot_be_is_refused_and_changes_nothing(world, num_gpus):
    job = world.submit()
    world.settle()
    world.tell("rescale", request="x", job=job.job, num_gpus=num_gpus)
    assert world.error().code == "rescale-refused"
    assert str(num_gpus) in world.error().problem
    world.settle()
    assert (job.run.pinned, world.sizes()[job.job]) == (None, 4)


def test_a_job_that_is_not_admitted_yet_cannot_be_rescaled(world):
    world.is_quiet = True
    job = world.submit(curve=None)
    world.tell("rescale", request="x", job=job.job, num_gpus=2)
    assert world.error().problem == "job 'a' is profiling: it cannot be rescaled yet"


@pytest.mark.parametrize("kind", ["rescale", "cancel"])
def test_an_order_to_a_job_that_is_not_there_is_refused(world, kind):
    world.tell(kind, request="x", job="nobody", num_gpus=1)
    assert world.error().problem == "there is no running job 'nobody'"
    assert world.error().code == "usage"


def test_cancel_stops_the_workers_and_frees_the_slots(world):
    job, other = world.submit("a"), world.submit("b")
    world.settle()
    world.tell("cancel", request="x", job="a")
    assert job.state is State.CANCELLED
    world.settle()
    assert world.workers_of(job) == []
    assert world.sizes()[other.job] == 4
    world.tell("cancel", request="y", job="a")
    assert "has ended" in world.error().problem


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
    assert find(world.plane.jobs, first.job) is first
    world.now += 1
    assert find(world.plane.jobs, "a").name == "a"
    world.tell("cancel", request="x", job=second.job)
    assert find(world.plane.jobs, "a") is first
    assert find(world.plane.jobs, "b") is None


def test_a_job_without_a_node_says_so_and_starts_when_one_joins():
    world = World(nodes=())
    job = world.submit()
    assert job.reason == "waiting for a node: none has joined yet"
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
    for worker in [one for one in world.workers if world.node_of[one] == "n1"]:
        world.kill(worker)
    world.tell("node_left", node="n1")
    world.settle()
    assert (job.state, world.sizes()[job.job]) == (State.RUNNING, 4)


def test_a_lost_node_takes_its_workers_with_it(world):
    job = world.submit(curve={1: 10.0, 2: 19.0, 4: 34.0, 8: 60.0})
    world.join("n1", 4)
    world.settle()
    kept = [one for one in world.workers if world.node_of[one] == "n0"]
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


def test_every_state_can_be_reached_and_those_that_end_have_no_way_on():
    reached = {State.SUBMITTED} | {state for moves in TRANSITIONS.values() for state in moves}
    assert set(TRANSITIONS) == set(State) == reached
    assert {state for state, moves in TRANSITIONS.items() if not moves} == ENDED


def test_an_illegal_move_is_refused(world):
    job = world.submit()
    job.state = State.SUCCEEDED
    with pytest.raises(ValueError, match="no way from SUCCEEDED to RUNNING"):
        job.move(State.RUNNING, "", world.now)


def test_a_document_has_what_efctl_status_promises(world):
    job = world.submit(deadline=world.now + 500)
    world.settle()
    document = world.plane.status(job, Progress(global_step=7, steps_per_s=3.0), world.now)
    assert (document.state, document.world_size, document.generation) == ("RUNNING", 4, 1)
    assert (document.global_step, document.max_steps) == (7, 1000)
    assert len(document.workers) == len(document.slots) == 4


def test_an_assignment_names_node_ranks_and_folders(world):
    job = world.submit()
    world.settle()
    assigned = world.plane.assignments()["n0"]
    assert sorted(one.local_rank for one in assigned) == [0, 1, 2, 3]
    assert sorted(one.slot for one in assigned) == [0, 1, 2, 3]
    assert {one.local_world_size for one in assigned} == {4}
    assert {one.log_dir for one in assigned} == {f"/home/jobs/{job.job}/logs"}
    assert {one.checkpoint_dir for one in assigned} == {f"/home/jobs/{job.job}/checkpoints"}
    assert {(one.master_addr, one.master_port) for one in assigned} == {("n0", 29500)}
