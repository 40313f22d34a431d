"""Entering generations, with a keeper that forms no group and a test that says what goes wrong."""

import pytest
import torch

from eflib.errors import StateMismatchError, WorkerFailedError
from eflib.messages.generations import Generation, Member
from eflib.trainer.collectives import PeerLostError
from eflib.trainer.elastic import conductor
from eflib.trainer.elastic.conductor import Conductor, LeftError
from eflib.trainer.elastic.formation import EndpointGoneError, MissingMembersError, SupersededError
from eflib.trainer.elastic.membership import Membership
from eflib.trainer.elastic.transfer import RankState
from eflib.trainer.state import checkpoint
from eflib.trainer.state.state import TrainingState


class Script(Membership):
    """A membership that answers from lists."""

    elastic = True
    worker = "w0"

    def __init__(self):
        self.following = []
        self.newer = []
        self.asked = []
        self.done = set()

    def join(self, announce):
        raise NotImplementedError

    def newest(self, after):
        return self.newer.pop(0) if self.newer else None

    def are_done(self, workers):
        return bool(self.done.intersection(workers))

    def recover(self, lost, missing=frozenset()):
        self.asked.append((lost.number, missing))
        return self.following.pop(0)


class Keeper:
    """Notes what is asked of it, and raises what the test has put there."""

    def __init__(self):
        self.story = []
        self.troubles = []

    def form(self, endpoint, members, rank, *, superseded, gone):
        assert not gone(members)
        self.story.append(("form", endpoint.prefix, tuple(members), rank))
        trouble = self.troubles.pop(0) if self.troubles else None
        if trouble is not None:
            raise trouble

    def leave(self):
        self.story.append("leave")

    def abandon(self):
        self.story.append("abandon")


class Stage:
    """A conductor over a small model, with peers that hold what ``rank_states`` says."""

    def __init__(self, monkeypatch, folder=""):
        model = torch.nn.Linear(2, 1)
        self.state = TrainingState(model, {"optimizer": torch.optim.SGD(model.parameters())})
        self.script, self.keeper = Script(), Keeper()
        self.conductor = Conductor(
            self.script,
            self.keeper,
            self.state,
            settings={},
            prefix="a",
            checkpoint_dir=str(folder),
        )
        self.sent = []
        self.others = []  # rank_states of the other ranks
        self.send_troubles = []
        monkeypatch.setattr(conductor, "exchange_rank_states", self.exchange)
        monkeypatch.setattr(conductor, "send_state", self.send)

    def exchange(self, state, *, has_state, settings, problem):
        return [RankState(has_state, state.global_step, state.is_over), *self.others]

    def send(self, state, rank_states):
        self.sent.append(rank_states)
        if self.send_troubles:
            raise self.send_troubles.pop(0)
        return 10

    def formed(self):
        return [one[1] for one in self.keeper.story if one[0] == "form"]


@pytest.fixture
def stage(monkeypatch):
    return Stage(monkeypatch)


def made(number, *workers, nodes=()):
    nodes = nodes or ["n0"] * len(workers)
    members = tuple(
        Member(one, node, place)
        for place, (one, node) in enumerate(zip(workers, nodes, strict=True))
    )
    return Generation(number, members, "host", 7)


def test_a_single_worker_needs_no_group(stage):
    parts = stage.conductor.enter(made(1, "w0"))
    assert stage.formed() == []
    assert set(parts) == {"leave", "form", "state"}
    assert (stage.conductor.rank, stage.conductor.world_size) == (0, 1)
    assert stage.conductor.generation.number == 1
    assert stage.conductor.digest != 0


def test_where_rank_0_s_agent_is_gone_its_workers_are_taken_for_gone(stage):
    stage.conductor._membership.worker = "w2"
    stage.script.following = [made(2, "w2")]
    stage.keeper.troubles = [EndpointGoneError("no answer")]
    stage.conductor.enter(made(1, "w0", "w1", "w2", nodes=["n0", "n0", "n1"]))
    assert stage.script.asked == [(1, frozenset({"w0", "w1"}))]
    assert stage.conductor.generation.number == 2


def test_a_worker_whose_own_agent_is_gone_ends(stage):
    stage.keeper.troubles = [EndpointGoneError("no answer")]
    with pytest.raises(WorkerFailedError, match="the agent of node n0 is gone"):
        stage.conductor.enter(made(1, "w0", "w1"))


def test_the_same_error_again_and_again_without_a_loss_is_raised(stage):
    stage.script.following = [made(2, "w0", "w1"), made(3, "w0", "w1")]
    stage.keeper.troubles = [PeerLostError("broken")] * 3
    with pytest.raises(WorkerFailedError, match="broken"):
        stage.conductor.enter(made(1, "w0", "w1"))
    assert [number for number, _ in stage.script.asked] == [1, 2]


def test_a_group_is_formed_under_a_prefix_of_its_own(stage):
    stage.others = [RankState(has_state=False, global_step=0)]
    stage.conductor.enter(made(3, "w0", "w1"))
    assert stage.keeper.story[0] == "leave"
    assert stage.keeper.story[-1] == ("form", "a/3", ("w0", "w1"), 0)


def test_a_generation_without_this_worker_lets_it_leave(stage):
    with pytest.raises(LeftError) as caught:
        stage.conductor.enter(made(2, "w1"))
    assert caught.value.generation.number == 2
    assert stage.formed() == []


def test_a_superseded_generation_is_given_up_for_the_newer_one(stage):
    stage.keeper.troubles = [SupersededError()]
    stage.script.newer = [made(2, "w0")]
    stage.conductor.enter(made(1, "w0", "w1"))
    assert stage.conductor.generation.number == 2
    assert stage.script.asked == []


def test_a_worker_that_a_newer_generation_leaves_out_leaves(stage):
    stage.keeper.troubles = [SupersededError()]
    stage.script.newer = [made(2, "w1")]
    with pytest.raises(LeftError):
        stage.conductor.enter(made(1, "w0", "w1"))


def test_members_that_do_not_come_are_named_to_the_recovery(stage):
    stage.keeper.troubles = [MissingMembersError("late", ["w1"])]
    stage.script.following = [made(2, "w0")]
    stage.conductor.enter(made(1, "w0", "w1"))
    assert stage.script.asked == [(1, frozenset({"w1"}))]
    assert stage.conductor.generation.number == 2
    assert "abandon" in stage.keeper.story


def test_a_peer_that_dies_while_the_group_forms_is_recovered_from(stage):
    stage.keeper.troubles = [PeerLostError("connection closed"), PeerLostError("again")]
    stage.script.following = [made(2, "w0", "w2"), made(3, "w0")]
    stage.conductor.enter(made(1, "w0", "w1"))
    assert [number for number, _ in stage.script.asked] == [1, 2]
    assert stage.conductor.generation.number == 3


def test_a_newcomer_to_members_that_ended_in_order_leaves(stage):
    stage.keeper.troubles = [MissingMembersError("late", ["w1"])]
    stage.script.done = {"w1"}
    with pytest.raises(LeftError) as caught:
        stage.conductor.enter(made(1, "w0", "w1"))
    assert caught.value.generation.reason == "training is over"
    assert caught.value.generation.members == ()
    assert stage.script.asked == []


def test_a_member_of_before_goes_on_where_others_ended_in_order(stage):
    stage.conductor.enter(made(1, "w0"))
    stage.keeper.troubles = [MissingMembersError("late", ["w1"])]
    stage.script.done, stage.script.following = {"w1"}, [made(3, "w0")]
    stage.conductor.enter(made(2, "w0", "w1"))
    assert stage.conductor.generation.number == 3


@pytest.mark.parametrize(
    ("own", "other", "is_over"),
    [
        (RankState(True, 4), RankState(True, 4, is_over=True), True),
        (RankState(True, 3), RankState(True, 4, is_over=True), True),
        (RankState(True, 4), RankState(True, 3, is_over=True), False),
        (RankState(True, 4), RankState(False, 4, is_over=True), False),
    ],
)
def test_the_end_of_training_is_told_to_who_has_not_heard_of_it(stage, own, other, is_over):
    stage.conductor.enter(made(1, "w0"))
    stage.state.global_step, stage.others = own.global_step, [other]
    stage.conductor.enter(made(2, "w0", "w1"))
    assert stage.state.is_over == is_over


def test_a_world_of_fixed_size_does_not_recover(stage):
    stage.script.elastic = False
    stage.keeper.troubles = [PeerLostError("connection closed")]
    with pytest.raises(WorkerFailedError, match="connection closed"):
        stage.conductor.enter(made(1, "w0", "w1"))
    assert stage.script.asked == []


def test_a_transfer_that_breaks_off_into_a_joiner_leaves_it_without_state(stage):
    stage.others = [RankState(has_state=True, global_step=9)]
    stage.send_troubles = [PeerLostError("the source died")]

    def alone(lost, missing):
        stage.others = []
        return made(2, "w0")

    stage.script.recover = alone
    with pytest.raises(WorkerFailedError, match="the only worker that held the state is gone"):
        stage.conductor.enter(made(1, "w0", "w1"))


def test_a_survivor_keeps_its_state_when_a_transfer_to_others_breaks_off(stage):
    stage.conductor.enter(made(1, "w0"))
    stage.state.global_step = 4
    stage.others = [RankState(has_state=False, global_step=0)]
    stage.send_troubles = [PeerLostError("the joiner died")]
    stage.script.following = [made(3, "w0")]
    before = [one.clone() for one in stage.state.model_tensors().values()]
    stage.conductor.enter(made(2, "w0", "w1"))
    assert stage.state.global_step == 4
    assert stage.sent[-1][0] == RankState(has_state=True, global_step=4)
    after = stage.state.model_tensors().values()
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_rank_0_of_a_job_without_any_state_takes_the_newest_checkpoint(tmp_path, monkeypatch):
    other = Stage(monkeypatch)
    other.state.global_step = 7
    checkpoint.write(tmp_path, other.state.snapshot(), keep=2)
    stage = Stage(monkeypatch, tmp_path)
    stage.others = [RankState(has_state=False, global_step=0)]
    stage.conductor.enter(made(1, "w0", "w1"))
    assert stage.state.global_step == 7
    assert stage.sent == [[RankState(True, 0), RankState(False, 0)]]


def test_a_survivor_s_state_goes_before_a_checkpoint(tmp_path, monkeypatch):
    other = Stage(monkeypatch)
    other.state.global_step = 7
    checkpoint.write(tmp_path, other.state.snapshot(), keep=2)
    stage = Stage(monkeypatch, tmp_path)
    stage.others = [RankState(has_state=True, global_step=3)]
    stage.conductor.enter(made(1, "w0", "w1"))
    assert stage.state.global_step == 0  # the broadcast, which this test leaves out, brings 3


def test_ranks_that_differ_are_not_recovered_from(stage, monkeypatch):
    def differ(state):
        raise StateMismatchError("ranks [1] hold another state")

    monkeypatch.setattr(conductor, "compare_digests", differ)
    with pytest.raises(StateMismatchError):
        stage.conductor.enter(made(1, "w0"))
    assert stage.script.asked == []
