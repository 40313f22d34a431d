"""The loop around the plane: a folder store, one thread, and a clock that the test turns."""

import itertools
import threading

import pytest
from filelock import FileLock

from eflib import home as places
from eflib.coordinator import timeouts
from eflib.coordinator.coordinator import Coordinator
from eflib.coordinator.process import is_coordinator_alive
from eflib.errors import StoreError, UsageError
from eflib.messages.generations import Generation
from eflib.profiler.fit import Observation
from eflib.store import SignedStore, keys, open_store
from tests.unit.coordinator.world import ANNOUNCE, CURVE

KEY = b"k" * 32


class Host:
    """A home with its store, agents that the test plays, and one coordinator after another."""

    def __init__(self, folder):
        self.home = folder / "home"
        self.store = SignedStore(open_store(folder / "store"), KEY)
        self.now = 5000.0
        self.requests = itertools.count()
        self.coordinator = None
        places.coordinator_lock(self.home).parent.mkdir(parents=True)

    def start(self, **settings):
        """Start a coordinator; one that runs is dropped without a word, as by kill -9."""
        if self.coordinator is not None:
            self.coordinator._journal.close()
        self.coordinator = self.make(**settings)
        self.coordinator._recover()
        return self.coordinator

    def make(self, **settings):
        return Coordinator(self.store, self.home, clock=lambda: self.now, **settings)

    def turn(self, times=1, seconds=0.0):
        for _ in range(times):
            self.now += seconds
            self.coordinator._turn()

    def node(self, name="n0", slots=4):
        record = {"node": name, "slots": slots, "store_host": "h", "store_port": 1}
        self.store.put(keys.node_record(name), record)
        self.beat(name, 1)
        self.store.post(keys.INBOX, {"type": "node_joined", "node": name})

    def beat(self, name, count):
        self.store.put(keys.node_heartbeat(name), {"count": count})

    def ask(self, kind, **fields):
        request = f"r{next(self.requests)}"
        self.store.post(keys.INBOX, {"type": kind, "request": request, **fields})
        return request

    def submit(self, name="a", *, measured=False, **fields):
        points = {"points": {str(size): rate for size, rate in CURVE.items()}}
        common = {"name": name, "script": f"{name}.py", "argv": [], "cwd": "/", "env": {}}
        common |= {"deadline": None, "soft": False, "max_gpus": None}
        return self.ask("submit", **common, profile=None if measured else points, **fields)

    def reply(self, request):
        return self.store.fetch(keys.reply(request))

    def assigned(self, node="n0"):
        return (self.store.fetch(keys.node_assignment(node)) or {"workers": []})["workers"]

    def ready(self, *, known=()):
        for one in self.assigned():
            if one["worker"] not in known:
                fields = {"job": one["job"], "worker": one["worker"], "announce": ANNOUNCE}
                self.store.post(keys.INBOX, {"type": "worker_ready", **fields})

    def status(self, job):
        return self.store.fetch(keys.job_status(job))

    def train(self, job="a-1"):
        """Let a submitted job with a curve come to train on all slots; returns its workers."""
        self.turn(2)
        first = [one["worker"] for one in self.assigned()]
        self.ready()
        self.turn(2)
        self.ready(known=first)
        self.turn(2)
        fields = {"from": 0, "to": 4, "step": 0, "pause_s": 0.1, "parts": {}, "reason": ""}
        self.store.post(keys.INBOX, {"type": "switched", "job": job, "generation": 1, **fields})
        self.turn(2)
        assert self.status(job)["state"] == "RUNNING"
        return [one["worker"] for one in self.assigned()]

    def journal(self):
        return places.journal_file(self.home).read_text()


@pytest.fixture
def host(tmp_path):
    host = Host(tmp_path)
    yield host
    if host.coordinator is not None:
        host.coordinator._journal.close()
    host.store.close()


def test_a_job_comes_to_train_by_messages_alone(host):
    host.start()
    host.node()
    request = host.submit()
    workers = host.train()
    assert host.reply(request)["job"] == "a-1"
    assert host.store.fetch(keys.job_spec("a-1"))["script"] == "a.py"
    assert len(workers) == 4
    record = host.store.fetch(keys.generation("a-1", 1))
    assert [one["worker"] for one in record["members"]]
    assert host.status("a-1")["world_size"] == 4


def test_a_restart_in_the_middle_knows_the_job_and_disturbs_nobody(host):
    host.start()
    host.node()
    host.submit()
    workers = host.train()
    before = host.status("a-1")
    host.now += 3
    host.start()
    host.turn(3)
    assert [one["worker"] for one in host.assigned()] == workers
    after = host.status("a-1")
    wanted = ("state", "world_size", "generation", "workers", "started", "story", "curve")
    assert {name: after[name] for name in wanted} == {name: before[name] for name in wanted}
    assert host.store.fetch(keys.generation("a-1", 2)) is None


def test_a_restart_reads_on_where_the_inbox_was_left(host):
    host.start()
    host.node()
    host.submit("a")
    host.turn()
    host.submit("b")
    request = host.submit("c")
    host.start()
    host.turn()
    assert host.reply(request)["job"] == "c-3"
    assert sorted(host.coordinator._plane.jobs) == ["a-1", "b-2", "c-3"]
    assert host.journal().count('"submit"') == 3


def test_what_was_journaled_and_not_carried_out_is_carried_out_after_a_restart(host, monkeypatch):
    host.start()
    host.node()
    host.turn()
    request = host.submit()

    def crash(*_):
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(host.coordinator, "_act", crash)
        with pytest.raises(RuntimeError, match="killed"):
            host.turn()
    assert host.reply(request) is None
    host.start()
    assert host.reply(request)["job"] == "a-1"
    assert host.store.fetch(keys.job_spec("a-1"))["script"] == "a.py"
    assert [one["job"] for one in host.assigned()] == ["a-1"]


def test_replies_to_clients_that_are_long_gone_are_not_written_again(host):
    host.start()
    host.node()
    request = host.submit()
    host.turn()
    host.store.delete(keys.reply(request))
    host.now += timeouts.REPLY + 1
    host.start()
    host.turn()
    assert host.reply(request) is None


def test_survivors_generations_made_while_it_was_away_are_taken_in(host):
    host.start()
    host.node()
    host.submit()
    host.train()
    one = host.store.fetch(keys.generation("a-1", 1), Generation)
    two = Generation(2, one.members[:3], "h", 1, reason="lost one", made_by=one.members[0].worker)
    host.store.put(keys.generation("a-1", 2), two)
    host.start()
    assert host.coordinator._plane.jobs["a-1"].members.newest == two


def test_a_generation_that_somebody_else_made_first_holds(host):
    host.start()
    host.node()
    host.submit()
    host.train()
    job = host.coordinator._plane.jobs["a-1"]
    one = job.members.newest
    theirs = Generation(2, one.members[1:], "h", 1, made_by=one.members[1].worker)
    host.store.put(keys.generation("a-1", 2), theirs)
    mine = Generation(2, one.members[:2], "h", 1, made_by="coordinator")
    host.coordinator._make(job, mine, host.now)
    assert job.members.newest == theirs


def test_a_journal_with_nothing_alive_begins_anew_and_goes_on_counting(host):
    host.start()
    host.submit()
    host.ask("cancel", job="a")
    host.turn()
    host.start()
    assert host.journal().count("\n") == 1
    request = host.submit()
    host.turn()
    assert host.reply(request)["job"] == "a-2"
    host.ask("cancel", job="a")
    host.turn()
    host.start()
    host.start()
    request = host.submit()
    host.turn()
    assert host.reply(request)["job"] == "a-3"


def test_a_store_that_began_anew_is_heard_from_its_first_entry_on(host, tmp_path):
    """As a TCP server that was started again, or a home that was used with a folder before."""
    host.start()
    for _ in range(5):
        host.submit()
        host.ask("cancel", job="a")
    host.turn()
    host.store.close()
    host.store = SignedStore(open_store(tmp_path / "another"), KEY)
    host.start()
    request = host.submit()
    host.turn()
    assert host.reply(request)["job"] == "a-6"


@pytest.mark.parametrize("left", ["folder", "spec"])
def test_ids_of_jobs_are_not_used_again_where_the_journal_was_moved_away(host, left):
    """Their checkpoints, generations and exits lie under these names."""
    host.start()
    host.submit()
    host.turn()
    assert host.status("a-1")
    places.journal_file(host.home).unlink()
    if left == "folder":
        for key in host.store.list(keys.JOBS):
            host.store.delete(key)
        places.job_folder(host.home, "a-1").mkdir(parents=True)
    host.start()
    request = host.submit()
    host.turn()
    assert host.reply(request)["job"] == "a-2"


def test_what_workers_wait_for_is_written_however_late_the_restart(host, monkeypatch):
    """Replies are not: their clients have gone. Of a node's loss its workers' peers must hear."""
    host.start()
    host.node()
    host.submit()
    workers = host.train()
    monkeypatch.setattr(Coordinator, "_act", lambda *_: None)
    host.store.delete(keys.node_record("n0"))
    host.turn(int(timeouts.HEARTBEAT_LOST) + 2, seconds=1.0)
    monkeypatch.undo()
    assert not any(host.store.fetch(keys.worker_exit("a-1", one)) for one in workers)
    host.now += 10 * timeouts.REPLY
    host.start()
    assert all(host.store.fetch(keys.worker_exit("a-1", one)) for one in workers)


def test_a_journal_that_another_version_wrote_is_refused_with_the_way_out(host):
    """Its lines are well formed, and one says a known curve as this version does not."""
    host.start()
    host.node()
    host.submit(measured=True)
    host.turn(2)
    (worker,) = host.assigned()
    fields = {"job": "a-1", "worker": worker["worker"], "announce": ANNOUNCE}
    older = {"type": "worker_ready", **fields, "known_curve": {"1": 10.0}}
    host.coordinator._journal.append([{"t": host.now, "in": older}])

    with pytest.raises(StoreError, match=r"journal\.jsonl: a 'worker_ready' entry") as caught:
        host.start()
    assert "another version of eflib" in caught.value.hint


def test_a_fresh_journal_hears_of_the_nodes_from_the_store(host):
    host.node(slots=2)
    host.start()
    assert host.coordinator._plane.nodes["n0"]["slots"] == 2


def test_a_node_of_which_only_the_record_is_left_is_given_up_after_three_beats(host):
    host.node()
    host.start()
    host.turn(4, seconds=timeouts.BEAT)
    assert host.coordinator._plane.nodes == {}


def test_a_node_that_beats_is_kept_and_one_that_stops_is_lost_after_its_bound(host):
    host.start()
    host.node("n0")
    host.node("n1")
    for count in range(2, 40):
        host.beat("n0", count)
        host.turn(seconds=timeouts.BEAT)
        alive = {"n0", "n1"} if count < timeouts.HEARTBEAT_LOST else {"n0"}
        if abs(count - timeouts.HEARTBEAT_LOST) > 3:
            assert set(host.coordinator._plane.nodes) == alive, count


def test_progress_of_trainers_is_in_the_status(host):
    host.start()
    host.node()
    host.submit()
    host.train()
    document = {"global_step": 7, "world_size": 4, "steps_per_s": 30.0, "loss": 0.5}
    host.store.put(keys.job_progress("a-1"), document)
    host.turn(2, seconds=timeouts.PROGRESS)
    status = host.status("a-1")
    assert (status["global_step"], status["steps_per_s"], status["loss"]) == (7, 30.0, 0.5)


def test_a_curve_that_was_measured_is_found_by_the_next_submission(host):
    host.start()
    host.node()
    observed = {size: Observation(rate, 0.1, 0.05) for size, rate in CURVE.items()}
    host.coordinator._curves.keep("a.py", ANNOUNCE, observed, {})
    host.submit(measured=True)
    host.train()
    assert host.status("a-1")["curve"] == {"1": 10.0, "2": 19.0, "4": 34.0}
    assert host.status("a-1")["curve_details"]["2"] == {"spread": 0.1, "cpu_s": 0.05}
    assert not any("measured" in line["text"] for line in host.status("a-1")["story"])


def test_a_message_that_is_not_signed_by_this_cluster_is_left_out(host):
    other = SignedStore(host.store.store, b"x" * 32)
    host.start()
    other.post(keys.INBOX, {"type": "node_joined", "node": "evil"})
    host.node()
    host.turn()
    assert list(host.coordinator._plane.nodes) == ["n0"]


def test_a_second_coordinator_of_one_home_is_refused(host, monkeypatch):
    monkeypatch.setattr(timeouts, "LOCK", 0.02)
    with (
        FileLock(places.coordinator_lock(host.home)),
        pytest.raises(UsageError, match="a coordinator runs already over") as caught,
    ):
        host.make().run()
    assert caught.value.hint == "ask it with: efctl status"


def test_a_look_whether_one_is_alive_does_not_keep_a_coordinator_from_starting(host, monkeypatch):
    """The look holds the lock for a moment; a start in that moment must wait it out."""
    asked = threading.Event()

    class Asked(FileLock):
        def acquire(self, *args, **kwargs):
            asked.set()
            return super().acquire(*args, **kwargs)

    def look():
        with FileLock(places.coordinator_lock(host.home)):
            held.set()
            asked.wait(timeouts.LOCK)

    held = threading.Event()
    looker = threading.Thread(target=look)
    looker.start()
    assert held.wait(timeouts.LOCK)
    monkeypatch.setattr("eflib.coordinator.coordinator.FileLock", Asked)
    coordinator = host.make()
    coordinator.stop()
    coordinator.run()
    looker.join(timeouts.LOCK)
    assert asked.is_set()


def test_alive_means_that_the_lock_is_held(host):
    assert not is_coordinator_alive(host.home)
    with FileLock(places.coordinator_lock(host.home)):
        assert is_coordinator_alive(host.home)
    assert not is_coordinator_alive(host.home)


def run_with_jumping_clock(host, jump, **settings):
    def clock():
        host.now += jump
        return host.now

    host.coordinator = Coordinator(host.store, host.home, clock=clock, **settings)
    host.coordinator.run()


def test_a_managed_one_ends_when_no_first_job_comes(host, monkeypatch):
    monkeypatch.setattr(timeouts, "LOOP", 0)
    begin = host.now
    run_with_jumping_clock(host, 5.0, managed=True)
    assert timeouts.FIRST_JOB < host.now - begin < timeouts.FIRST_JOB + 50
    assert host.store.fetch(keys.COORDINATOR)["stopped"] is True
    assert not is_coordinator_alive(host.home)


def test_a_managed_one_that_had_a_job_ends_soon_after_it(host):
    host.start(managed=True)
    host.submit()
    host.turn()
    host.turn(3, seconds=timeouts.FIRST_JOB)
    assert not host.coordinator._stop.is_set()
    host.ask("cancel", job="a")
    host.turn()
    host.turn(seconds=timeouts.IDLE - 1)
    assert not host.coordinator._stop.is_set()
    host.turn(seconds=2)
    assert host.coordinator._stop.is_set()


def test_one_that_ends_idle_leaves_a_journal_of_one_entry_and_the_old_one_beside_it(
    host, monkeypatch
):
    monkeypatch.setattr(timeouts, "LOOP", 0)
    host.submit()
    host.ask("cancel", job="a")
    run_with_jumping_clock(host, 1.0, managed=True)
    old = places.journal_file(host.home).with_suffix(".old.jsonl")
    assert host.journal().count("\n") == 1
    assert '"cancel"' in old.read_text()

    run_with_jumping_clock(host, 5.0, managed=True)  # one that had nothing to do
    assert '"cancel"' in old.read_text()
    host.start()
    request = host.submit()
    host.turn()
    assert host.reply(request)["job"] == "a-2"


def test_one_in_the_foreground_never_ends_by_itself(host):
    host.start()
    host.turn(5, seconds=10 * timeouts.FIRST_JOB)
    assert not host.coordinator._stop.is_set()


@pytest.mark.parametrize(
    ("managed", "busy", "stops"),
    [(True, False, True), (True, True, False), (False, False, False)],
)
def test_release_ends_a_managed_one_that_is_idle_at_once(host, managed, busy, stops):
    host.start(managed=managed)
    if busy:
        host.submit()
        host.turn()
    request = host.ask("release")
    host.turn()
    assert host.reply(request) == {"stops": stops}
    assert host.coordinator._stop.is_set() is stops


def test_its_record_counts_beats(host):
    host.start()
    host.turn(3, seconds=timeouts.BEAT)
    record = host.store.fetch(keys.COORDINATOR)
    assert record["beats"] == 3
    assert record["stopped"] is False
