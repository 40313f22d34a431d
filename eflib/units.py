"""Durations, deadlines and sizes between a person's spelling and a number; no clock of its own."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from eflib.errors import UsageError

if TYPE_CHECKING:
    from datetime import tzinfo

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
MAX_YEARS = 10
MAX_SECONDS = MAX_YEARS * 366 * DAY
"""The longest duration, and the farthest deadline, that is read; in seconds."""

_SECONDS = {
    "s": 1.0,
    "sec": 1.0,
    "secs": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "m": MINUTE,
    "min": MINUTE,
    "mins": MINUTE,
    "minute": MINUTE,
    "minutes": MINUTE,
    "h": HOUR,
    "hr": HOUR,
    "hrs": HOUR,
    "hour": HOUR,
    "hours": HOUR,
    "d": DAY,
    "day": DAY,
    "days": DAY,
    "w": 7 * DAY,
    "week": 7 * DAY,
    "weeks": 7 * DAY,
}

_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)", re.IGNORECASE)
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")
_DATE = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[T ](\d{1,2}):(\d{2})(?::(\d{2})(?:\.\d+)?)?)?\s*"
    r"(Z|UTC|[+-]\d{2}:?\d{2})?",
    re.IGNORECASE,
)
_NOW = re.compile(r"now\s*\+\s*(.+)", re.IGNORECASE)

_LONGEST_WRITTEN = 1000 * 365.25 * DAY

DURATION_FORMS = "write a number with its unit, as in 45s, 90m, 2h, 1h30m or 3d"
DEADLINE_FORMS = (
    "write 2h, 90m, 1h30m or 45s from now, now+2hours, 18:00 today, or 2026-12-01T09:00 "
    "(local time, or with a zone: 2026-12-01T09:00+01:00)"
)


def parse_duration(text: str) -> float:
    """Return a duration in seconds.

    Args:
        text: Numbers, each with its unit: ``45s``, ``1h30m``, ``2 hours``.

    Raises:
        UsageError: It is not a duration, is zero, or is longer than ``MAX_SECONDS``.

    Examples:
        >>> parse_duration("1h30m")
        5400.0
    """
    seconds = _duration(text)
    if seconds is None:
        raise UsageError(f"cannot read the duration {text!r}", hint=DURATION_FORMS)
    if seconds <= 0:
        raise UsageError(f"the duration {text!r} is zero", hint=DURATION_FORMS)
    if seconds > MAX_SECONDS:
        raise UsageError(
            f"the duration {text!r} is longer than {MAX_YEARS} years", hint=DURATION_FORMS
        )
    return seconds


def parse_deadline(text: str, *, now: float, zone: tzinfo | None = None) -> float:
    """Return a deadline as seconds since the epoch.

    Args:
        text: A duration from ``now``; a time of today; or a date and time.
        now: The present, in seconds since the epoch.
        zone: Where a time without a zone is meant; None is the zone of this machine.

    Raises:
        UsageError: It has none of these forms, is not after ``now``, or is more than
            ``MAX_SECONDS`` after it.

    Examples:
        >>> parse_deadline("now+2hours", now=1000.0)
        8200.0
        >>> parse_deadline("1970-01-01T01:00Z", now=0.0)
        3600.0
    """
    stripped = text.strip()
    ahead = _NOW.fullmatch(stripped)
    seconds = _duration(ahead[1] if ahead else stripped)
    if seconds is not None:
        deadline = now + seconds
    else:
        moment = _moment(stripped, now=now, zone=zone)
        if moment is None:
            raise UsageError(f"cannot read the deadline {text!r}", hint=DEADLINE_FORMS)
        deadline = moment
    if deadline - now > MAX_SECONDS:
        raise UsageError(
            f"the deadline {text!r} is more than {MAX_YEARS} years away",
            hint="give an earlier one, or none to run as best effort",
        )
    if deadline <= now:
        ago = f"was {format_duration(now - deadline)} ago" if deadline < now else "is right now"
        moment_text = format_deadline(deadline, zone=zone)
        raise UsageError(
            f"the deadline {text!r} is in the past: {moment_text} {ago}",
            hint="give a later one, or none to run as best effort",
        )
    return deadline


def format_duration(seconds: float) -> str:
    """Return a duration in its two largest units, as ``parse_duration`` reads it.

    It never raises: what is not a number of seconds that a person can use is named in words.

    Args:
        seconds: The duration, in seconds; may be negative.

    Examples:
        >>> [format_duration(s) for s in (0.25, 45, 5400, 7509, 93600, -90)]
        ['0.25s', '45s', '1h30m', '2h5m', '1d2h', '-1m30s']
    """
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if not seconds <= _LONGEST_WRITTEN:  # nan is neither below nor above
        return "over 1000 years" if seconds > _LONGEST_WRITTEN else "an unknown time"
    if seconds < 9.95:
        return f"{seconds:.2g}s"
    unit = 1 if seconds < HOUR - 0.5 else 60 if seconds < DAY - 30 else 3600
    left = round(seconds / unit) * unit
    text = ""
    for name, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, left = divmod(left, size)
        if number:
            text += f"{number}{name}"
    return text


def format_deadline(deadline: float, *, zone: tzinfo | None = None) -> str:
    """Return a moment with its zone, as ``parse_deadline`` reads it.

    It never raises: a moment that the calendar does not have is named in words.

    Args:
        deadline: Seconds since the epoch; parts of a second are cut off.
        zone: The zone to write it in; None is the zone of this machine.

    Examples:
        >>> format_deadline(3600.0, zone=timezone.utc)
        '1970-01-01T01:00:00+00:00'
    """
    try:
        moment = datetime.fromtimestamp(math.floor(deadline), timezone.utc).astimezone(zone)
    except (OverflowError, ValueError, OSError):
        if deadline > 0:
            return "beyond year 9999"
        return "before year 1" if deadline < 0 else "an unknown time"
    return moment.isoformat(timespec="seconds")


def later_deadline(deadline: float, *, now: float) -> float:
    """Return a rounder deadline that leaves a person the time to read and paste it.

    A job that is submitted later is done later: the earliest deadline of this moment would be
    refused again in the next. A minute and a half, in which a cluster can also be started again, or
    a tenth of the way is added, whichever is more (up to an hour), and the sum rounded up.

    Args:
        deadline: The earliest deadline that would be accepted now, in seconds since the epoch.
        now: The present, in seconds since the epoch.

    Returns:
        The rounder deadline, in seconds since the epoch; one beyond the calendar as it is.
    """
    if not abs(deadline) < _LONGEST_WRITTEN * 1000:
        return deadline
    ahead = max(0.0, deadline - now)
    later = deadline + min(max(1.5 * MINUTE, 0.1 * ahead), HOUR)
    step = 10 if ahead < 10 * MINUTE else 60 if ahead < 6 * HOUR else 300
    return float(math.ceil(later / step) * step)


def format_bytes(num_bytes: float) -> str:
    """Return a size in the largest binary unit that keeps it above one.

    Args:
        num_bytes: The size in bytes.

    Examples:
        >>> [format_bytes(n) for n in (512, 1536, 64 * 2**30)]
        ['512 B', '1.5 KiB', '64 GiB']
    """
    size = float(num_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{size:.3g} {unit}" if unit != "B" else f"{size:.0f} B"
        size /= 1024
    return f"{size:.3g} PiB"


def _duration(text: str) -> float | None:
    """Return the sum of a duration's parts; None if it is no duration."""
    position, total = 0, 0.0
    stripped = text.strip()
    while position < len(stripped):
        part = _PART.match(stripped, position)
        if part is None or part[2].lower() not in _SECONDS:
            return None
        total += float(part[1]) * _SECONDS[part[2].lower()]
        position = part.end()
    return total if position else None


def _moment(text: str, *, now: float, zone: tzinfo | None) -> float | None:
    """Return a time of today or a date in seconds since the epoch; None if it is neither."""
    clock, date = _CLOCK.fullmatch(text), _DATE.fullmatch(text)
    try:
        if clock:
            today = datetime.fromtimestamp(now, timezone.utc).astimezone(zone)
            hour, minute, second = (int(part or 0) for part in clock.groups())
            midnight = (today.year, today.month, today.day)
            return _epoch(datetime(*midnight, hour, minute, second, tzinfo=zone))
        if date:
            parts = [int(part or 0) for part in date.groups()[:6]]
            year, month, day, hour, minute, second = parts
            tz = _zone(date[7]) if date[7] else zone
            return _epoch(datetime(year, month, day, hour, minute, second, tzinfo=tz))
    except ValueError:  # the 31st of February, 25 o'clock
        return None
    return None


def _epoch(moment: datetime) -> float:
    """Return a moment in seconds since the epoch; one without a zone is in this machine's."""
    try:
        return moment.timestamp()
    except (OverflowError, ValueError):  # so near an end of the calendar that no zone matters
        return moment.replace(tzinfo=timezone.utc).timestamp()


def _zone(text: str) -> tzinfo:
    if text.upper() in ("Z", "UTC"):
        return timezone.utc
    digits = text[1:].replace(":", "")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-offset if text[0] == "-" else offset)
