"""Laws of a job's membership under any order of events, and of the fold that hosts it."""

import copy
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eflib.coordinator import timeouts
from eflib.coordinator.attention import is_calm
from eflib.coordinator.coordinator import SETTINGS
from eflib.coordinator.membership import Membership, Stage
from eflib.coordinator.plane import ControlPlane
from eflib.coordinator.proposing import proposal
from eflib.coordinator.snapshot import Snapshot
from eflib.messages.codec import decode, encode
from eflib.messages.generations import PAUSE, STOP, TRAIN
from eflib.messages.inbox import NodeLeft, WorkerExited, WorkerStarted
from eflib.messages.journal import GenerationMade
from eflib.scheduling import Gpu
from tests.unit.coordinator.world import ANNOUNCE, World, again, fold, picture

LAWS = settings(derandomize=True, deadline=None, max_examples=120, stateful_step_count=30)
GPUS = tuple(Gpu("n0", index) for index in range(4))


class Walk:
    """A membership under random events; its laws are checked after each."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.members = Membership("a")
        self.now = 0.0
        self.num_calm = 0
        self.story = []
        self.acts = [self.aim, self.ready, self.ready, self.enter, self.enter, self.leave]
        self.acts += [self.leave, self.make, self.make, self.step, self.wait, self.die]
        self.acts += [self.pause, self.obey]

    def run(self, num_events, acts=None):
        for _ in range(num_events):
            act = self.random.choice(acts or self.acts)
            self.story.append(act.__name__)
            act()
            self.check()

    def seat(self, fits):
        found = [seat for seat in self.members.seats.values() if fits(seat)]
        return self.random.choice(found) if found else None

    # Events --------------------------------------------------------------------------------------

    def aim(self):
        self.members.ending = ""
        size = self.random.choice([1, 1, 2, 3, 4])
        self.members.aim(tuple(self.random.sample(GPUS, size)))
        self.step()

    def pause(self):
        self.members.ending = PAUSE
        self.members.aim(())
        self.step()

    def ready(self):
        seat = self.seat(lambda one: one.stage is Stage.STARTING)
        if seat:
            self.members.ready(seat.worker, self.now)

    def enter(self):
        self.members.switched(self.members.newest.number, self.now)

    def leave(self):
        seat = self.seat(lambda one: one.stage is Stage.MEMBER and not self.members.is_member(one))
        if seat:
            self.members.exited(seat.worker)

    def obey(self):
        seat = self.seat(lambda one: one.is_alive and one.dismissed)
        if seat:
            self.members.exited(seat.worker)

    def die(self):
        seat = self.seat(lambda one: one.is_alive)
        if seat and self.random.random() < 0.3:
            self.members.exited(seat.worker)

    def wait(self):
        self.now += self.random.choice([0.1, 1.0, timeouts.HANDOVER, timeouts.LEAVERS, 61.0])
        self.step()

    def step(self):
        self.members.step(self.now)
        assert not self.members.step(self.now), f"a second step changed something: {self.where()}"

    def make(self):
        before = self.members.newest
        made = proposal(self.members, self.now, lambda gpu: True, lambda node: (node, 1))
        if made is not None:
            self.check_proposal(before, made)
            self.members.saw(made, self.now)

    # Laws ----------------------------------------------------------------------------------------

    def where(self):
        return f"after {self.story}"

    def check(self):
        of_gpu = Counter(
            (seat.gpu, seat.stage is Stage.MEMBER and not self.members.is_member(seat))
            for seat in self.members.wanted()
        )
        joining = {gpu: count for (gpu, leaves), count in of_gpu.items() if not leaves}
        assert max(joining.values(), default=0) <= 2, self.where()
        self.check_calm()
        for gpu in joining:
            members = [
                seat
                for seat in self.members.wanted()
                if seat.gpu == gpu and self.members.is_member(seat)
            ]
            assert len(members) <= 1, f"two members on {gpu} {self.where()}"

    def check_calm(self):
        """Whoever is left in peace has nothing to do, however long it is left."""
        if not is_calm(self.members):
            return
        twin = copy.deepcopy(self.members)
        for later in (0.0, 10.0, 1000.0):
            assert not twin.step(self.now + later), self.where()
            made = proposal(twin, self.now + later, lambda gpu: True, lambda node: (node, 1))
            assert made is None, self.where()
        self.num_calm += 1

    def check_bounds(self):
        """Nothing of what is over is kept, however often the size changed."""
        self.members.step(self.now)
        members = len(self.members.settled.members) + len(self.members.newest.members)
        assert len(self.members.seats) <= len(self.members.alive()) + members, self.where()
        assert min(self.members.known, default=0) >= self.members.settled.number, self.where()

    def check_proposal(self, before, made):
        where = f"{made} after {before} {self.where()}"
        assert made.number == before.number + 1, where
        names = [one.worker for one in made.members]
        slots = [one.slot for one in made.members]
        assert len(set(names)) == len(names), where
        assert len(set(slots)) == len(slots), f"two ranks on one GPU: {where}"
        seats = [self.members.seats[name] for name in names]
        assert all(seat.is_alive and not seat.dismissed for seat in seats), where
        assert all(seat.stage is not Stage.STARTING for seat in seats), where
        stateful = [
            one.worker
            for one in self.members.settled.members
            if self.members.seats[one.worker].is_alive
            and not self.members.seats[one.worker].dismissed
        ]
        if made.members:
            assert made.action == TRAIN, where
            assert not stateful or names[0] in stateful, f"the state is dropped: {where}"
            all_alive = all(self.members.seats[one.worker].is_alive for one in before.members)
            entering = self.members.settled != before
            assert not (entering and all_alive), f"made while entering: {where}"
        else:
            assert made.action in (PAUSE, STOP), where
            assert self.members.ending or not self.members.target, where


@LAWS
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_no_order_of_events_breaks_a_law_of_membership(seed, num_events):
    walk = Walk(seed)
    walk.run(num_events)
    walk.check_bounds()


@LAWS
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 4))
def test_after_any_events_a_job_comes_to_the_size_that_is_asked(seed, num_events, size):
    walk = Walk(seed)
    walk.run(num_events)
    walk.members.ending = ""
    walk.members.aim(GPUS[:size])
    for _ in range(12):
        walk.step()
        for seat in walk.members.alive():
            if seat.stage is Stage.STARTING and not seat.dismissed:
                walk.members.ready(seat.worker, walk.now)
        walk.make()
        walk.enter()
        for seat in walk.members.alive():
            left = seat.stage is Stage.MEMBER and not walk.members.is_member(seat)
            if seat.dismissed or left:
                walk.members.exited(seat.worker)
        walk.check()
    newest = walk.members.newest
    assert sorted(one.slot for one in newest.members) == list(range(size)), walk.where()
    assert walk.members.settled == newest
    assert len(walk.members.alive()) == size
    assert is_calm(walk.members)


# The fold ----------------------------------------------------------------------------------------


def random_world(seed, num_acts):  # noqa: C901, PLR0915 - a list of what can happen, in small acts
    """Play a world at random, with inputs that come late, twice or to the wrong address."""
    chance = random.Random(seed)
    world = World(
        nodes=[(f"n{i}", chance.choice([1, 2, 3, 4])) for i in range(chance.choice([1, 2]))]
    )

    def a_job():
        return chance.choice(list(world.plane.jobs.values()) or [None])

    def submit():
        job_curve = chance.choice([None, {1: 10.0, 2: 19.0, 4: 34.0}])
        deadline = chance.choice([None, world.now + chance.uniform(1, 500)])
        world.submit(
            chance.choice("abc"), curve=job_curve, deadline=deadline, soft=chance.random() < 0.2
        )

    def of_job(act):
        job = a_job()
        if job is not None:
            act(job)

    def rescale(job):
        size = chance.choice([None, 0, 1, 2, 3, 4, 9])
        world.tell("rescale", request=f"r{len(world.inputs)}", job=job.job, num_gpus=size)

    def cancel(job):
        world.tell("cancel", request=f"c{len(world.inputs)}", job=job.job)

    def stray(job):
        """Repeat an input, or send one that does not fit the state."""
        kind = chance.choice(["switched", "measured", "finished", "progress", "worker_ready"])
        fields = {
            "switched": {"generation": 1, "from": 1, "to": 2, "step": 3, "pause_s": 0.1},
            "measured": {"generation": 1, "world_size": 2, "steps_per_s": 5.0, "spread": 0.1},
            "finished": {"generation": 1, "step": 1000},
            "progress": {"progress": {"global_step": 5, "world_size": 2, "steps_per_s": 11.0}},
            "worker_ready": {"worker": f"{job.job}.1", "announce": ANNOUNCE},
        }[kind]
        if kind == "finished" and chance.random() < 0.7:
            return
        world.tell(kind, job=chance.choice([job.job, "nobody-9"]), **fields)

    def repeat():
        old = chance.choice([message for _, message in world.inputs])
        if isinstance(old, (WorkerExited, WorkerStarted, GenerationMade, NodeLeft)):
            again(world, old)

    def kill():
        if world.workers:
            world.kill(chance.choice(sorted(world.workers)))

    def raise_error():
        if world.workers:
            error = {"message": "ValueError: x", "traceback": "t"}
            world.exit(chance.choice(sorted(world.workers)), exitcode=1, error=error)

    def node():
        name = chance.choice(["n0", "n1"])
        if name in world.plane.nodes:
            kind = chance.choice(["node_lost", "node_left"])
            mine = [one for one in world.workers if world.node_of[one] == name]
            for worker in mine:
                if kind == "node_left":
                    world.kill(worker)
                else:
                    del world.workers[worker]
            world.tell(kind, node=name)
        else:
            world.join(name, chance.choice([1, 2, 4]))

    acts = [world.turn] * 12 + [submit] * 4 + [kill, raise_error, node, repeat, repeat]
    acts += [lambda: of_job(stray)] * 3 + [lambda: of_job(rescale)] * 3
    acts += [
        lambda: of_job(
            lambda job: world.tell("cancel", request=f"c{len(world.inputs)}", job=job.job)
        )
    ]
    acts += [lambda: of_job(lambda job: world.workers_of(job) and world.finish(job))]
    acts += [lambda: world.wait(chance.choice([1, 1, 7, 130]))] * 3
    for _ in range(num_acts):
        chance.choice(acts)()
    return world, chance


SEEDS = range(40)


@pytest.mark.parametrize("seed", SEEDS)
def test_folding_the_same_inputs_again_gives_the_same_state(seed):
    world, chance = random_world(seed, 40)
    expected = picture(world.plane, world.now)
    assert picture(fold(world.inputs), world.now) == expected
    cut = chance.randrange(len(world.inputs))
    prefix = fold(world.inputs[:cut])
    assert picture(fold(world.inputs[cut:], prefix), world.now) == expected


def written_and_read(plane):
    """Return a plane that goes on from another one's snapshot."""
    snapshot = Snapshot(
        v=1, time=0.0, begin=plane.requests.begin, ended=plane.ended.state(), plane=plane.state()
    )
    return ControlPlane.restore(decode(encode(snapshot), Snapshot), SETTINGS)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_plane_restored_from_a_snapshot_at_any_input_goes_on_alike(seed):
    world, chance = random_world(seed, 40)
    expected = picture(world.plane, world.now)
    cuts = {chance.randrange(len(world.inputs)) for _ in range(5)}
    plane, effects = fold(()), []
    for number, one in enumerate(world.inputs):
        if number in cuts:
            effects += plane.take_effects()
            plane = written_and_read(plane)
        fold([one], plane)
    plane.effects[:0] = effects
    assert picture(plane, world.now) == expected
    assert picture(written_and_read(plane), world.now) | {"effects": []} == expected | {
        "effects": []
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_after_any_inputs_a_new_job_trains_and_ends_and_nothing_is_left(seed):
    world, _ = random_world(seed, 40)
    for job in world.plane.live_jobs():
        world.tell("cancel", request=f"c{len(world.inputs)}", job=job.job)
    if not world.plane.nodes:
        world.join("n0", 2)
    world.settle()
    world.wait(timeouts.LEAVERS + timeouts.DISMISSED + 2)
    world.settle()
    assert world.plane.is_idle(), world.states()
    assert world.workers == {}
    job = world.submit("last", curve={1: 10.0, 2: 19.0})
    world.settle()
    assert job.state.value == "RUNNING", job.story
    world.finish(job)
    world.settle()
    assert job.state.value == "SUCCEEDED"
