"""Commands beside thousands of jobs that ended long ago: the index says which ones to look at."""

import json

import pytest

from eflib.messages.status import JobIndex
from eflib.store import keys


@pytest.fixture
def many(coordinator, a_status):
    """Jobs of which the index names one that trains and one that has ended."""
    for number in range(1, 21):
        ended = {"state": "SUCCEEDED", "submitted": float(number)}
        coordinator.write(a_status(job=f"old-{number}", name=f"old{number}", **ended))
    coordinator.write(a_status())
    index = JobIndex(present=("digits-1",), ended=("old-20",))
    coordinator.signed.put(keys.JOB_INDEX, index)
    return coordinator


def names(ran):
    return [job["job"] for job in json.loads(ran.out)["jobs"]]


def test_list_shows_live_jobs_and_the_last_that_have_ended(run, many):
    assert names(run("efctl list --json")) == ["old-20", "digits-1"]


def test_list_shows_all_jobs_if_asked(run, many):
    assert len(names(run("efctl list --every --json"))) == 21


def test_a_job_that_ended_long_ago_is_found_by_id_and_by_name(run, many):
    assert json.loads(run("efctl status old-3 --json").out)["job"] == "old-3"
    assert json.loads(run("efctl status old3 --json").out)["job"] == "old-3"


def test_documents_of_old_jobs_are_not_read_to_show_the_others(run, many, monkeypatch):
    read = []
    real = type(many.signed).fetch

    def noted(store, key, *kind):
        read.append(key)
        return real(store, key, *kind)

    monkeypatch.setattr(type(many.signed), "fetch", noted)
    for command in ("list", "status", "status digits", "describe digits-1"):
        run(f"efctl {command}")
    assert any(key == keys.job_status("digits-1") for key in read)
    assert not any("old-1/" in key for key in read)


def test_an_id_that_no_key_could_have_is_unknown(run, many):
    assert run("efctl status a/b").status == 2
    assert run("efctl status nobody-7").status == 2
