import time

import pytest
import torch
from torch import nn

from eflib.models import Paced, paced


@pytest.fixture
def naps(monkeypatch):
    """Seconds that the paced model asked to sleep, call by call; nothing really sleeps."""
    seconds = []
    monkeypatch.setattr(paced.time, "sleep", seconds.append)
    return seconds


def test_the_pause_is_proportional_to_the_samples(naps):
    model = Paced(nn.Linear(2, 1), seconds_per_sample=0.25)

    model(torch.zeros(4, 2))
    model(torch.zeros(1, 2))

    assert naps == [1.0, 0.25]


def test_a_cost_per_call_is_added_once(naps):
    Paced(nn.Linear(2, 1), seconds_per_sample=0.25, seconds_per_call=3.0)(torch.zeros(4, 2))

    assert naps == [4.0]


def test_an_empty_batch_is_not_waited_for(naps):
    Paced(nn.Linear(2, 1), seconds_per_sample=1.0, seconds_per_call=1.0)(torch.zeros(0, 2))

    assert naps == []


def test_numbers_and_gradients_are_those_of_the_wrapped_model(naps):
    linear = nn.Linear(2, 1)
    inputs = torch.ones(3, 2)
    expected = linear(inputs)

    outputs = Paced(linear, seconds_per_sample=1.0)(inputs)
    outputs.sum().backward()

    assert torch.equal(outputs, expected)
    assert torch.equal(linear.bias.grad, torch.tensor([3.0]))


def test_it_takes_at_least_the_stated_time():
    started = time.perf_counter()
    Paced(nn.Identity(), seconds_per_sample=0.005)(torch.zeros(4))

    assert time.perf_counter() - started >= 0.02


@pytest.mark.parametrize(
    "pace", [{"seconds_per_sample": -1.0}, {"seconds_per_sample": 0.0, "seconds_per_call": -1.0}]
)
def test_a_negative_pace_is_refused(pace):
    with pytest.raises(ValueError, match="a pace cannot be negative"):
        Paced(nn.Identity(), **pace)
