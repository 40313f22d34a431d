"""The worked example of docs/policy.md: its sums, the scheduler's answers and the figure agree."""

import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
RATE = {1: 10.0, 2: 18.0, 4: 30.0}


@pytest.fixture(scope="module")
def example():
    file = ROOT / "docs" / "tools" / "policy_example.py"
    return SimpleNamespace(**runpy.run_path(str(file)))


@pytest.fixture(scope="module")
def told(example):
    return example.story()


def share(steps, seconds):
    """Return the paper's minimum satisfactory share: the smallest n with M / T(n) <= D - t."""
    return min(n for n, rate in RATE.items() if steps / rate <= seconds)


def late_switch(steps, seconds, small, large, reserve=0.0):
    """Return how long the smaller count will do; the larger one makes up for the rest."""
    need = steps + reserve * seconds * RATE[large]
    return (RATE[large] * seconds - need) / (RATE[large] - RATE[small])


def test_the_curve_of_the_page_is_the_curve_of_the_example(example):
    assert "| steps per second `T(n)` | 10 | 18 | 30 |" in PAGE
    assert example.CURVE.points == RATE


def test_minimum_shares_are_those_worked_out_by_the_paper_s_rule(told):
    by_hand = [
        ("A", 0.0, share(900, 100)),
        ("B", 10.0, share(850, 50)),
        ("C", 10.0, share(840, 60)),
    ]

    assert told.shares == by_hand
    assert [count for _, _, count in by_hand] == [1, 2, 2]


def test_a_second_gpu_is_taken_as_late_as_the_sums_say(told):
    b, c = late_switch(850, 50, 1, 2), late_switch(840, 60, 1, 2)
    starts = [start for start, _, _ in told.holdings]

    assert (b, c) == (6.25, 30.0)
    assert starts[2] == pytest.approx(10 + late_switch(850, 50, 1, 2, reserve=0.005), abs=0.01)
    assert starts[3] == pytest.approx(10 + late_switch(840, 60, 1, 2, reserve=0.005), abs=0.01)


def test_the_spare_gpu_goes_where_it_is_cheapest(told):
    def price(steps):
        return 2 * steps / RATE[2] - steps / RATE[1]

    assert price(600) < price(850)
    assert told.holdings[1][2] == {"A": 2, "B": 1, "C": 1}


def test_the_refusal_offers_what_the_sums_allow_up_to_its_reserves(told):
    # 18 x + 30 y = 840 and 18 x + 30 (50 - x - y) = 850
    x = (840 + 850 - 30 * 50) / (18 + 18 - 30)
    y = (840 - 18 * x) / 30
    by_hand = 10 + x + y

    assert by_hand == pytest.approx(50.67, abs=0.01)
    assert by_hand < told.refusal.earliest_deadline < by_hand + 1
    assert f"offers **{told.refusal.earliest_deadline:.1f} s**" in PAGE


def test_all_are_in_time(told):
    deadlines = {"A": 100.0, "B": 60.0, "C": 70.0}

    assert told.ends.keys() == deadlines.keys()
    assert all(told.ends[job] <= deadline for job, deadline in deadlines.items())


def test_the_table_is_what_the_scheduler_does(told):
    row = re.compile(r"^\| (\d+\.\d\d) \| (\d+\.\d\d) \| (\d?) ?\| (\d?) ?\| (\d?) ?\|", re.M)
    shown = [
        (start, end, {job: int(n) for job, n in zip("ABC", counts, strict=True) if n})
        for start, end, *counts in row.findall(PAGE)
    ]

    assert shown == [(f"{a:.2f}", f"{b:.2f}", counts) for a, b, counts in told.holdings]


def test_the_figure_is_drawn_from_it(example, told):
    assert example.FIGURE.read_text(encoding="utf-8") == example.figure(told)
