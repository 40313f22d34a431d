"""The agent's words in the store, through outages and lost records."""

import itertools
import logging

import pytest

from eflib.agent.cluster import Cluster, OutageError
from eflib.errors import StoreError
from eflib.messages.codec import to_builtins
from eflib.messages.fields import replace as changed
from eflib.messages.inbox import INBOX, NodeJoined, NodeLeft
from eflib.messages.records import (
    Assignment,
    Heartbeat,
    NodeRecord,
    WorkerAssignment,
    WorkerExit,
)
from eflib.store import FolderStore, SignedStore, keys
from tests.helpers.raw import Raw

RECORD = NodeRecord(node="n0", slots=1, agent="tag")
END = WorkerExit(node="n0", job="j", worker="w", exitcode=0)
WORKER = WorkerAssignment(
    worker="w", job="j", slot=0, generation=1, rank=0, world_size=1, log_dir="/logs"
)


class Outage:
    """A store that can be out."""

    def __init__(self, store):
        self.store = store
        self.is_out = False

    def __getattr__(self, name):
        method = getattr(self.store, name)

        def call(*arguments, **options):
            if self.is_out:
                raise StoreError("lost the store")
            return method(*arguments, **options)

        return call


@pytest.fixture
def outage(tmp_path):
    return Outage(FolderStore(tmp_path / "store"))


@pytest.fixture
def store(outage):
    return SignedStore(outage, b"k" * 32)


@pytest.fixture
def cluster(store):
    seconds = itertools.count(step=0.5)
    return Cluster(store, "n0", "tag", clock=lambda: next(seconds))


def posted(store):
    return [message for _, message in store.receive(keys.INBOX, 0, INBOX).messages]


def test_joining_leaves_a_record_a_heartbeat_and_a_message(cluster, store):
    cluster.join(RECORD)

    assert store.fetch(keys.node_record("n0"), NodeRecord) == RECORD
    assert store.fetch(keys.node_heartbeat("n0"), Heartbeat) == Heartbeat(1)
    assert posted(store) == [NodeJoined(node="n0")]


def test_joining_a_store_that_is_out_fails(cluster, outage):
    outage.is_out = True

    with pytest.raises(StoreError, match="lost the store"):
        cluster.join(RECORD)


def test_a_lost_record_is_put_back_and_another_agents_is_respected(cluster, store):
    cluster.join(RECORD)
    assert cluster.keep(RECORD)

    store.delete(keys.node_record("n0"))
    assert cluster.keep(RECORD)
    assert store.fetch(keys.node_record("n0"), NodeRecord) == RECORD
    assert len(posted(store)) == 2

    store.put(keys.node_record("n0"), changed(RECORD, agent="other"))
    assert not cluster.keep(RECORD)


def test_while_the_store_is_out_nobody_has_taken_the_node(cluster, outage):
    cluster.join(RECORD)
    outage.is_out = True

    assert cluster.keep(RECORD)


def test_the_assignment_is_none_until_there_is_one_and_while_the_store_is_out(
    cluster, store, outage
):
    assert cluster.assigned() is None
    assign(store)
    assert cluster.assigned() == ()
    assign(store, WORKER)
    assert cluster.assigned() == (WORKER,)
    outage.is_out = True
    assert cluster.assigned() is None


def assign(store, *workers, **fields):
    store.put(keys.node_assignment("n0"), Assignment(workers, **fields))


def test_an_assignment_with_a_wrong_signature_is_not_obeyed(cluster, store, outage):
    assign(store, WORKER)
    assert cluster.assigned() == (WORKER,)
    assign(SignedStore(outage, b"x" * 32))

    assert cluster.assigned() == (WORKER,), "the last good one holds"


def test_no_assignment_that_could_be_read_is_none(cluster, store):
    store.store.set(keys.node_assignment("n0"), b"garbage")

    assert cluster.assigned() is None


def test_an_assignment_that_is_not_one_is_not_obeyed_and_said_once(cluster, store, caplog):
    assign(store, WORKER)
    assert cluster.assigned() == (WORKER,)
    Raw(store).put(keys.node_assignment("n0"), {"workers": [{"worker": "other", "job": "j"}]})
    for _ in range(50):
        assert cluster.assigned() == (WORKER,)

    assert caplog.text.count("ignored the value at nodes/n0/assignment") == 1


def test_an_older_assignment_written_again_is_refused(cluster, store, caplog):
    assign(store, number=6)
    captured = store.store.get(keys.node_assignment("n0"))
    assert cluster.assigned() == ()
    assign(store, WORKER, number=7)
    assert cluster.assigned() == (WORKER,)
    store.store.set(keys.node_assignment("n0"), captured)

    assert cluster.assigned() == (WORKER,)
    assert "ignored assignment 6: it is older than 7" in caplog.text
    assign(store, number=8)
    assert cluster.assigned() == ()


def test_the_assignment_of_the_agent_before_is_not_for_this_one(cluster, store):
    assign(store, WORKER, number=9, agent="before")
    assert cluster.assigned() is None
    assign(store, WORKER, number=1, agent="tag")
    assert cluster.assigned() == (WORKER,)


def test_a_report_that_no_store_takes_does_not_keep_back_the_others(cluster, store, caplog):
    cluster.report_exit(changed(END, log="/x" * 10_000))
    cluster.report_exit(changed(END, worker="next"))

    assert [message.worker for message in posted(store)] == ["next"]
    assert "a report cannot be sent: " in caplog.text


def test_an_exit_is_on_record_before_it_is_posted_and_is_not_overwritten(cluster, store):
    cluster.report_exit(END)
    cluster.report_exit(changed(END, exitcode=1))

    assert store.fetch(keys.worker_exit("j", "w"), WorkerExit) == END
    assert cluster.has_exit("j", "w")
    assert [message.exitcode for message in posted(store)] == [0, 1]


def test_reports_wait_for_the_store_and_arrive_in_order(cluster, store, outage, caplog):
    caplog.set_level(logging.INFO)
    outage.is_out = True
    cluster.report_start(WORKER, 7)
    cluster.report_exit(END)
    cluster.leave()
    cluster.beat()
    assert not cluster.flush()
    outage.is_out = False
    assert posted(store) == []

    assert cluster.flush()

    kinds = [to_builtins(message)["type"] for message in posted(store)]
    assert kinds == ["worker_started", "worker_exited", "node_left"]
    assert posted(store)[-1] == NodeLeft(node="n0", agent="tag")
    assert store.fetch(keys.worker_exit("j", "w"), WorkerExit) == END
    assert caplog.text.count("going on without the store") == 1
    assert caplog.text.count("the store answers again") == 1


def test_a_job_without_a_spec_is_named(cluster):
    with pytest.raises(StoreError, match="job j has no spec"):
        cluster.spec("j")


def test_a_spec_that_cannot_be_read_just_now_is_not_a_missing_one(cluster, outage):
    outage.is_out = True

    with pytest.raises(OutageError):
        cluster.spec("j")


def test_while_the_store_is_out_few_attempts_are_made(store, outage):
    now = [0.0]
    attempts = []

    def get(key):
        attempts.append(now[0])
        now[0] += 5.0  # as long as it takes to see that nobody answers
        raise StoreError("cannot reach the store")

    outage.get = get
    cluster = Cluster(store, "n0", "tag", clock=lambda: now[0])
    while now[0] < 30.0:
        cluster.assigned()
        now[0] += 0.025

    assert attempts == pytest.approx([0.0, 10.0, 20.0], abs=0.1)


@pytest.mark.parametrize("is_out", [False, True])
def test_an_agent_that_gave_no_sign_of_life_for_long_joins_again(store, outage, is_out):
    now = [0.0]
    cluster = Cluster(store, "n0", "tag", clock=lambda: now[0])
    cluster.join(RECORD)
    for _ in range(20):  # stopped all the while, or without its store
        now[0] += 1.0
        if is_out:
            outage.is_out = True
            cluster.beat()
    outage.is_out = False
    for _ in range(3):
        now[0] += 1.0
        cluster.beat()
        assert cluster.keep(RECORD)

    assert posted(store) == [NodeJoined(node="n0")] * 2
    assert store.fetch(keys.node_heartbeat("n0"), Heartbeat).count > 1


def test_an_agent_that_was_away_does_not_take_its_node_back_from_a_later_one(store):
    now = [0.0]
    cluster = Cluster(store, "n0", "tag", clock=lambda: now[0])
    cluster.join(RECORD)
    later = changed(RECORD, agent="later")
    store.put(keys.node_record("n0"), later)
    now[0] += 60.0
    cluster.beat()

    assert not cluster.keep(RECORD)
    assert store.fetch(keys.node_record("n0"), NodeRecord) == later
