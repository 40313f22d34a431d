"""The step machine: one table says every legal move, and nothing else changes the state."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eflib.errors import InvalidTransitionError
from eflib.trainer.step.machine import ENDS, TRANSITIONS, Event, State, StepMachine, following

EVENTS = st.lists(st.sampled_from(Event), max_size=60)


def walk(machine, events):
    """Try each event; return those that were legal with the state after them."""
    return [(machine.state, event, machine.on(event)) for event in events if machine.can(event)]


def machine_in(state):
    """Return a machine that was led to a state by the shortest way."""
    ways = {State.NEW: ()}
    while state not in ways:
        for (before, event), after in TRANSITIONS.items():
            if before in ways and after not in ways:
                ways[after] = (*ways[before], event)
    machine = StepMachine()
    for event in ways[state]:
        machine.on(event)
    return machine


@given(EVENTS)
def test_a_random_walk_never_leaves_the_table(events):
    for before, event, after in walk(StepMachine(), events):
        assert TRANSITIONS[before, event] is after


@pytest.mark.parametrize(
    ("state", "event"),
    list(itertools.product(State, Event)),
    ids=lambda one: one.name,
)
def test_an_event_is_legal_or_raises_and_changes_nothing(state, event):
    machine = machine_in(state)
    if (state, event) in TRANSITIONS:
        assert machine.can(event)
        assert machine.on(event) is machine.state is TRANSITIONS[state, event]
        return
    assert not machine.can(event)
    with pytest.raises(InvalidTransitionError) as caught:
        machine.on(event)
    assert event.name in str(caught.value)
    assert state.name in str(caught.value)
    assert machine.state is state


def test_the_ends_are_the_states_that_nothing_leaves():
    assert {one for one in State if not any(before is one for before, _ in TRANSITIONS)} == ENDS


@pytest.mark.parametrize("state", [one for one in State if one not in ENDS])
def test_from_every_other_state_an_end_can_be_reached(state):
    reached = {state}
    while more := {to for (of, _), to in TRANSITIONS.items() if of in reached} - reached:
        reached |= more
    assert reached & ENDS


@given(EVENTS)
def test_the_optimizer_step_is_done_once_for_each_sum(events):
    seen = [event for _, event, _ in walk(StepMachine(), events)]
    commits, begun = seen.count(Event.SUMMED), seen.count(Event.STEP_BEGUN)
    assert commits <= seen.count(Event.ALL_TAKEN) <= begun


def test_every_event_is_possible_somewhere():
    assert {event for _, event in TRANSITIONS} == set(Event)


def test_following_is_pure():
    machine = StepMachine()
    assert following(State.NEW, Event.OPENED) is State.OPENING
    assert machine.state is State.NEW
