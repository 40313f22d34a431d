"""Which generation a worker belongs to: it waits to be named, and recovers with its peers."""

import pytest

from eflib.errors import PreemptedError, WorkerFailedError
from eflib.messages.generations import Generation, Member
from eflib.messages.inbox import INBOX, Announce, WorkerReady
from eflib.messages.records import NodeRecord, WorkerExit
from eflib.store import SignedStore, keys, open_store
from eflib.trainer import timeouts
from eflib.trainer.elastic.membership import FixedMembership, StoreMembership

ANNOUNCE = Announce(max_steps=3, global_batch_size=8)


class Clock:
    """Monotonic time that passes only by sleeping."""

    def __init__(self):
        self.now = 0.0
        self.at = {}  # what happens when a moment is reached

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += max(seconds, 0.01)
        for moment in [one for one in self.at if one <= self.now]:
            self.at.pop(moment)()


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("eflib.trainer.elastic.membership.time", clock)
    return clock


@pytest.fixture
def store(tmp_path):
    store = SignedStore(open_store(tmp_path / "store"), b"k" * 32)
    for node in ("n0", "n1"):
        store.put(
            keys.node_record(node), NodeRecord(node=node, slots=4, store_host=node, store_port=7)
        )
    yield store
    store.close()


def member_of(store, worker, planned=1, leaving=lambda: False):
    return StoreMembership(store, "a", worker, planned, is_leaving=leaving)


def made(number, *workers, node="n0"):
    members = tuple(Member(worker, node, place) for place, worker in enumerate(workers))
    return Generation(number, members, "n0", 7, made_by="coordinator")


def put(store, generation):
    store.put(keys.generation("a", generation.number), generation)


def record_exit(store, worker, exitcode=None):
    record = WorkerExit(node="n0", job="a", worker=worker, exitcode=exitcode)
    store.put(keys.worker_exit("a", worker), record)


def test_a_joiner_says_that_it_is_ready_and_enters_the_generation_that_names_it(store, clock):
    clock.at[5.0] = lambda: put(store, made(1, "w0", "w1"))
    membership = member_of(store, "w1")
    assert membership.join(ANNOUNCE) == made(1, "w0", "w1")
    (ready,) = [message for _, message in store.receive(keys.INBOX, 0, INBOX).messages]
    assert ready == WorkerReady(job="a", worker="w1", announce=ANNOUNCE)


def test_a_joiner_passes_over_generations_that_do_not_name_it(store, clock):
    for number in (1, 2):
        put(store, made(number, "w0"))
    clock.at[5.0] = lambda: put(store, made(3, "w0", "w9"))
    assert member_of(store, "w9", planned=3).join(ANNOUNCE).number == 3


def test_a_joiner_never_enters_a_generation_older_than_planned(store, clock):
    put(store, made(1, "w9"))
    put(store, made(2, "w0"))
    clock.at[5.0] = lambda: put(store, made(3, "w9"))
    assert member_of(store, "w9", planned=2).join(ANNOUNCE).number == 3


def test_a_joiner_that_is_asked_to_go_leaves_in_order(store, clock):
    leaves = []
    clock.at[1.0] = lambda: leaves.append(True)
    with pytest.raises(SystemExit) as caught:
        member_of(store, "w9", leaving=lambda: bool(leaves)).join(ANNOUNCE)
    assert caught.value.code == 4


def test_a_joiner_that_nobody_names_gives_up_after_the_bound(store, clock, monkeypatch):
    monkeypatch.setattr(timeouts, "ADMISSION", 3.0)
    with pytest.raises(PreemptedError, match="worker w9 waited 3 s for a generation"):
        member_of(store, "w9").join(ANNOUNCE)


def test_the_newest_generation_is_found_over_several(store):
    for number in (1, 2, 3):
        put(store, made(number, "w0"))
    membership = member_of(store, "w0")
    assert membership.newest(0).number == 3
    assert membership.newest(2).number == 3
    assert membership.newest(3) is None


def test_the_first_survivor_proposes_the_generation_without_the_dead(store, clock):
    put(store, made(1, "w0", "w1", "w2"))
    record_exit(store, "w0")
    following = member_of(store, "w1").recover(made(1, "w0", "w1", "w2"))
    assert [one.worker for one in following.members] == ["w1", "w2"]
    assert (following.number, following.made_by, following.reason) == (2, "w1", "lost w0")
    assert (following.master_addr, following.master_port) == ("n0", 7)


def test_the_others_adopt_what_the_first_survivor_made(store, clock):
    lost = made(1, "w0", "w1", "w2")
    record_exit(store, "w0")
    first = member_of(store, "w1").recover(lost)
    assert member_of(store, "w2").recover(lost) == first
    assert store.fetch(keys.generation("a", 3), Generation) is None


def test_a_later_survivor_takes_its_turn_only_after_those_before_it(store, clock):
    lost = made(1, "w0", "w1", "w2", "w3")
    record_exit(store, "w1")
    following = member_of(store, "w3").recover(lost)
    assert following.made_by == "w3"
    assert clock.now > 1.0  # two survivors come before it


def test_of_two_that_propose_at_once_one_wins(store):
    lost = made(1, "w0", "w1", "w2")
    memberships = [member_of(store, worker) for worker in ("w1", "w2")]
    proposals = [made(2, "w1", "w2"), made(2, "w2")]
    won = [one.propose(its) for one, its in zip(memberships, proposals, strict=True)]
    assert won == [True, False]
    assert memberships[1].recover(lost) == proposals[0]


def test_those_that_did_not_come_are_left_out_without_an_exit_record(store, clock):
    lost = made(2, "w0", "w1", "w2")
    following = member_of(store, "w0").recover(lost, frozenset({"w2"}))
    assert [one.worker for one in following.members] == ["w0", "w1"]


def test_an_exit_record_that_comes_late_is_waited_for(store, clock):
    clock.at[2.0] = lambda: record_exit(store, "w1")
    following = member_of(store, "w0").recover(made(1, "w0", "w1"))
    assert [one.worker for one in following.members] == ["w0"]
    assert 2.0 <= clock.now < 3.0


def test_without_any_news_all_try_again_together(store, clock):
    following = member_of(store, "w0").recover(made(1, "w0", "w1"))
    assert [one.worker for one in following.members] == ["w0", "w1"]
    assert following.number == 2
    assert timeouts.RECOVERY / 12 <= clock.now < timeouts.RECOVERY / 6


def test_a_worker_that_was_taken_for_dead_learns_it_and_proposes_nothing(store, clock):
    put(store, made(2, "w0"))
    following = member_of(store, "w1").recover(made(1, "w0", "w1"))
    assert following.rank_of("w1") is None
    assert store.fetch(keys.generation("a", 3), Generation) is None


def test_recovery_ends_at_its_bound(store, clock, monkeypatch):
    membership = member_of(store, "w0")
    monkeypatch.setattr(membership, "propose", lambda generation: False)
    monkeypatch.setattr(membership, "_propose_without", lambda *_: clock.sleep(1.0))
    with pytest.raises(WorkerFailedError, match="no generation followed in 60 s"):
        membership.recover(made(1, "w0", "w1"))


def test_survivors_on_a_node_that_left_say_so(store, clock):
    record_exit(store, "w0")
    lost = made(1, "w0", "w1", node="n9")
    with pytest.raises(WorkerFailedError, match="node n9 is not registered any more"):
        member_of(store, "w1").recover(lost)


def test_a_world_of_fixed_size_has_one_generation_and_no_way_on():
    membership = FixedMembership(1, 3)
    generation = membership.join(ANNOUNCE)
    assert (generation.number, generation.world_size, generation.rank_of("1")) == (0, 3, 1)
    assert membership.newest(0) is None
    assert membership.propose(generation) is False
    with pytest.raises(WorkerFailedError, match="rank 1 lost the connection") as caught:
        membership.recover(generation)
    assert "eflaunch can" in caught.value.hint


@pytest.mark.parametrize(("exitcode", "is_done"), [(0, True), (4, False), (-9, False)])
def test_only_who_ended_with_status_0_is_done(store, exitcode, is_done):
    membership = member_of(store, "w0")
    assert not membership.are_done(["w0", "w1"])
    record_exit(store, "w1", exitcode)
    assert membership.are_done(["w0", "w1"]) == is_done
    assert not membership.are_done(["w0"])
