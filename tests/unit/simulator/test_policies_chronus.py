import builtins

import pytest

from eflib.errors import UsageError
from eflib.simulator.policies._selection import Claim, select
from tests.unit.simulator.small import a_job, counts_of, ends, run


def claim(seconds, within, num_gpus=1, *, is_old=False):
    return Claim(seconds=seconds, num_gpus=num_gpus, within=within, is_old=is_old)


@pytest.mark.parametrize(
    ("claims", "num_gpus", "chosen"),
    [
        ([], 4, []),
        ([claim(10, 10)], 4, [True]),
        ([claim(11, 10)], 4, [False]),
        ([claim(10, 10), claim(10, 10)], 1, 1),
        ([claim(10, 20), claim(10, 10)], 1, [True, True]),
        ([claim(5, 10), claim(5, 10), claim(11, 20)], 1, 2),
        ([claim(10, 10, is_old=True), claim(4, 10), claim(4, 10)], 1, [True, False, False]),
        ([claim(10, 10, 4), claim(10, 10, 2), claim(10, 10, 2)], 4, [False, True, True]),
        ([claim(11, 10, is_old=True), claim(10, 10)], 1, [False, True]),
    ],
)
def test_as_many_newcomers_are_chosen_as_there_is_gpu_time_for(claims, num_gpus, chosen):
    found = select(claims, num_gpus)

    assert found == chosen or sum(found) == chosen


def test_a_job_cannot_run_beside_itself():
    """Ten GPU-seconds are free before the deadline, but not for one job of one GPU."""
    assert select([claim(10, 5), claim(5, 5)], 2) == [False, True]


def test_an_accepted_job_is_protected_from_a_newcomer():
    result = run(
        "chronus",
        a_job("a", steps=400, gpus=4, deadline=101),
        a_job("b", at=1, gpus=4, deadline=60),
    )

    assert ends(result) == {"a": 100.0, "b": 125.0}


def test_both_are_kept_where_the_first_can_wait():
    first = a_job("a", steps=4000, gpus=4, deadline=3000)
    result = run("chronus", first, a_job("b", at=1, gpus=4, deadline=500))

    assert counts_of(result, "a") == [4, 0, 4, 0]  # for a lease and more
    assert result.summary.met == 2


def test_a_job_without_a_guarantee_runs_when_there_is_room():
    result = run("chronus", a_job("a", deadline=1), a_job("b", deadline=200), gpus_per_node=1)

    assert ends(result) == {"b": 100.0, "a": 200.0}


def test_best_effort_jobs_fill_what_is_left():
    result = run("chronus", a_job("a", deadline=200, gpus=2), a_job("free", gpus=2))

    assert ends(result) == {"a": 50.0, "free": 50.0}


def test_without_scipy_the_extra_is_named(monkeypatch):
    real_import = builtins.__import__

    def absent(name, *args, **kwargs):
        if name == "scipy":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)

    with pytest.raises(UsageError, match="the policy chronus needs scipy") as caught:
        select([claim(10, 10), claim(10, 10)], 1)
    assert caught.value.hint == "pip install 'eflib[simulator]'"
