import os
import socket

import pytest

from eflib.errors import StoreError
from eflib.launcher.documents import Cluster, UnknownJobError, open_cluster
from eflib.messages.records import Heartbeat, JobSpec, NodeRecord
from eflib.store import keys
from tests.helpers.raw import Raw
from tests.unit.launcher.conftest import an_assignment


@pytest.fixture
def cluster(signed, tmp_path):
    return Cluster(tmp_path, "unused", signed)


@pytest.fixture
def write(signed, a_status):
    def put(job, name, submitted, state="RUNNING"):
        status = a_status(job=job, name=name, submitted=submitted, state=state)
        signed.put(keys.job_status(job), status)

    return put


def test_jobs_come_in_the_order_of_their_submission(cluster, write, signed):
    write("b-1", "b", 2.0)
    write("a-1", "a", 3.0)
    write("c-1", "c", 1.0)
    signed.put(keys.job_spec("d-1"), JobSpec())
    assert [job["job"] for job in cluster.jobs()] == ["c-1", "b-1", "a-1"]


def test_a_status_that_cannot_be_read_hides_neither_its_job_nor_the_others(cluster, write, signed):
    write("a-1", "a", 1.0)
    signed.store.set(keys.job_status("torn-1"), b"{")
    signed.put(keys.job_status("far-1"), {"job": "far-1", "state": "RUNNING", "deadline": 1e300})
    states = {job["job"]: job["state"] for job in cluster.jobs()}
    assert states == {"a-1": "RUNNING", "torn-1": "UNREADABLE", "far-1": "UNREADABLE"}
    assert "cannot be read" in cluster.find("far-1")["reason"]
    assert cluster.status("far-1") is None


def test_a_job_is_found_by_id_or_by_name(cluster, write):
    write("digits-1", "digits", 1.0)
    assert cluster.find("digits")["job"] == "digits-1"
    assert cluster.find("digits-1")["job"] == "digits-1"


def test_of_several_with_a_name_the_last_that_lives_is_meant(cluster, write):
    write("digits-1", "digits", 1.0)
    write("digits-2", "digits", 2.0, "SUCCEEDED")
    assert cluster.find("digits")["job"] == "digits-1"
    write("digits-1", "digits", 1.0, "FAILED")
    assert cluster.find("digits")["job"] == "digits-2"


@pytest.mark.parametrize("name", ["x" * 300, "ü" * 200, "a/b", ".."])
def test_a_name_that_no_job_can_have_is_an_unknown_job(cluster, write, name):
    write("digits-1", "digits", 1.0)
    with pytest.raises(UnknownJobError):
        cluster.find(name)


def test_an_id_is_meant_before_a_name(cluster, write):
    write("x", "y", 1.0)
    write("z", "x", 2.0)
    assert cluster.find("x")["job"] == "x"


def test_an_unknown_job_is_refused_with_the_closest(cluster, write):
    write("digits-1", "digits", 1.0)
    with pytest.raises(UnknownJobError) as caught:
        cluster.find("digts")
    assert caught.value.render() == (
        "hint: did you mean digits?\nerror[unknown-job]: there is no job 'digts'"
    )
    with pytest.raises(UnknownJobError) as caught:
        cluster.find("zzz")
    assert caught.value.hint == "see all jobs with: efctl list"


def test_nodes_come_with_the_workers_they_should_run(cluster, signed):
    signed.put(keys.node_record("n0"), NodeRecord(node="n0", slots=4))
    signed.put(keys.node_heartbeat("n0"), Heartbeat(1))
    signed.put(keys.node_assignment("n0"), an_assignment("j"))
    signed.put(keys.node_record("n1"), NodeRecord(node="n1", slots=2))
    first, second = cluster.nodes()
    assert (first["node"], first["slots"]) == ("n0", 4)
    assert [one["job"] for one in first["workers"]] == ["j"]
    assert (second["node"], second["slots"], second["workers"]) == ("n1", 2, [])


def test_a_coordinator_runs_if_its_process_does(cluster, signed):
    here = socket.gethostname()
    assert cluster.coordinator() is None
    Raw(signed).put(keys.COORDINATOR, {"pid": os.getpid(), "host": here})
    assert cluster.coordinator()["pid"] == os.getpid()
    Raw(signed).put(keys.COORDINATOR, {"pid": 2**22 + 1, "host": here})
    assert cluster.coordinator() is None
    Raw(signed).put(keys.COORDINATOR, {"pid": None, "host": here})
    assert cluster.coordinator() is None
    Raw(signed).put(keys.COORDINATOR, {"pid": os.getpid(), "host": here, "stopped": True})
    assert cluster.coordinator() is None


def test_a_coordinator_of_another_machine_is_believed(cluster, signed):
    Raw(signed).put(keys.COORDINATOR, {"pid": 2**22 + 1, "host": "elsewhere"})
    assert cluster.coordinator() is not None


def test_a_state_folder_that_cannot_be_used_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EFLIB_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(StoreError, match="cannot use the state folder"):
        open_cluster(None)


def test_the_cluster_of_the_home_is_opened_and_its_key_made(tmp_path):
    cluster = open_cluster(None)
    assert cluster.jobs() == []
    assert (tmp_path / "home" / "cluster.key").stat().st_mode & 0o777 == 0o600


def test_a_node_whose_agent_died_is_lost_and_one_elsewhere_is_not_judged(cluster, signed):
    here = socket.gethostname()
    for node, host, pid in (
        ("lives", here, os.getpid()),
        ("died", here, 2**22 + 1),
        ("far", "elsewhere", 2**22 + 1),
    ):
        signed.put(keys.node_record(node), NodeRecord(node=node, slots=1, host=host, pid=pid))
    assert cluster.lost_nodes() == ["died"]
