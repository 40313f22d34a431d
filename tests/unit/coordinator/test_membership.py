"""Workers and generations of one job: who is started, when a generation is made, of whom."""

import pytest

from eflib.coordinator import timeouts
from eflib.coordinator.membership import Membership, Stage
from eflib.coordinator.proposing import proposal
from eflib.messages.generations import PAUSE, PROFILE, STOP, TRAIN, Generation, Member
from eflib.scheduling import Gpu


def gpus(*indices):
    return tuple(Gpu("n0", index) for index in indices)


class Crew:
    """A membership with its workers, and the test as coordinator and trainer."""

    def __init__(self):
        self.members = Membership("a")
        self.now = 100.0
        self.taken = set()  # GPUs on which workers of other jobs train

    def aim(self, *indices, reason="asked"):
        self.members.aim(gpus(*indices), reason)
        self.step()

    def step(self):
        return self.members.step(self.now)

    def propose(self):
        return proposal(
            self.members, self.now, lambda gpu: gpu not in self.taken, lambda node: (node, 29500)
        )

    def starting(self):
        return [one for one in self.members.wanted() if one.stage is Stage.STARTING]

    def all_ready(self):
        for seat in self.starting():
            self.members.ready(seat.worker, self.now)

    def make(self, *, entered=True):
        """Make the proposed generation and let it be entered; returns it."""
        made = self.propose()
        assert made is not None
        self.members.saw(made, self.now)
        if entered:
            self.enter(made)
        return made

    def enter(self, made):
        self.members.switched(made.number, self.now)

    def leavers_go(self):
        for seat in self.members.alive():
            if seat.stage is Stage.MEMBER and not self.members.is_member(seat):
                self.members.exited(seat.worker)

    def settle(self, *indices):
        self.aim(*indices)
        self.all_ready()
        made = self.make()
        self.leavers_go()
        return made

    def slots(self):
        return [member.slot for member in self.members.newest.members]

    def wanted_slots(self):
        return sorted(seat.gpu.index for seat in self.members.wanted())


@pytest.fixture
def crew():
    return Crew()


@pytest.fixture
def two(crew):
    """A crew that trains on slots 0 and 1."""
    crew.settle(0, 1)
    return crew


def workers(generation):
    return [member.worker for member in generation.members]


def test_a_start_waits_for_all_and_makes_generation_1(crew):
    crew.aim(0, 1)
    assert [(one.generation, one.rank, one.world_size) for one in crew.starting()] == [
        (1, 0, 2),
        (1, 1, 2),
    ]
    assert crew.propose() is None
    crew.members.ready("a.1", crew.now)
    assert crew.propose() is None
    crew.members.ready("a.2", crew.now)
    assert crew.propose() == Generation(
        number=1,
        members=(Member("a.1", "n0", 0), Member("a.2", "n0", 1)),
        master_addr="n0",
        master_port=29500,
        mode=TRAIN,
        action=TRAIN,
        reason="asked",
        made_by="coordinator",
    )


def test_nothing_changes_where_nothing_is_asked(two):
    assert two.step() is False
    assert two.propose() is None


def test_growing_keeps_the_survivors_first_while_the_joiners_start(two):
    two.aim(3, 2, 1, 0)
    assert two.wanted_slots() == [0, 1, 2, 3]
    assert two.propose() is None  # survivors train on
    two.all_ready()
    made = two.make()
    assert workers(made)[:2] == ["a.1", "a.2"]
    assert made.world_size == 4


def test_shrinking_waits_for_nobody(two):
    two.aim(1)
    assert workers(two.make()) == ["a.2"]
    assert two.wanted_slots() == [0, 1]  # the leaver goes by itself
    two.leavers_go()
    assert two.wanted_slots() == [1]


def test_growing_and_shrinking_at_once_waits_for_the_joiners(two):
    two.aim(1, 2, 3)
    assert two.propose() is None
    two.all_ready()
    assert [member.slot for member in two.make().members] == [1, 2, 3]


def test_a_move_to_other_slots_takes_one_member_along_as_a_bridge(two):
    two.aim(2, 3)
    assert two.propose() is None
    two.all_ready()
    bridge = two.make()
    assert workers(bridge)[0] == "a.1"
    assert [member.slot for member in bridge.members] == [0, 2, 3]
    over = two.make()
    assert [member.slot for member in over.members] == [2, 3]
    assert over.number == bridge.number + 1


def test_no_generation_is_made_while_the_last_one_is_being_entered(two):
    two.aim(0)
    made = two.make(entered=False)
    two.aim(0, 1)
    two.all_ready()
    assert two.propose() is None
    two.enter(made)
    assert two.propose() is None or two.propose().number == made.number + 1


def test_a_member_that_dies_while_a_generation_is_entered_does_not_block_the_next(two):
    two.aim(0, 1, 2)
    two.all_ready()
    two.make(entered=False)
    two.members.exited("a.3")
    assert two.propose().members == two.members.settled.members


def test_missing_joiners_are_left_behind_after_the_bound_and_come_later(crew):
    crew.aim(0, 1, 2, 3)
    crew.members.ready("a.1", crew.now)
    crew.members.ready("a.2", crew.now)
    crew.now += timeouts.JOINERS
    assert crew.propose() is None
    crew.now += 0.1
    assert [member.slot for member in crew.make().members] == [0, 1]
    crew.all_ready()
    assert [member.slot for member in crew.make().members] == [0, 1, 2, 3]


def test_a_leaver_that_lingers_is_not_taken_back(two):
    two.aim(0)
    two.make()
    two.aim(0, 1)
    assert two.wanted_slots() == [0, 1, 1]  # who leaves and who comes
    two.all_ready()
    assert workers(two.make()) == ["a.1", "a.3"]


def test_a_joiner_that_dies_before_the_switch_is_replaced(two):
    two.aim(0, 1, 2)
    two.members.exited("a.3")
    two.step()
    assert [(one.worker, one.gpu.index) for one in two.starting()] == [("a.4", 2)]
    two.all_ready()
    assert workers(two.make()) == ["a.1", "a.2", "a.4"]


def test_a_dead_member_is_left_out_at_once_and_replaced_when_another_is_ready(two):
    two.members.exited("a.1")
    two.step()
    assert workers(two.make()) == ["a.2"]
    two.all_ready()
    assert workers(two.make()) == ["a.2", "a.3"]


def test_all_members_dead_are_replaced_together(two):
    two.members.exited("a.1")
    two.members.exited("a.2")
    two.step()
    assert two.propose() is None
    two.all_ready()
    assert workers(two.make()) == ["a.3", "a.4"]


def test_a_generation_that_survivors_made_is_taken_and_grown_again(two):
    theirs = Generation(2, two.members.newest.members[:1], made_by="a.1")
    two.members.saw(theirs, two.now)
    two.members.exited("a.2")
    two.step()
    assert two.members.newest == theirs
    two.members.switched(2, two.now)
    two.all_ready()
    assert workers(two.make()) == ["a.1", "a.3"]


def test_an_older_generation_or_switch_is_not_taken(two):
    before = two.members.newest
    two.members.saw(Generation(1, ()), two.now)
    two.members.switched(0, two.now)
    two.members.switched(7, two.now)
    assert two.members.newest == two.members.settled == before


def test_a_joiner_on_a_slot_that_another_job_still_trains_on_waits_for_it(two):
    two.taken = set(gpus(2))
    two.aim(0, 1, 2)
    two.all_ready()
    assert two.propose() is None
    two.taken = set()
    assert [member.slot for member in two.propose().members] == [0, 1, 2]


def test_a_slot_that_is_never_handed_over_is_taken_after_the_bound(two):
    two.taken = set(gpus(2))
    two.aim(0, 1, 2)
    two.all_ready()
    two.now += timeouts.HANDOVER + 0.1
    assert [member.slot for member in two.propose().members] == [0, 1, 2]


def test_a_pause_lets_all_save_and_a_resume_waits_until_they_have(two):
    two.members.ending = PAUSE
    two.aim()
    made = two.make()
    assert (made.members, made.action, made.mode) == ((), PAUSE, TRAIN)
    two.members.ending = ""
    two.aim(0, 1)
    assert two.wanted_slots().count(0) == 2  # who leaves and who comes
    two.all_ready()
    assert two.propose() is None
    two.leavers_go()
    assert workers(two.make()) == ["a.3", "a.4"]


def test_a_stop_dismisses_joiners_and_lets_members_leave(two):
    two.aim(0, 1, 2)
    two.members.ending = STOP
    two.step()
    assert two.wanted_slots() == [0, 1]
    made = two.make()
    assert (made.members, made.action) == ((), STOP)
    two.leavers_go()
    assert two.members.wanted() == []
    assert two.propose() is None
    assert two.step() is False


def test_leavers_that_do_not_go_are_dismissed_after_the_bound(two):
    two.aim(0)
    two.make()
    two.now += timeouts.LEAVERS
    assert two.step() is False
    two.now += 0.1
    assert two.step() is True
    assert two.wanted_slots() == [0]


def test_training_that_is_over_starts_and_makes_nothing(two):
    two.members.is_over = True
    two.members.exited("a.1")
    assert two.step() is False
    assert two.propose() is None


def test_standbys_are_started_and_join_only_when_aimed_at(crew):
    crew.members.mode = PROFILE
    crew.aim(0)
    crew.members.standby = gpus(1, 2)
    crew.step()
    assert crew.wanted_slots() == [0, 1, 2]
    crew.all_ready()
    assert [member.slot for member in crew.make().members] == [0]
    crew.members.aim(gpus(0, 1))
    crew.members.standby = gpus(2)
    crew.step()
    assert [member.slot for member in crew.make().members] == [0, 1]
    assert crew.wanted_slots() == [0, 1, 2]


def test_members_of_a_profiling_run_are_stopped_before_training_begins(crew):
    crew.members.mode = PROFILE
    crew.settle(0, 1)
    crew.members.mode = TRAIN
    crew.aim(0, 1)
    made = crew.make()
    assert (made.members, made.action) == ((), STOP)
    crew.leavers_go()
    crew.step()
    crew.all_ready()
    training = crew.make()
    assert training.mode == TRAIN
    assert set(workers(training)).isdisjoint(["a.1", "a.2"])


def test_joiners_of_a_profiling_run_are_dismissed_when_training_begins(crew):
    crew.members.mode = PROFILE
    crew.aim(0)
    crew.all_ready()
    crew.members.mode = TRAIN
    crew.step()
    assert [seat.mode for seat in crew.members.wanted()] == [TRAIN]


def test_a_joiner_that_is_no_longer_asked_for_is_dismissed(two):
    two.aim(0, 1, 2)
    two.aim(0, 1)
    assert two.wanted_slots() == [0, 1]
    assert two.propose() is None


def test_a_worker_that_is_not_known_says_nothing(two):
    two.members.ready("stranger", two.now)
    two.members.exited("stranger")
    assert two.wanted_slots() == [0, 1]
