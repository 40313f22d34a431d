"""The loop around the plane: a folder store, one thread, and a clock that the test turns."""

import json
import shutil

import pytest

from eflib import home as places
from eflib.coordinator import timeouts
from eflib.coordinator.coordinator import Coordinator
from eflib.errors import StoreError
from eflib.messages.codec import facts_of
from eflib.messages.generations import Generation
from eflib.messages.inbox import NodeJoined
from eflib.messages.records import (
    JobSpec,
    Progress,
    WorkerExit,
)
from eflib.messages.status import SpeedDetails
from eflib.profiler.fit import Observation
from eflib.store import SignedStore, keys, open_store
from tests.unit.coordinator.host import KEY
from tests.unit.coordinator.world import ANNOUNCE, CURVE


def test_a_job_comes_to_train_by_messages_alone(host):
    host.start()
    host.node()
    request = host.submit()
    workers = host.train()
    assert host.reply(request).job == "a-1"
    assert host.store.fetch(keys.job_spec("a-1"), JobSpec).script == "a.py"
    assert len(workers) == 4
    record = host.store.fetch(keys.generation("a-1", 1), Generation)
    assert [one.worker for one in record.members]
    assert host.status("a-1").world_size == 4


def test_a_restart_in_the_middle_knows_the_job_and_disturbs_nobody(host):
    host.start()
    host.node()
    host.submit()
    workers = host.train()
    before = host.status("a-1")
    host.now += 3
    host.start()
    host.turn(3)
    assert [one.worker for one in host.assigned()] == workers
    after = host.status("a-1")
    wanted = ("state", "world_size", "generation", "workers", "started", "story", "curve")
    for name in wanted:
        assert getattr(after, name) == getattr(before, name)
    assert host.store.fetch(keys.generation("a-1", 2), Generation) is None


def test_a_restart_reads_on_where_the_inbox_was_left(host):
    host.start()
    host.node()
    host.submit("a")
    host.turn()
    host.submit("b")
    request = host.submit("c")
    host.start()
    host.turn()
    assert host.reply(request).job == "c-3"
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
    assert host.reply(request).job == "a-1"
    assert host.store.fetch(keys.job_spec("a-1"), JobSpec).script == "a.py"
    assert [one.job for one in host.assigned()] == ["a-1"]


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
    host.coordinator._make(job, mine)
    assert job.members.newest == theirs


def test_a_journal_with_nothing_alive_begins_anew_and_goes_on_counting(host):
    host.start()
    host.submit()
    host.ask("cancel", job="a")
    host.turn()
    host.start()
    assert host.journal() == ""
    request = host.submit()
    host.turn()
    assert host.reply(request).job == "a-2"
    host.ask("cancel", job="a")
    host.turn()
    host.start()
    host.start()
    request = host.submit()
    host.turn()
    assert host.reply(request).job == "a-3"


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
    assert host.reply(request).job == "a-6"


@pytest.mark.parametrize("left", ["folder", "spec"])
def test_ids_of_jobs_are_not_used_again_where_the_journal_was_moved_away(host, left):
    """Their checkpoints, generations and exits lie under these names."""
    host.start()
    host.submit()
    host.turn()
    assert host.status("a-1")
    places.journal_folder(host.home).rename(host.home / "moved away")
    if left == "folder":
        for key in host.store.list(keys.JOBS):
            host.store.delete(key)
        (places.jobs_folder(host.home) / "a-1").mkdir(parents=True)
    host.start()
    request = host.submit()
    host.turn()
    assert host.reply(request).job == "a-2"


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
    assert not any(host.store.fetch(keys.worker_exit("a-1", one), WorkerExit) for one in workers)
    host.now += 10 * timeouts.REPLY
    host.start()
    assert all(host.store.fetch(keys.worker_exit("a-1", one), WorkerExit) for one in workers)


def test_a_journal_that_another_version_wrote_is_refused_with_the_way_out(host):
    """Its lines are well formed, and one says a known curve as this version does not."""
    host.start()
    host.node()
    host.submit(measured=True)
    host.turn(2)
    (worker,) = host.assigned()
    fields = {"job": "a-1", "worker": worker.worker, "announce": facts_of(ANNOUNCE)}
    older = {"type": "worker_ready", **fields, "known_curve": {"1": 10.0}}
    log = host.coordinator._memory._journal._log
    log.append([json.dumps({"v": 1, "t": host.now, "in": older}).encode()])

    with pytest.raises(StoreError, match=r"\d+\.log:\d+: a 'worker_ready' entry") as caught:
        host.start()
    assert "another version of eflib" in caught.value.hint


def test_a_coordinator_whose_journal_is_cut_goes_on_as_if_it_were_not(host, monkeypatch):
    monkeypatch.setattr("eflib.coordinator.journal.MAX_ENTRIES", 3)
    host.start()
    host.node()
    host.submit()
    workers = host.train()
    before = host.status("a-1")
    assert max(places.journal_folder(host.home).glob("*.snapshot")).name > "00000002.snapshot"
    host.now += 3
    host.start()
    host.turn(3)
    assert [one.worker for one in host.assigned()] == workers
    after = host.status("a-1")
    wanted = ("state", "world_size", "generation", "workers", "started", "story", "curve")
    assert {name: getattr(after, name) for name in wanted} == {
        name: getattr(before, name) for name in wanted
    }
    request = host.submit("b")
    host.turn()
    assert host.reply(request).job == "b-2"


def test_the_journal_is_not_cut_before_what_follows_from_it_is_done(host, monkeypatch):
    monkeypatch.setattr("eflib.coordinator.journal.MAX_ENTRIES", 2)
    host.start()
    host.node()
    host.turn(3)
    request = host.submit()

    def out(*_):
        raise StoreError("the store is out")

    with monkeypatch.context() as patch:
        patch.setattr(host.store.store, "set", out)
        for _ in range(3):
            host.coordinator._turn_or_wait()
    assert '"submit"' in host.journal()
    host.start()
    host.turn()
    assert host.reply(request).job == "a-1"


def test_reports_of_progress_do_not_let_the_journal_grow_without_end(host, monkeypatch):
    monkeypatch.setattr("eflib.coordinator.journal.MAX_ENTRIES", 20)
    host.start()
    host.node()
    host.submit()
    host.train()
    sizes = []
    for step in range(1, 200):
        told = Progress(generation=1, global_step=step, world_size=4, steps_per_s=34.0)
        host.store.put(keys.job_progress("a-1"), told)
        host.beat("n0", step + 1)
        host.turn(seconds=timeouts.FEED + 0.1)
        files = places.journal_folder(host.home).iterdir()
        sizes.append(sum(file.stat().st_size for file in files))
    assert max(sizes[100:]) <= 1.2 * max(sizes[:100])


def test_the_journal_of_the_version_before_is_taken_over(host):
    """It is one file of lines; its job trains on."""
    host.start()
    host.node()
    host.submit()
    workers = host.train()
    folder, old = places.journal_folder(host.home), places.old_journal_file(host.home)
    lines = [line.split(" ", 2)[2] for file in sorted(folder.glob("*.log"))
             for line in file.read_text().splitlines()]  # fmt: skip
    host.coordinator._memory.close()
    shutil.rmtree(folder)
    old.write_text("".join(f"{line}\n" for line in lines))
    host.start()
    host.turn(2)
    assert [one.worker for one in host.assigned()] == workers
    assert not old.exists()
    host.start()
    host.turn(2)
    assert host.status("a-1").state == "RUNNING"


def test_a_fresh_journal_hears_of_the_nodes_from_the_store(host):
    host.node(slots=2)
    host.start()
    assert host.coordinator._plane.nodes["n0"].slots == 2


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
    document = Progress(global_step=7, world_size=4, steps_per_s=30.0, loss=0.5)
    host.store.put(keys.job_progress("a-1"), document)
    host.turn(2, seconds=timeouts.PROGRESS)
    status = host.status("a-1")
    assert (status.global_step, status.steps_per_s, status.loss) == (7, 30.0, 0.5)


def test_a_curve_that_was_measured_is_found_by_the_next_submission(host):
    host.start()
    host.node()
    observed = {size: Observation(rate, 0.1, 0.05) for size, rate in CURVE.items()}
    host.coordinator._curves.keep("a.py", ANNOUNCE, observed, {})
    host.submit(measured=True)
    host.train()
    assert host.status("a-1").curve == {1: 10.0, 2: 19.0, 4: 34.0}
    assert host.status("a-1").curve_details[2] == SpeedDetails(0.1, 0.05)
    assert not any("measured" in line.text for line in host.status("a-1").story)


def test_a_message_that_is_not_signed_by_this_cluster_is_left_out(host):
    other = SignedStore(host.store.store, b"x" * 32)
    host.start()
    other.post(keys.INBOX, NodeJoined(node="evil"))
    host.node()
    host.turn()
    assert list(host.coordinator._plane.nodes) == ["n0"]
