"""Jobs that have ended: what stays of them, and that they cost nothing any more."""

import pytest

from eflib.coordinator import timeouts
from eflib.coordinator.plane import ControlPlane
from eflib.messages.records import Progress
from eflib.messages.status import JobIndex
from eflib.store import keys


def test_of_a_job_that_has_ended_the_document_stays_and_the_rest_goes_after_a_while(host):
    host.start()
    host.node()
    host.submit()
    workers = host.train()
    told = Progress(generation=1, global_step=990, world_size=4, steps_per_s=34.0)
    host.store.put(keys.job_progress("a-1"), told)
    host.ask("cancel", job="a")
    host.turn(3)
    for worker in workers:
        host.post("worker_exited", node="n0", job="a-1", worker=worker)
    host.turn(2)
    assert host.store.list(keys.generations("a-1"))
    for beat in range(2, 80):
        host.beat("n0", beat)
        host.turn(seconds=timeouts.BEAT)
    assert host.coordinator._plane.jobs == {}
    left = [keys.last_part(key) for key in host.store.list(keys.job("a-1"))]
    assert sorted(left) == ["spec", "status"]
    assert host.status("a-1").state == "CANCELLED"
    assert host.status("a-1").global_step == 990
    request = host.ask("cancel", job="a")
    host.turn()
    assert "has ended" in host.reply(request).error.problem


@pytest.mark.parametrize("restarts", [False, True])
def test_the_index_tells_which_jobs_are_there_and_which_ended_last(host, monkeypatch, restarts):
    monkeypatch.setattr("eflib.coordinator.plane.MAX_LISTED", 3)
    host.start()
    for name in "abcde":
        host.submit(name)
    host.turn()
    for name in "abde":
        host.ask("cancel", job=name)
    host.turn(2)
    if restarts:
        host.start()
        host.turn()
    index = host.store.fetch(keys.JOB_INDEX, JobIndex)
    assert index == JobIndex(("c-3",), ("b-2", "d-4", "e-5"))
    host.ask("cancel", job="c")
    host.turn(2)
    host.start()  # all have ended: the journal begins anew
    host.turn()
    assert host.store.fetch(keys.JOB_INDEX, JobIndex) == JobIndex((), ("d-4", "e-5", "c-3"))


def test_documents_of_jobs_that_ended_long_ago_are_not_built_again(host, monkeypatch):
    host.start()
    for _ in range(30):
        host.submit()
    host.turn()
    for number in range(1, 30):
        host.ask("cancel", job=f"a-{number}")
    host.turn(2)
    host.turn(seconds=timeouts.ENDED_KEPT + 1)
    built = []
    real = ControlPlane.status

    def counted(plane, job, *rest):
        built.append(job.job)
        return real(plane, job, *rest)

    monkeypatch.setattr(ControlPlane, "status", counted)
    host.turn(20, seconds=timeouts.PROGRESS)
    assert set(built) == {"a-30"}
