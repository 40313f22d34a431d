"""What the agent decides to do, without a process in sight."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eflib.agent.roster import Kill, Phase, ReportLost, Roster, Start, Terminate
from eflib.errors import InvalidTransitionError


@pytest.fixture
def roster():
    return Roster(grace=30.0, kill_again=5.0)


def look(roster, *assigned, now=0.0, can_start=True):
    return roster.reconcile(assigned, now, can_start=can_start)


def test_the_unknown_are_started_in_order_and_only_once(roster):
    assert look(roster, "a", "b") == (Start("a"), Start("b"))
    assert look(roster, "a", "b") == ()
    assert roster.alive == ("a", "b")


def test_starts_wait_for_the_pool(roster):
    assert look(roster, "a", can_start=False) == ()
    assert roster.has_new(["a"])
    assert look(roster, "a") == (Start("a"),)
    assert not roster.has_new(["a"])


def test_a_start_that_came_to_nothing_is_tried_again(roster):
    look(roster, "a")
    roster.postpone("a")

    assert look(roster, "a") == (Start("a"),)


def test_who_vanishes_is_asked_then_killed_then_killed_again(roster):
    look(roster, "a", "b")

    assert look(roster, "b", now=100.0) == (Terminate("a"),)
    assert look(roster, "b", now=129.9) == ()
    assert look(roster, "b", now=130.0) == (Kill("a"),)
    assert look(roster, "b", now=134.9) == ()
    assert look(roster, "b", now=135.0) == (Kill("a"),)


def test_who_was_asked_to_leave_cannot_come_back(roster):
    look(roster, "a")
    look(roster)

    assert look(roster, "a") == ()
    assert roster.phase("a") is Phase.LEAVING


def test_who_has_ended_is_not_started_again(roster):
    look(roster, "a")
    roster.ended("a")

    assert look(roster, "a") == ()
    assert roster.alive == ()


def test_who_ends_while_leaving_is_not_killed(roster):
    look(roster, "a")
    look(roster)
    roster.ended("a")

    assert look(roster, now=1000.0) == ()


def test_an_assignment_that_cannot_be_told_changes_nothing_but_goes_on_killing(roster):
    look(roster, "a", "b")
    look(roster, "b", now=0.0)

    assert roster.reconcile(None, 1.0, can_start=True) == ()
    assert roster.reconcile(None, 30.0, can_start=True) == (Kill("a"),)
    assert roster.phase("b") is Phase.RUNNING


def test_whom_an_earlier_agent_started_is_reported_lost_once():
    roster = Roster(grace=30.0, kill_again=5.0, lost={"old"})

    assert look(roster, "old", "new", can_start=False) == (ReportLost("old"),)
    assert look(roster, "old", "new") == (Start("new"),)


def test_a_drained_roster_asks_everyone_and_starts_nobody(roster):
    look(roster, "a")
    roster.drain()

    assert look(roster, "a", "b", now=10.0) == (Terminate("a"),)
    roster.end_grace(11.0)
    assert look(roster, "a", "b", now=11.0) == (Kill("a"),)


@pytest.mark.parametrize("act", ["ended", "postpone"])
def test_what_never_started_cannot_end(roster, act):
    with pytest.raises(InvalidTransitionError):
        getattr(roster, act)("a")


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("look"), st.sets(st.sampled_from("abcde"))),
        st.tuples(st.just("end"), st.sampled_from("abcde")),
        st.tuples(st.just("wait"), st.floats(0, 40)),
        st.tuples(st.just("drain"), st.none()),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_whatever_comes_nobody_is_started_twice_nor_killed_unasked(steps):
    roster, now = Roster(grace=30.0, kill_again=5.0), 0.0
    started, asked = [], {}
    for kind, value in steps:
        if kind == "wait":
            now += value
        elif kind == "drain":
            roster.drain()
        elif kind == "end" and value in roster.alive:
            roster.ended(value)
        elif kind == "look":
            for act in look(roster, *sorted(value), now=now):
                if isinstance(act, Start):
                    started.append(act.worker)
                elif isinstance(act, Terminate):
                    asked[act.worker] = now
                elif isinstance(act, Kill):
                    assert now >= asked[act.worker] + 30.0
                assert isinstance(act, Start) or act.worker in started
    assert len(started) == len(set(started))
    assert set(asked) <= set(started)
