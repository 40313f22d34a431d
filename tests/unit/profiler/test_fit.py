"""Guesses between and beyond what was measured: right where the model holds, and humble."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eflib import profiles
from eflib.profiler.fit import Host, Observation, Sharing, fit, guesses


def step(n, *, a=0.0, b=1.0, c=0.0, d=0.0, g=1.0):
    """Return the seconds of a step of a job as Pollux models it."""
    sync = c + d * (n - 2) if n > 1 else 0.0
    return ((a + b / n) ** g + sync**g) ** (1 / g)


def observed(counts, seconds, **details):
    return {n: Observation(1 / seconds(n), **details) for n in counts}


JOBS = {
    "perfect": {},
    "a part is not shared": {"a": 0.1},
    "an exchange": {"c": 0.1},
    "a growing exchange": {"c": 0.1, "d": 0.01},
    "an exchange behind the gradients": {"c": 0.2, "g": 5.0},
    "a bit of each": {"a": 0.05, "c": 0.05, "g": 1.5},
}


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_four_is_guessed_from_one_and_two_within_fifteen_percent(job):
    found = fit(observed((1, 2), lambda n: step(n, **job))).at(4)

    assert found.steps_per_s * step(4, **job) == pytest.approx(1.0, abs=0.15)
    assert abs(found.steps_per_s * step(4, **job) - 1) <= found.margin


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_a_count_between_measured_ones_is_guessed_closely(job):
    found = fit(observed((1, 2, 8), lambda n: step(n, **job))).at(4)

    assert found.steps_per_s * step(4, **job) == pytest.approx(1.0, abs=0.05)


def test_an_exchange_that_two_workers_hide_is_a_surprise_that_the_next_measurement_ends():
    """Up to two workers nothing shows it: the guess at four is as for a perfect job."""

    def seconds(n):
        return step(n, c=0.3, g=5.0)

    before = fit(observed((1, 2), seconds)).at(4)
    after = fit(observed((1, 2, 4), seconds)).at(8)

    assert before.steps_per_s * seconds(4) > 1.1
    assert after.steps_per_s * seconds(8) == pytest.approx(1.0, abs=0.1)


def test_measured_points_stay_as_they_are():
    points = {1: 3.0, 2: 7.0, 4: 6.5, 8: 20.0}  # no model is like this
    found = fit({n: Observation(rate) for n, rate in points.items()})

    for count, rate in points.items():
        assert found.at(count).steps_per_s == pytest.approx(rate)


def test_the_margin_grows_with_the_distance_from_what_was_measured():
    found = fit(observed((1, 2), lambda n: step(n, a=0.1)))
    margins = [found.at(count).margin for count in (4, 8, 16, 32)]

    assert margins == sorted(margins)
    assert margins[-1] > 3 * margins[0]


def test_the_margin_shrinks_with_each_further_measurement():
    margins = [
        fit(observed(counts, lambda n: step(n, a=0.1))).at(16).margin
        for counts in ((1,), (1, 2), (1, 2, 4), (1, 2, 4, 8))
    ]

    assert margins == sorted(margins, reverse=True)


def test_a_measurement_that_spreads_leaves_a_wider_margin():
    sure, unsure = (
        fit(observed((1, 2, 4), lambda n: step(n, a=0.1), spread=spread)).at(8).margin
        for spread in (0.0, 0.8)
    )

    assert unsure > 1.2 * sure


def test_a_promise_counts_on_less_than_the_guess():
    found = fit(observed((1, 2), lambda n: step(n, a=0.1))).at(4)

    assert found.cautious == pytest.approx(found.steps_per_s / (1 + found.margin))
    assert found.cautious < found.steps_per_s


def test_a_unit_of_time_does_not_matter():
    quick = fit(observed((1, 2), lambda n: 1e-4 * step(n, a=0.1))).at(4)
    slow = fit(observed((1, 2), lambda n: 1e3 * step(n, a=0.1))).at(4)

    assert quick.steps_per_s == pytest.approx(1e7 * slow.steps_per_s)
    assert quick.margin == pytest.approx(slow.margin)


def test_the_named_numbers_of_the_likeliest_model_meet_the_measurements():
    job = {"a": 0.1, "c": 0.05, "d": 0.003, "g": 1.5}
    named = fit(observed((1, 2, 4, 8), lambda n: step(n, **job))).parameters

    for count in (1, 2, 4, 8):
        assert step(count, **named) == pytest.approx(step(count, **job), rel=0.05)


# Cores that workers share -------------------------------------------------------------------------


def crowded(n, *, cpu, asleep, cores):
    """Return the seconds of a step whose workers compute at once on too few cores."""
    return cpu / n * max(1.0, n / cores) + asleep / n


@pytest.mark.parametrize("asleep", [0.0, 0.5, 5.0])
def test_processor_time_does_not_shrink_beyond_the_cores_and_sleep_does(asleep):
    def seconds(n):
        return crowded(n, cpu=1.0, asleep=asleep, cores=2)

    measured = {n: Observation(1 / seconds(n), cpu_s=1.0 / n) for n in (1, 2)}
    found = fit(measured, Host(cores=2, slots=4)).at(4)

    assert found.steps_per_s * seconds(4) == pytest.approx(1.0, abs=0.07)


def test_measurements_beyond_the_cores_are_understood():
    def seconds(n):
        return crowded(n, cpu=1.0, asleep=1.0, cores=2)

    measured = {n: Observation(1 / seconds(n), cpu_s=1.0 / n) for n in (1, 2, 4)}
    found = fit(measured, Host(cores=2, slots=8)).at(8)

    assert found.steps_per_s * seconds(8) == pytest.approx(1.0, abs=0.07)


MEASURED = {  # milliseconds of a step, its spread and processor time at 1 and 2; a step at 4
    "digits, 64": ((8.7, 0.06, 8.9), (9.6, 0.33, 8.3), 22.1),
    "digits, 256": ((26.2, 0.18, 25.8), (18.6, 0.2, 15.6), 26.8),
    "digits, 24": ((5.8, 0.03, 5.8), (7.0, 0.33, 6.4), 16.9),
    "digits, paced": ((138.8, 0.0, 11.1), (73.9, 0.02, 8.9), 51.8),
    "digits, paced less": ((28.7, 0.02, 9.5), (18.6, 0.11, 7.9), 22.6),
    "character GPT, 32": ((72.4, 0.07, 73.6), (47.6, 0.08, 42.8), 68.4),
    "character GPT, 8": ((24.1, 0.03, 24.7), (21.9, 0.13, 19.8), 40.1),
    "text classification, 32": ((178.4, 0.06, 181.0), (111.9, 0.08, 97.0), 135.6),
}


@pytest.mark.parametrize(("one", "two", "four"), MEASURED.values(), ids=MEASURED)
def test_four_workers_on_two_cores_are_guessed_within_fifteen_percent(one, two, four):
    """These were measured: `efctl profile` of the examples by their batch size, on 4 CPU slots."""
    known = {
        n: Observation(1e3 / step_ms, spread, cpu_ms / 1e3)
        for n, (step_ms, spread, cpu_ms) in {1: one, 2: two}.items()
    }
    found = fit(known, Host(cores=2, slots=4)).at(4)

    assert found.steps_per_s * four / 1e3 == pytest.approx(1.0, abs=0.15)
    assert found.steps_per_s * four / 1e3 - 1 <= found.margin


@pytest.mark.parametrize(("one", "two", "four"), MEASURED.values(), ids=MEASURED)
def test_of_one_measurement_no_promise_counts_on_shared_processor_time(one, two, four):
    """Nothing shows yet that any of it gets less with more workers; it may not."""
    step_ms, spread, cpu_ms = one
    known = {1: Observation(1e3 / step_ms, spread, cpu_ms / 1e3)}
    host = Host(cores=2, slots=4)

    assert fit(known, host).at(4).cautious * four / 1e3 < 1.15
    assert fit(known, host).at(2).cautious * two[0] / 1e3 < 1.15


@given(
    workers=st.sampled_from((1, 2, 3, 4, 8, 16)),
    seconds=st.floats(0.1, 1e3),  # far above a turn; below one, no two answers can be told apart
    part=st.floats(0.0, 1.0),
)
def test_what_shared_cores_add_can_be_taken_away_again(workers, seconds, part):
    """Whatever part of a step computes, on cores that are enough and on those that are not."""
    sharing = Sharing(base=part * seconds / 2, shared=part * seconds / 2, host=Host(4, 16))
    longer = sharing.stretched(workers, seconds)

    assert longer >= seconds
    assert sharing.relaxed(workers, longer) == pytest.approx(seconds, rel=1e-6)


def test_workers_of_another_node_crowd_nobody():
    assert Host(cores=2, slots=2).crowding(8) == 1.0
    assert Host(cores=4, slots=8).crowding(8) == 2.0
    assert Host(cores=4, slots=8, threads=2).crowding(4) == 2.0


def test_without_processor_times_nothing_is_known_of_cores():
    points = observed((1, 2), step)

    assert fit(points, Host(cores=1, slots=4)).at(4) == fit(points).at(4)


# All guesses of a curve ---------------------------------------------------------------------------


def test_only_counts_that_were_not_measured_are_guessed():
    points = observed((1, 4), step)

    assert list(guesses(points, (1, 2, 4, 8))) == [2, 8]
    assert guesses(points, (1, 4)) == {}
    assert guesses({}, (1, 2)) == {}


def test_guesses_on_the_curves_that_ship_are_mostly_within_their_margins():
    """Two thirds of the other people's measurements are within 10 %, and hardly one beyond the
    margin, though a few of these curves go up and down without any law.
    """
    errors = []
    for profile in profiles.available():
        if {1, 2, 4} <= set(profile.points):
            found = fit({n: Observation(profile.points[n]) for n in (1, 2)}).at(4)
            errors.append((found.steps_per_s / profile.points[4] - 1, found.margin))

    assert len(errors) > 20
    assert sum(abs(error) < 0.1 for error, _ in errors) >= 2 / 3 * len(errors)
    assert sum(error < margin for error, margin in errors) >= 0.9 * len(errors)
    assert abs(math.fsum(error for error, _ in errors)) < 0.05 * len(errors)
