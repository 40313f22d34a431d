"""What survivors say of a loss, when they stop trying again, and how they find a silent one."""

import socket

import pytest

from eflib.errors import WorkerFailedError
from eflib.messages.generations import Generation, Member
from eflib.trainer import timeouts
from eflib.trainer.elastic import recovery
from eflib.trainer.elastic.membership import FixedMembership
from eflib.trainer.elastic.recovery import ATTEMPTS, Attempts, NeighbourWatch, describe_loss


def made(number, *workers):
    members = tuple(Member(worker, "n0", rank) for rank, worker in enumerate(workers))
    return Generation(number=number, members=members)


class Exits(FixedMembership):
    """Knows how workers ended."""

    def __init__(self, **exits):
        super().__init__(0, 1)
        self.exits = exits
        self.asked = []

    def ended(self, workers):
        self.asked += workers
        return [one for one in workers if one in self.exits]

    def how_ended(self, worker):
        return self.exits.get(worker, "")


# When to stop ------------------------------------------------------------------------------------


def test_attempts_that_bring_no_step_end_with_what_failed_first():
    attempts, same = Attempts(), made(1, "w0", "w1")
    attempts.fail("the first cause")
    for number in range(ATTEMPTS - 2):
        attempts.follow(same, same)
        attempts.fail(f"what followed {number}")
    with pytest.raises(WorkerFailedError, match="the first cause"):
        attempts.fail("the last")


def test_every_rank_tells_what_failed_first_on_each_of_them():
    attempts, same = Attempts(), made(1, "w0", "w1")
    attempts.fail("connection closed")
    attempts.follow(same, same)
    attempts.hear([attempts.problem, "the switch drops packets"])
    attempts.fail("connection closed again")
    attempts.hear([attempts.problem, "the switch drops more"])
    told = "rank 0: connection closed; rank 1: the switch drops packets"
    with pytest.raises(WorkerFailedError, match=told):
        attempts.fail("connection closed for good")


@pytest.mark.parametrize("mend", ["step", "loss"])
def test_a_step_or_a_lost_worker_is_a_new_beginning(mend):
    attempts = Attempts()
    for _ in range(5 * ATTEMPTS):
        attempts.fail("closed")
        if mend == "step":
            attempts.succeed()
        else:
            attempts.follow(made(1, "w0", "w1"), made(2, "w0"))


def test_a_joiner_is_no_loss():
    attempts = Attempts()
    for _ in range(ATTEMPTS - 1):
        attempts.fail("closed")
        attempts.follow(made(1, "w0", "w1"), made(2, "w0", "w1", "w2"))
    with pytest.raises(WorkerFailedError):
        attempts.fail("closed")


# What is said ------------------------------------------------------------------------------------


def test_who_is_gone_is_named_with_what_it_raised():
    exits = Exits(w1="ended with ValueError: boom", w3="killed by SIGKILL")
    said = describe_loss(made(1, "w0", "w1", "w2", "w3"), made(2, "w0", "w2"), exits, "closed")
    assert "rank 1 on n0: ended with ValueError: boom" in said
    assert "rank 3 on n0: killed by SIGKILL" in said
    assert "2 of 4 workers" in said
    assert "closed" not in said


def test_where_nobody_is_gone_the_failure_is_said():
    said = describe_loss(made(1, "w0", "w1"), made(2, "w0", "w1"), Exits(), "sizes differ")
    assert "every worker lives (sizes differ)" in said


def test_one_that_left_without_a_record_is_named():
    said = describe_loss(made(1, "w0", "w1"), made(2, "w0"), Exits(), "closed")
    assert "rank 1 on n0: left, with no exit on record" in said


# Who gives no sign -------------------------------------------------------------------------------


class Connected:
    """A keeper with two connections, one of them not the group's."""

    def __init__(self, links):
        self.links = links


@pytest.fixture
def watch(monkeypatch):
    """Return a watch over exits, and the links that it ended; time stands where the test says."""
    now, ended = [50.0], []
    monkeypatch.setattr(recovery.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(recovery, "end_links", ended.append)
    exits = Exits(w2="lost with its node")
    found = NeighbourWatch(exits, Connected(frozenset({1, 2})))

    def look(rank, seconds):
        now[0] += seconds
        found.look(made(1, "w0", "w1", "w2"), rank)
        return ended

    look.exits, look.watch = exits, found
    return look


def test_who_waits_for_a_neighbour_that_is_gone_closes_its_connections(watch):
    assert watch(1, timeouts.WATCH) == [frozenset({1, 2})]


def test_steps_that_go_on_need_no_look(watch):
    for _ in range(10):
        assert watch(1, timeouts.WATCH / 2) == []
        watch.watch.step_done()
    assert watch.exits.asked == []


def test_each_looks_at_the_next_alone_and_seldom(watch):
    for _ in range(10):
        assert watch(0, timeouts.WATCH / 4) == []
    assert watch.exits.asked == ["w1", "w1"]
    assert watch(2, timeouts.WATCH) == []
    assert watch.exits.asked[-1] == "w0"


def test_a_connection_between_ports_of_the_system_s_choice_is_ended_and_no_other():
    server = socket.create_server(("127.0.0.1", 0))
    pairs = [(socket.create_connection(server.getsockname()), server.accept()[0]) for _ in "ab"]
    (own, other), (kept, far) = pairs
    from eflib.trainer.elastic.interrupt import end_links, sockets

    if not sockets():
        pytest.skip("the descriptors of a process are listed on Linux")
    numbers = {descriptor: identity for identity, descriptor in sockets().items()}
    end_links({numbers[own.fileno()], numbers[server.fileno()]})
    other.settimeout(10)
    assert other.recv(1) == b""
    far.settimeout(0.1)
    with pytest.raises(TimeoutError):
        far.recv(1)
    for one in (server, own, other, kept, far):
        one.close()
