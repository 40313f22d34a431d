import math
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eflib import units
from eflib.errors import UsageError

PARIS = timezone(timedelta(hours=1))
NOW = datetime(2026, 11, 30, 12, 0, tzinfo=PARIS).timestamp()


def deadline(text, zone=PARIS):
    return units.parse_deadline(text, now=NOW, zone=zone)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2h", 7200),
        ("90m", 5400),
        ("1h30m", 5400),
        ("1h 30m 5s", 5405),
        ("45s", 45),
        ("1.5h", 5400),
        ("2 hours", 7200),
        ("3days", 259200),
        ("1w", 604800),
        (" 10 MIN ", 600),
    ],
)
def test_a_duration_is_read(text, seconds):
    assert units.parse_duration(text) == seconds
    assert deadline(text) == NOW + seconds
    assert deadline(f"now+{text}") == NOW + seconds
    assert deadline(f"now + {text}") == NOW + seconds


@pytest.mark.parametrize("text", ["", "2", "h", "2x", "-2h", "2h-", "1h30", "two hours", "nan"])
def test_what_is_no_duration_is_refused_with_the_forms_that_are(text):
    with pytest.raises(UsageError) as caught:
        units.parse_duration(text)
    assert caught.value.problem == f"cannot read the duration {text!r}"
    assert caught.value.hint == "write a number with its unit, as in 45s, 90m, 2h, 1h30m or 3d"


def test_a_duration_of_nothing_is_refused():
    with pytest.raises(UsageError, match="the duration '0s' is zero"):
        units.parse_duration("0s")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("18:00", (2026, 11, 30, 18, 0, 0)),
        ("18:00:30", (2026, 11, 30, 18, 0, 30)),
        ("2026-12-01T09:00", (2026, 12, 1, 9, 0, 0)),
        ("2026-12-01 09:00:15", (2026, 12, 1, 9, 0, 15)),
        ("2026-12-01", (2026, 12, 1, 0, 0, 0)),
        ("2026-12-01T09:00+01:00", (2026, 12, 1, 9, 0, 0)),
        ("2026-12-01T08:00Z", (2026, 12, 1, 9, 0, 0)),
        ("2026-12-01T08:00:00.5 UTC", (2026, 12, 1, 9, 0, 0)),
        ("2026-12-01T03:30-0430", (2026, 12, 1, 9, 0, 0)),
    ],
)
def test_a_moment_is_read_in_its_zone_or_in_the_given_one(text, expected):
    assert deadline(text) == datetime(*expected, tzinfo=PARIS).timestamp()


def test_a_time_of_today_means_the_day_in_the_zone():
    tokyo = timezone(timedelta(hours=9))  # there it is 20:00 on the same day
    assert deadline("21:00", tokyo) == NOW + 3600
    late = datetime(2026, 11, 30, 23, 0, tzinfo=timezone.utc).timestamp()
    assert units.parse_deadline("00:30", now=late, zone=PARIS) == late + 1800


def test_without_a_zone_the_machine_s_own_is_meant(monkeypatch):
    text = datetime.fromtimestamp(NOW + 3600).strftime("%Y-%m-%dT%H:%M")  # noqa: DTZ006
    assert units.parse_deadline(text, now=NOW) == NOW + 3600


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("11:30", "2026-11-30T11:30:00+01:00 was 30m ago"),
        ("2026-11-29T12:00", "2026-11-29T12:00:00+01:00 was 1d ago"),
        ("2026-11-30T11:59:55", "2026-11-30T11:59:55+01:00 was 5s ago"),
        ("12:00", "2026-11-30T12:00:00+01:00 is right now"),
        ("now+0s", "2026-11-30T12:00:00+01:00 is right now"),
    ],
)
def test_a_past_deadline_is_refused_and_told_how_long_ago(text, ago):
    with pytest.raises(UsageError) as caught:
        deadline(text)
    assert caught.value.problem == f"the deadline {text!r} is in the past: {ago}"
    assert caught.value.hint == "give a later one, or none to run as best effort"


@pytest.mark.parametrize(
    "text",
    ["", "2", "soon", "25:00", "18:60", "2026-02-31", "2026-13-01T09:00", "now", "now+", "6pm"],
)
def test_what_is_no_deadline_is_refused_with_the_forms_that_are(text):
    with pytest.raises(UsageError) as caught:
        deadline(text)
    assert caught.value.problem == f"cannot read the deadline {text!r}"
    assert caught.value.hint == units.DEADLINE_FORMS
    for form in ("2h", "90m", "1h30m", "45s", "now+2hours", "18:00", "2026-12-01T09:00"):
        assert form in units.DEADLINE_FORMS


@given(st.floats(min_value=0.01, max_value=1e7))
def test_a_written_duration_reads_back_to_within_its_rounding(seconds):
    text = units.format_duration(seconds)
    assert units.parse_duration(text) == pytest.approx(seconds, rel=0.06)


@given(st.integers(min_value=1_000_000_000, max_value=3_000_000_000))
def test_a_written_deadline_reads_back(moment):
    for zone in (PARIS, timezone.utc, None):
        text = units.format_deadline(moment, zone=zone)
        assert units.parse_deadline(text, now=moment - 1, zone=timezone.utc) == moment


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (9.94, "9.9s"), (59.7, "1m"), (3599.7, "1h"), (86399, "1d"), (90061, "1d1h")],
)
def test_a_duration_is_written_in_its_largest_units(seconds, text):
    assert units.format_duration(seconds) == text


@given(st.floats(min_value=0, max_value=1e6))
def test_an_offered_deadline_leaves_time_to_paste_it(ahead):
    offered = units.later_deadline(NOW + ahead, now=NOW)
    assert offered >= NOW + ahead + 90
    assert offered <= NOW + 1.1 * ahead + 90 + 300
    assert offered % 10 == 0


@pytest.mark.parametrize(
    "text",
    [
        "3000000d",
        "3661d",
        "now+87841h",
        "9" * 400 + "h",
        "9999-12-31T23:59",
        "9999-12-31T23:59-12:00",
        "9999-12-31T23:59Z",
        "2040-01-01",
    ],
)
@pytest.mark.parametrize("zone", [PARIS, timezone.utc, None])
def test_a_deadline_more_than_ten_years_away_is_refused_at_once(text, zone):
    with pytest.raises(UsageError) as caught:
        deadline(text, zone)
    assert caught.value.problem == f"the deadline {text!r} is more than 10 years away"
    assert caught.value.hint == "give an earlier one, or none to run as best effort"


@pytest.mark.parametrize("text", ["0001-01-01", "0001-01-01T00:00+14:00", "0001-01-01T00:00-14:00"])
@pytest.mark.parametrize("zone", [PARIS, timezone.utc, None])
def test_a_deadline_at_the_beginning_of_the_calendar_is_in_the_past(text, zone):
    with pytest.raises(UsageError, match="is in the past: "):
        deadline(text, zone)


def test_a_duration_of_more_than_ten_years_is_refused():
    with pytest.raises(UsageError, match="the duration '3661d' is longer than 10 years"):
        units.parse_duration("3661d")


ANY_NUMBER = st.floats() | st.integers() | st.sampled_from([10**400, -(10**400), 253402300800])


@given(ANY_NUMBER)
def test_any_number_can_be_written_as_a_moment_a_duration_and_an_offer(number):
    for zone in (PARIS, timezone(timedelta(hours=-12)), timezone.utc, None):
        assert units.format_deadline(number, zone=zone)
    assert units.format_duration(number)
    units.later_deadline(number, now=NOW)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (math.inf, "beyond year 9999"),
        (1e12, "beyond year 9999"),
        (-1e12, "before year 1"),
        (-math.inf, "before year 1"),
        (math.nan, "an unknown time"),
    ],
)
def test_a_moment_that_the_calendar_does_not_have_is_named_in_words(moment, text):
    assert units.format_deadline(moment) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(math.inf, "over 1000 years"), (-math.inf, "-over 1000 years"), (math.nan, "an unknown time")],
)
def test_a_duration_beyond_use_is_named_in_words(seconds, text):
    assert units.format_duration(seconds) == text


def test_a_size_is_written():
    assert units.format_bytes(3 * 2**40) == "3 TiB"
    assert units.format_bytes(2**60) == "1.02e+03 PiB"
