import math

import pytest

from eflib.errors import UsageError
from eflib.scheduling.settings import SchedulerSettings

NUMBERS = [name for name in SchedulerSettings.__slots__ if name not in ("quotes", "admission")]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [-1, -0.5, math.nan, math.inf])
def test_a_setting_that_cannot_be_is_refused_at_once(name, value):
    with pytest.raises(UsageError, match=f"the scheduler setting {name} must be a finite number"):
        SchedulerSettings(**{name: value})


def test_no_cost_of_a_start_means_that_of_a_rescale():
    assert SchedulerSettings(rescale_cost=3.0).cost_of_start == 3.0
