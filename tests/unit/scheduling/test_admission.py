import math

import pytest

from eflib.errors import UsageError
from eflib.scheduling import Admitted, JobRequest, Rejected
from tests.unit.scheduling.builders import CONCAVE, LINEAR, Watched, kinds


def test_a_job_that_can_make_it_alone_is_admitted_and_gets_all_that_helps():
    cluster = Watched(8)
    admitted, assigned = cluster.submit("a", 80, deadline=100.0)
    assert admitted == Admitted("a", 10.0)
    assert len(assigned.gpus) == 8


def test_a_tighter_newcomer_shrinks_the_first_and_both_are_in_time():
    cluster = Watched(4)
    cluster.submit("a", 200, deadline=200.0)
    cluster.submit("b", 80, deadline=42.0)
    assert (cluster.holds("a"), cluster.holds("b")) == (2, 2)
    assert cluster.view("a").slack >= 0
    assert cluster.view("b").slack >= 0


def test_a_job_that_no_cluster_could_finish_is_refused_with_the_time_it_would_take():
    cluster = Watched(4)
    (rejected,) = cluster.submit("a", 400, deadline=50.0)
    assert "even alone it would take 100 s" in rejected.reason
    assert rejected.earliest_deadline == pytest.approx(100.0, abs=1.0)


def test_a_deadline_in_the_past_is_refused_and_a_possible_one_offered():
    cluster = Watched(4)
    cluster.now = 50.0
    (rejected,) = cluster.submit("a", 40, deadline=20.0)
    assert "30 s in the past" in rejected.reason
    assert rejected.earliest_deadline == pytest.approx(60.0, abs=1.0)


def test_a_refused_job_is_admitted_with_the_deadline_that_was_offered():
    cluster = Watched(4, rescale_cost=2.0)
    cluster.submit("a", 300, deadline=100.0)
    (rejected,) = cluster.submit("b", 300, deadline=90.0)
    assert isinstance(rejected, Rejected)
    assert "left by 1 promised jobs" in rejected.reason
    commands = cluster.submit("b", 300, deadline=rejected.earliest_deadline)
    assert kinds(commands) == ["Admitted"]


def test_a_refusal_changes_nothing():
    cluster = Watched(4)
    cluster.submit("a", 300, deadline=100.0)
    before = cluster.view("a")
    assert kinds(cluster.submit("b", 300, deadline=80.0)) == ["Rejected"]
    assert cluster.view("a") == before


def test_an_empty_cluster_refuses_without_an_offer():
    cluster = Watched()
    (rejected,) = cluster.submit("a", 10, deadline=100.0)
    assert rejected.earliest_deadline is None
    assert "no GPU" in rejected.reason


def test_a_best_effort_job_is_always_admitted():
    cluster = Watched()
    (admitted,) = cluster.submit("a", 10)
    assert admitted == Admitted("a", math.inf)


def test_a_best_effort_job_yields_to_a_promise_and_comes_back():
    cluster = Watched(4)
    cluster.submit("b", 1000)
    assert cluster.holds("b") == 4
    cluster.submit("a", 80, deadline=21.0)
    assert (cluster.holds("a"), cluster.holds("b")) == (4, 0)


def test_a_soft_deadline_is_admitted_late_with_its_projected_finish():
    cluster = Watched(4)
    admitted = cluster.submit("a", 400, deadline=50.0, soft=True)[0]
    assert admitted == Admitted("a", 100.0)
    assert cluster.view("a").slack == pytest.approx(-50.0)
    assert not cluster.view("a").promised


def test_a_soft_deadline_yields_to_a_hard_one():
    cluster = Watched(4)
    cluster.submit("soft", 200, deadline=60.0, soft=True)
    assert kinds(cluster.submit("hard", 150, deadline=50.0)) == ["Admitted"]
    assert cluster.holds("hard") == 4


def test_the_cost_of_starting_is_charged_in_the_promise():
    cluster = Watched(4, rescale_cost=10.0)
    assert kinds(cluster.submit("a", 40, deadline=19.0)) == ["Rejected"]
    assert kinds(cluster.submit("b", 40, deadline=20.5)) == ["Admitted"]


def test_a_start_may_cost_less_than_a_rescale():
    cluster = Watched(4, rescale_cost=10.0, start_cost=1.0)
    assert kinds(cluster.submit("a", 40, deadline=11.5)) == ["Admitted"]


def test_the_safety_margin_is_planned_on_top():
    cluster = Watched(4, safety_margin=0.2)
    assert kinds(cluster.submit("a", 400, deadline=110.0)) == ["Rejected"]
    assert kinds(cluster.submit("b", 400, deadline=121.0)) == ["Admitted"]


def test_a_job_never_holds_more_than_its_maximum():
    cluster = Watched(8)
    cluster.submit("a", 80, deadline=100.0, max_gpus=3)
    assert cluster.holds("a") == 2


def test_three_gpus_on_one_node_are_enough_for_two_jobs():
    cluster = Watched(3)
    cluster.submit("a", 100, deadline=70.0)
    cluster.submit("b", 100, deadline=120.0)
    assert (cluster.holds("a"), cluster.holds("b")) == (2, 1)


def test_a_best_effort_newcomer_starts_although_another_holds_all():
    cluster = Watched(4)
    cluster.submit("first", 3000, curve=CONCAVE)
    assert cluster.holds("first") == 4
    cluster.submit("second", 300, curve=CONCAVE)
    assert (cluster.holds("first"), cluster.holds("second")) == (2, 2)


def test_spare_gpus_go_where_they_cost_least():
    cluster = Watched(8)
    cluster.submit("concave", 3000, curve=CONCAVE)
    cluster.submit("linear", 300, curve=LINEAR)
    assert (cluster.holds("concave"), cluster.holds("linear")) == (4, 4)
    assert cluster.view("linear").projected_finish == pytest.approx(75.0)


def test_the_same_id_twice_is_misuse():
    cluster = Watched(4)
    cluster.submit("a", 10)
    with pytest.raises(UsageError, match="'a' is already there"):
        cluster.submit("a", 10)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("total_steps", 0.0, "0.0 steps"),
        ("max_gpus", 0, "at most 0"),
        ("deadline", math.nan, "not a number"),
    ],
)
def test_a_request_out_of_range_is_misuse(field, value, said):
    fields = {"total_steps": 10.0, "deadline": 10.0, field: value}
    with pytest.raises(UsageError, match=said):
        JobRequest("a", LINEAR, submitted_at=0.0, **fields)
