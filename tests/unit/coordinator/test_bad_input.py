"""Bad messages, replays, jumping clocks and a store that is out end no coordinator."""

import pytest

from eflib import home as places
from eflib.coordinator import timeouts
from eflib.coordinator.clock import SteadyClock
from eflib.coordinator.coordinator import Coordinator
from eflib.messages.codec import encode
from eflib.messages.fields import replace
from eflib.messages.generations import Generation
from eflib.messages.inbox import NodeLeft
from eflib.messages.records import Assignment, Heartbeat, NodeRecord, Progress, WorkerExit
from eflib.store import keys
from eflib.store.aside import Aside
from tests.helpers.raw import Raw

DEEP = b"[" * 100_000
GARBAGE = [b"", b"garbage", b"\xff\xfe\n{}", DEEP, b'{"schema":1,"mac":"\\ud800"}\n{}', b"\0" * 100]


@pytest.fixture(autouse=True)
def aside(host):
    host.store.aside = Aside(places.aside_folder(host.home))


def still_works(host):
    """Restart the coordinator and let it take one more job."""
    host.start()
    host.turn(2, seconds=1.0)
    request = host.submit("other")
    host.turn(2)
    assert host.reply(request).job == "other-2"


# What cannot be read ------------------------------------------------------------------------------

BODIES = [
    DEEP,
    b'{"type":"cancel","request":"r","job":' + DEEP,
    b'{"type":"cancel","request":"r","job":"\\ud800"}',
    b'{"type":"dance"}',
    b'{"type":"cancel","request":"../x","job":"a"}',
    b'{"type":"finished","job":"a-1","generation":' + b"9" * 5000 + b',"step":1}',
    b'{"type":"worker_ready","job":"a-1","worker":"a-1.1","announce":{"max_steps":1e400}}',
    b"null",
    b"5",
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_a_signed_message_that_cannot_be_read_is_put_aside_and_the_next_is_heard(running, body):
    value = Raw(running.store).sealed("stream", keys.INBOX, body)
    running.store.store.append(keys.INBOX, value)
    request = running.ask("cancel", job="nobody")
    before = running.status("a-1")
    running.turn()
    assert running.reply(request).error.code == "usage"
    assert running.status("a-1").state == before.state
    assert running.store.aside.count == 1
    (kept,) = places.aside_folder(running.home).iterdir()
    assert b"coordinator/inbox, entry" in kept.read_bytes()
    still_works(running)


@pytest.mark.parametrize("value", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_in_the_inbox_is_passed_over_once(running, value):
    before = running.coordinator._intake.read
    running.store.store.append(keys.INBOX, value)
    running.turn(3)
    assert running.coordinator._intake.read == before + 1
    still_works(running)


def everywhere(host):
    """Return every key that the coordinator reads."""
    return [
        keys.node_record("n0"),
        keys.node_heartbeat("n0"),
        keys.node_assignment("n0"),
        keys.generation("a-1", 2),
        keys.job_progress("a-1"),
        keys.COORDINATOR,
        keys.job_spec("a-1"),
        keys.job_status("a-1"),
        keys.worker_exit("a-1", "a-1.1"),
        "nodes/zz/record",
        "nodes/zz/other",
        "jobs/-99999999999999999999999999/spec",
        "jobs/٣-٣/spec",
        "jobs/.../spec",
        "replies/x",
    ]


@pytest.mark.parametrize("value", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_under_any_key_costs_that_value_alone(running, value):
    for key in everywhere(running):
        running.store.store.set(key, value)
    for count in range(3):
        running.beat("n0", 100 + count)
        running.turn(seconds=timeouts.PROGRESS)
    assert running.status("a-1") is None or running.status("a-1").state == "RUNNING"
    still_works(running)
    assert running.store.aside.count > 0


def test_a_generation_that_cannot_be_read_is_made_anew_in_its_place(running):
    running.store.store.set(keys.generation("a-1", 2), b"garbage")
    running.ask("rescale", job="a", num_gpus=2)
    running.turn(3)
    record = running.store.fetch(keys.generation("a-1", 2), Generation)
    assert (record.number, record.world_size) == (2, 2)


def test_progress_that_cannot_be_read_is_not_followed_and_the_next_is(running):
    running.store.store.set(keys.job_progress("a-1"), b"garbage")
    running.turn(2, seconds=1.0)
    running.store.put(keys.job_progress("a-1"), Progress(global_step=9))
    running.turn(2, seconds=1.0)
    assert running.status("a-1").global_step == 9


@pytest.mark.parametrize("slots", [10_000_000, -1, 2**70, "4", None])
def test_a_node_with_an_impossible_number_of_slots_is_left_out(host, slots):
    host.start()
    Raw(host.store).put(keys.node_record("big"), {"node": "big", "slots": slots, "agent": "t"})
    host.post("node_joined", node="big")
    host.node("n0")
    host.turn()
    assert list(host.coordinator._plane.nodes) == ["n0"]


@pytest.mark.parametrize(
    "change",
    [
        {"profile": {"points": {"1": 1e300}}},
        {"profile": {"points": {"1": -1.0}}},
        {"profile": {"points": {}}},
        {"profile": {"points": {"99999999": 1.0}}},
        {"deadline": 1e18},
        {"deadline": -62135596800.0},
        {"max_gpus": 0},
        {"max_gpus": 10**30},
        {"name": "../evil"},
        {"name": "x" * 300},
        {"env": {"A": 5}},
        {"argv": "text"},
    ],
    ids=str,
)
def test_a_request_with_an_impossible_value_is_answered_with_what_is_wrong(host, change):
    host.start()
    fields = {"name": "a", "script": "a.py", "argv": [], "cwd": "/", "env": {}, **change}
    Raw(host.store).post(keys.INBOX, {"type": "submit", "request": "r", **fields})
    host.turn()
    error = host.reply("r").error
    assert error.code == "usage"
    assert f"$.{next(iter(change))}" in error.problem
    assert host.coordinator._plane.jobs == {}


@pytest.mark.parametrize("rate", [1e-9, 1e9])
@pytest.mark.parametrize("deadline", [None, 0.0, 1e6, 253_370_764_800.0])
def test_extreme_but_possible_numbers_leave_everybody_a_status(running, rate, deadline):
    points = {"points": {"1": rate}}
    fields = {"name": "odd", "script": "odd.py", "argv": [], "cwd": "/", "env": {}}
    running.ask("submit", **fields, deadline=deadline, profile=points)
    running.turn(3)
    running.ready()
    running.turn(3, seconds=1.0)
    assert running.status("odd-2") is not None
    assert running.status("a-1") is not None


def test_an_input_over_which_the_plane_fails_is_put_aside_now_and_later(host, monkeypatch):
    host.start()
    host.node()
    host.turn()

    def fail(*_):
        raise KeyError("a bug")

    monkeypatch.setattr("eflib.coordinator.requests.find", fail)
    host.ask("cancel", job="a")
    host.turn()
    assert host.store.aside.count == 1
    host.submit()
    host.turn()
    host.start()
    assert list(host.coordinator._plane.jobs) == ["a-1"]


# Replays ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("idle", [False, True])
def test_a_request_that_is_written_again_is_not_carried_out_again(host, restarts, idle):
    host.start()
    host.submit()
    captured = host.store.store.get("streams/coordinator/inbox/0")
    host.turn()
    if idle:
        host.ask("cancel", job="a")
        host.turn()
    if restarts:
        host.start()
    host.store.store.append(keys.INBOX, captured)
    host.turn()
    assert list(host.coordinator._plane.jobs) in ([], ["a-1"])
    assert host.coordinator._plane.requests.num_jobs == 1


def test_a_farewell_of_an_agent_that_was_there_before_is_not_heeded(running):
    running.store.post(keys.INBOX, NodeLeft(node="n0", agent="before"))
    running.store.post(keys.INBOX, NodeLeft(node="n0"))
    running.turn()
    assert list(running.coordinator._plane.nodes) == ["n0"]
    running.store.post(keys.INBOX, NodeLeft(node="n0", agent="tag"))
    running.turn()
    assert running.coordinator._plane.nodes == {}


def test_assignments_are_numbered_upwards_over_restarts_and_clocks(running):
    def number():
        return running.store.fetch(keys.node_assignment("n0"), Assignment).number

    first = number()
    running.ask("rescale", job="a", num_gpus=1)
    running.turn(2)
    running.ask("rescale", job="a", num_gpus=4)
    running.turn(2)
    second = number()
    running.start()
    running.ask("cancel", job="a")
    running.turn(2)
    assert 0 < first < second < number()


# Clocks -------------------------------------------------------------------------------------------


class Clocks:
    def __init__(self):
        self.wall, self.ticks = 1_000_000.0, 50.0
        self.steady = SteadyClock(lambda: self.wall, lambda: self.ticks)

    def passes(self, seconds):
        self.wall += seconds
        self.ticks += seconds
        return self.steady()


@pytest.mark.parametrize("jump", [30.0, 3600.0, -30.0, -3600.0])
def test_the_coordinators_time_neither_jumps_nor_stands_still_and_comes_to_agree(jump):
    clocks = Clocks()
    assert clocks.passes(1.0) == 1_000_001.0
    clocks.wall += jump
    last = clocks.steady()
    for _ in range(8000):
        now = clocks.passes(1.0)
        assert 0.5 <= now - last <= 2.0
        last = now
    assert last == clocks.wall


@pytest.mark.parametrize("jump", [30.0, -3600.0])
def test_a_step_of_the_wall_clock_loses_no_node_and_stops_no_beat(host, jump):
    ticks = [0.0]
    steady = SteadyClock(lambda: host.now, lambda: ticks[0])
    clocks = {"clock": steady, "monotonic": lambda: ticks[0]}
    host.coordinator = Coordinator(host.store, host.home, **clocks)
    host.coordinator._recover()
    host.node()
    host.turn()
    host.now += jump
    for count in range(5):
        ticks[0] += 1.0
        host.now += 1.0
        host.beat("n0", 10 + count)
        host.turn()
    assert list(host.coordinator._plane.nodes) == ["n0"]
    assert host.coordinator._num_beats >= 4


def test_a_node_that_was_silent_and_beats_again_is_taken_back(running):
    running.turn(int(timeouts.HEARTBEAT_LOST) + 2, seconds=1.0)
    assert running.coordinator._plane.nodes == {}
    running.turn(5, seconds=1.0)
    assert running.coordinator._plane.nodes == {}
    running.beat("n0", 77)
    running.turn(2, seconds=1.0)
    assert list(running.coordinator._plane.nodes) == ["n0"]
    running.turn(3, seconds=1.0)
    assert len(running.assigned()) == 4


# What is written ----------------------------------------------------------------------------------


def test_what_the_coordinator_writes_can_be_read_by_its_types(running):
    """Whatever the texts are: they come from scripts and people."""
    nasty = "x\n\0\u202e" * 4000
    Raw(running.store).post(
        keys.INBOX, {"type": "cancel", "request": "c", "job": "a", "reason": nasty[:16_000]}
    )
    running.turn(2)
    status = running.status("a-1")
    assert status.state == "CANCELLED"
    assert status.reason.startswith("x\n")
    encode(status)


def test_records_of_other_types_in_the_wrong_place_are_no_input(running):
    for key, record in [
        (keys.node_heartbeat("n0"), NodeRecord(slots=1)),
        (keys.job_progress("a-1"), Heartbeat(3)),
        (keys.generation("a-1", 2), Heartbeat(3)),
        (keys.worker_exit("a-1", "w"), WorkerExit(node="n", job="j", worker="w")),
    ]:
        running.store.put(key, record)
    running.turn(3, seconds=1.0)
    assert running.status("a-1").state == "RUNNING"


def test_an_assignment_is_for_the_agent_that_the_node_has_now(running):
    def agent():
        return running.store.fetch(keys.node_assignment("n0"), Assignment).agent

    before = agent()
    record = running.store.fetch(keys.node_record("n0"), NodeRecord)
    running.store.put(keys.node_record("n0"), replace(record, agent="later"))
    running.post("node_joined", node="n0")
    running.turn(2)

    assert (before, agent()) == ("tag", "later")
