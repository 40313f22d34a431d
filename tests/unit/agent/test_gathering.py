"""Who forms a generation, as a table of situations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eflib.agent.rendezvous.gathering import Bounds, Liveness, Quiet, busy, next_members

BOUNDS = Bounds(min_nodes=2, max_nodes=3, last_call=5.0)


@pytest.mark.parametrize(
    ("standing", "waiting", "quiet", "expected"),
    [
        ((), {"a"}, 99.0, None),
        ((), {"a", "b"}, 4.9, None),
        ((), {"a", "b"}, 5.0, ("a", "b")),
        ((), {"a", "b", "c"}, 0.0, ("a", "b", "c")),
        ((), {"a", "b", "c", "d"}, 0.0, ("a", "b", "c")),
        (("c", "x"), {"a", "b", "c", "d"}, 0.0, ("c", "a", "b")),
        (("b", "a"), {"a", "b"}, 5.0, ("b", "a")),
    ],
)
def test_members(standing, waiting, quiet, expected):
    assert next_members(standing, waiting, BOUNDS, quiet) == expected


def test_a_living_member_that_does_not_wait_is_training():
    assert busy(("a", "b", "c"), {"b", "d"}, {"a", "b", "d"}) == ("a",)


NAMES = st.sets(st.sampled_from("abcdefg"))


@given(st.lists(st.sampled_from("abcdefg"), unique=True), NAMES, st.floats(0, 10))
def test_a_generation_keeps_its_bounds_and_takes_only_who_waits(standing, waiting, quiet):
    members = next_members(standing, waiting, BOUNDS, quiet)

    if members is not None:
        assert BOUNDS.min_nodes <= len(members) <= BOUNDS.max_nodes
        assert set(members) <= waiting
        assert len(set(members)) == len(members)


def test_who_stops_counting_is_dead_and_who_counts_again_lives():
    pulse = Liveness(keep_alive=10.0)

    assert pulse.alive({"a": 1, "b": 5}, 0.0) == {"a", "b"}
    assert pulse.alive({"a": 2, "b": 5}, 9.0) == {"a", "b"}
    assert pulse.alive({"a": 2, "b": 5}, 10.0) == {"a"}
    assert pulse.alive({"a": 2, "b": 6}, 19.0) == {"b"}


def test_quiet_counts_from_the_last_change():
    quiet = Quiet()

    assert quiet.seconds({"a"}, 10.0) == 0.0
    assert quiet.seconds({"a"}, 12.0) == 2.0
    assert quiet.seconds({"a", "b"}, 13.0) == 0.0
