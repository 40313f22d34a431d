"""The table of rules for the next generation."""

import pytest

from eflib.coordinator.proposing import RULES, Outcome, Situation, decide


class Named:
    """A situation in which the given conditions hold."""

    def __init__(self, *conditions):
        self.conditions = conditions

    def __getattr__(self, name):
        return name == "always" or name in self.conditions


def test_every_condition_is_one_of_a_situation_and_says_what_it_means():
    for condition, _ in RULES:
        assert getattr(Situation, condition).__doc__


@pytest.mark.parametrize("place", range(len(RULES)))
def test_the_first_condition_that_holds_decides(place):
    holding = [condition for condition, _ in RULES[place:]]
    assert decide(Named(*holding)) is RULES[place][1]


def test_a_generation_is_made_only_when_no_condition_is_against_it():
    assert [outcome for _, outcome in RULES].count(Outcome.FORM) == 1
    assert decide(Named()) is Outcome.FORM
