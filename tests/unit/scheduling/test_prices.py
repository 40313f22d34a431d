"""Prices of a GPU-second, and rows that follow them."""

import pytest

from eflib.scheduling import JobRequest, ScalingCurve, SchedulerSettings
from eflib.scheduling.counts import Need
from eflib.scheduling.fresh import Situation, fresh_plan
from eflib.scheduling.jobs import Job
from eflib.scheduling.plan import gpu_seconds
from eflib.scheduling.priced import fill_priced
from eflib.scheduling.prices import Prices, find_prices, hull
from eflib.scheduling.timeline import Timeline
from tests.unit.scheduling.builders import CONCAVE

EIGHT = [(0.0, 0b11111111)]
LINEAR = ScalingCurve({1: 10.0, 2: 20.0, 4: 40.0})
FLAT = ScalingCurve({1: 10.0, 2: 12.0, 4: 13.0})
SETTINGS = SchedulerSettings()


def job(name, curve, steps, deadline):
    request = JobRequest(name, curve, steps, 0.0, deadline=deadline)
    made = Job(request, 0, curve, steps, 0.0)
    made.set_curve(curve)
    made.promise = deadline
    return made


def jobs(*rows, curve=LINEAR):
    return [job(f"j{place}", curve, *row) for place, row in enumerate(rows)]


def priced(one, prices, settings=SETTINGS, spare=0.0):
    need = Need(one.left, one.promise, spare)
    return fill_priced(one, Timeline(EIGHT), need, settings, prices)


def test_each_level_costs_more_per_step_than_the_one_before():
    assert hull(job("a", CONCAVE, 1, 1.0)) == [
        (0, pytest.approx(1 / 10)),
        (1, pytest.approx(1 / 8)),
        (2, pytest.approx(2 / 12)),
        (3, pytest.approx(4 / 10)),
    ]


def test_levels_that_a_mixture_beats_are_left_out():
    humped = ScalingCurve({1: 10.0, 2: 11.0, 4: 40.0, 8: 45.0})
    assert [level for level, _ in hull(job("a", humped, 1, 1.0))] == [2, 3]


def test_where_there_is_enough_a_gpu_second_costs_one():
    prices = find_prices(jobs((100, 50.0), (100, 90.0)), EIGHT, 0.0, SETTINGS)
    assert set(prices.levels) == {1.0}


def test_where_too_much_is_due_a_gpu_second_costs_more():
    crowd = [(1500, 40.0 + place) for place in range(3)]
    prices = find_prices(jobs(*crowd, (100, 400.0), curve=CONCAVE), EIGHT, 0.0, SETTINGS)
    assert prices.at(1.0) > 1.0
    assert prices.at(399.0) == 1.0


def test_a_job_that_scales_well_waits_where_it_is_dear_and_one_that_does_not_stays():
    prices = Prices([50.0], [1.3, 1.0])
    (wide,) = priced(job("a", LINEAR, 1200, 100.0), prices)
    assert (wide.start >= 50.0, wide.size) == (True, 4)
    flat = priced(job("b", FLAT, 950, 100.0), prices)
    assert [segment.size for segment in flat] == [1]
    assert flat[0].end - flat[0].start == pytest.approx(95.0, abs=0.1)


def test_a_priced_row_costs_no_more_than_constant_shares_and_is_in_time():
    one = job("a", CONCAVE, 1800, 100.0)
    row = priced(one, Prices([], [1.0]))
    assert row[-1].end <= 100.0
    assert gpu_seconds(row) <= 2 * 100.0 + 1.0


def test_pauses_are_paid_for():
    one, settings = job("a", LINEAR, 1000, 100.0), SchedulerSettings(rescale_cost=5.0)
    row = priced(one, Prices([50.0], [1.3, 1.0]), settings, spare=5.0)
    assert sum((s.end - s.start) * 10.0 * s.size for s in row) >= 1000 + 50.0
    assert row[-1].end <= 100.0


def test_work_that_cannot_be_done_has_no_row():
    assert priced(job("a", LINEAR, 4001, 100.0), Prices([], [1.0])) is None


def test_prices_find_a_plan_where_no_order_does():
    crowd = jobs((1400, 51.5), (900, 41.2), (500, 41.2), (400, 20.6))
    assert fresh_plan(crowd, Situation(EIGHT, 0.0, SETTINGS), tight=False) is None
    plan = fresh_plan(crowd, Situation(EIGHT, 0.0, SETTINGS))
    assert all(plan[one.job_id].finish <= one.promise for one in crowd)
