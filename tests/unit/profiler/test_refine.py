"""Live steps against the curve: when they count, and what they change."""

import pytest

from eflib.profiler.fit import Observation
from eflib.profiler.refine import DRIFT, corrected, drift, is_drift, refined

POINTS = {1: 10.0, 2: 18.0, 4: 30.0}


def test_the_factor_is_live_speed_over_the_curve():
    assert drift(POINTS, 2, 9.0) == 0.5
    assert drift(POINTS, 4, 30.0) == 1.0


def test_a_size_without_a_point_has_no_factor():
    assert drift(POINTS, 3, 9.0) is None
    assert is_drift(None) is False


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(1.0, False), (1 + DRIFT * 0.99, False), (1 - DRIFT * 0.99, False), (1.2, True), (0.8, True)],
)
def test_only_more_than_the_threshold_is_drift_in_either_direction(factor, expected):
    assert is_drift(factor) is expected


def test_a_correction_scales_all_points_alike():
    assert corrected(POINTS, 4, 15.0) == {1: 5.0, 2: 9.0, 4: 15.0}


def test_a_new_size_is_added_and_the_others_stay():
    assert corrected(POINTS, 3, 25.0) == {**POINTS, 3: 25.0}


def test_a_correction_leaves_what_it_was_given():
    points = dict(POINTS)
    corrected(points, 4, 15.0)
    assert points == POINTS


def test_after_a_correction_the_same_speed_is_no_drift():
    assert not is_drift(drift(corrected(POINTS, 2, 11.0), 2, 11.0))


def test_live_steps_keep_what_else_was_measured():
    observed = {1: Observation(10.0, 0.1, 0.05), 2: Observation(18.0, 0.2, 0.03)}

    assert refined(observed, 2, 9.0) == {
        1: Observation(5.0, 0.1, 0.05),
        2: Observation(9.0, 0.2, 0.03),
    }


def test_live_steps_at_a_guessed_size_are_a_measurement_of_that_size():
    observed = {1: Observation(10.0, 0.1)}

    assert refined(observed, 4, 30.0) == {1: Observation(10.0, 0.1), 4: Observation(30.0)}
