import math

import pytest

from eflib.errors import UsageError
from eflib.scheduling import ScalingCurve


def test_a_count_that_is_no_faster_than_a_smaller_one_is_not_usable():
    curve = ScalingCurve({1: 10.0, 2: 9.0, 4: 20.0, 8: 20.0})
    assert curve.usable() == ((1, 10.0), (4, 20.0))


def test_what_was_not_measured_is_left_out():
    assert ScalingCurve({1: 1.0, 2: math.nan, 4: 0.0, 8: 3.0}).counts == (1, 8)


def test_a_curve_without_any_point_is_refused():
    with pytest.raises(UsageError, match="at least one measured point"):
        ScalingCurve({1: math.nan})


def test_odd_counts_are_read_between_the_points_and_beyond_stays_flat():
    curve = ScalingCurve({2: 10.0, 4: 16.0})
    assert [curve.throughput(n) for n in (0, 1, 3, 9)] == [0.0, 5.0, 13.0, 16.0]


def test_a_curve_with_no_power_of_two_still_has_usable_counts():
    assert ScalingCurve({3: 6.0}).usable() == ((1, 2.0), (2, 4.0))


def test_max_gpus_bounds_the_usable_counts():
    assert ScalingCurve({1: 1.0, 2: 2.0, 4: 4.0}).usable(3) == ((1, 1.0), (2, 2.0))


def test_equal_points_make_equal_curves():
    assert ScalingCurve({1: 1.0, 2: 2.0}) == ScalingCurve({2: 2.0, 1: 1.0})
    assert len({ScalingCurve({1: 1.0}), ScalingCurve({1: 1.0})}) == 1
