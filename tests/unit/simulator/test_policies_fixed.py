"""Tiresias, Themis and Gandiva: policies that give what was asked for, and know no deadlines."""

import pytest

from eflib.simulator.policies.gandiva import Gandiva
from eflib.simulator.policies.themis import Themis
from eflib.simulator.policies.tiresias import Tiresias
from tests.unit.simulator.small import a_job, counts_of, ends, run

FIXED = ["gandiva", "themis", "tiresias"]


@pytest.mark.parametrize("policy", FIXED)
def test_without_contention_every_job_runs_at_once_and_undisturbed(policy):
    result = run(policy, a_job("a", gpus=2), a_job("b", at=5, gpus=2))

    assert ends(result) == {"a": 50.0, "b": 55.0}
    assert counts_of(result, "a") == [2, 0]


def test_tiresias_lets_a_newcomer_overtake_whom_it_has_served_long():
    result = run(
        lambda shape: Tiresias(shape, limits=(100.0,)),
        a_job("a", steps=400, gpus=4),
        a_job("b", at=10, gpus=4),
    )

    # a sinks after 25 s on 4 GPUs; b runs its 25 s; a goes on.
    assert ends(result) == {"b": 50.0, "a": 125.0}


def test_tiresias_serves_within_a_queue_in_order_of_arrival():
    result = run("tiresias", a_job("b", at=1, gpus=4), a_job("a", at=2, gpus=4), a_job("c", gpus=4))

    assert ends(result) == {"c": 25.0, "b": 50.0, "a": 75.0}


def test_tiresias_passes_over_a_job_that_does_not_fit():
    result = run(
        "tiresias", a_job("a", gpus=2), a_job("wide", at=1, gpus=4), a_job("b", at=2, gpus=2)
    )

    assert ends(result) == {"a": 50.0, "b": 52.0, "wide": 77.0}


def test_themis_keeps_a_lease_and_then_helps_whom_sharing_hurt_more():
    result = run(
        lambda shape: Themis(shape, lease=50.0),
        a_job("long", steps=4000, gpus=4),
        a_job("short", at=1, steps=40, gpus=4),
    )

    # Waiting for 49 s hurts a job of 10 s more than it hurts one of 1000 s.
    assert ends(result) == {"short": 60.0, "long": 1010.0}


def test_themis_takes_nothing_away_before_the_lease_is_over():
    result = run("themis", a_job("a", steps=4000, gpus=4), a_job("b", at=1, gpus=4))

    assert next(c.time for c in result.changes if c.job_id == "b") == 1000.0


def test_gandiva_takes_turns_on_full_nodes():
    result = run(
        lambda shape: Gandiva(shape, round_seconds=10.0), a_job("a", gpus=4), a_job("b", gpus=4)
    )

    assert counts_of(result, "a") == [4, 0, 4, 0, 4, 0]
    assert ends(result) == {"a": 45.0, "b": 50.0}


def test_gandiva_keeps_nodes_for_one_size():
    """Five GPUs are free, but no node is: four of them would break into others' nodes."""
    jobs = [a_job("one", steps=80), a_job("two", gpus=2, steps=80), a_job("four", gpus=4)]

    assert ends(run("gandiva", *jobs, nodes=2)) == {"one": 80.0, "two": 40.0, "four": 65.0}


def test_gandiva_moves_a_job_that_shares_to_nodes_that_come_free():
    jobs = [a_job("a", gpus=2, steps=40), *(a_job(name, gpus=4, steps=4000) for name in "bc")]
    result = run("gandiva", *jobs, nodes=2)

    assert next(c.time for c in result.changes if c.job_id == "c") == 20.0
    assert ends(result) == {"a": 20.0, "b": 1000.0, "c": 1020.0}


def test_gandiva_lets_a_size_without_nodes_wait():
    result = run("gandiva", a_job("one", steps=40), a_job("four", gpus=4))

    assert ends(result) == {"one": 40.0, "four": 65.0}
