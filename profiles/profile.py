"""One measured scaling curve with where it comes from, and its JSON form.

The form is documented for people in docs/profiles.md. A file holds one object::

    {
      "schema": 1,
      "model": "resnet50",
      "device": "a100",
      "global_batch_size": 256,
      "points": {"1": 1.84, "2": 3.45, "4": 6.19},
      "spread": {"1": 0.02},
      "measured_at": "2026-11-20T23:40:00+00:00",
      "source": "efctl profile",
      "details": {"torch": "2.13.0", "node": "8 GPUs, NVLink"}
    }

``points`` are steps per second by GPU count; ``spread`` is the interquartile range of the measured
step times over their median, by GPU count, and may leave counts out; ``measured_at`` is ISO 8601 or
null; ``details`` holds whatever else is known. Other fields are
ignored.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from eflib.errors import UsageError
from eflib.scheduling.scaling import ScalingCurve

SCHEMA = 1
MAX_GPUS = 65_536
"""The largest GPU count of a point."""
MAX_POINTS = 256
MIN_RATE, MAX_RATE = 1e-9, 1e9
"""The slowest and the fastest speed of a point, in steps per second."""
MAX_NUMBER = 1e300
MAX_TEXT = 1000
FORM = "for the form, see: efctl profiles show bert --json"


@dataclass(frozen=True)
class Profile:
    """A scaling curve and its origin.

    Attributes:
        model: Name of the model.
        device: Name of the accelerator, in small letters; empty if unknown.
        points: Steps per second (above 0, finite) by GPU count (at least 1), ascending.
        global_batch_size: Samples per step over all workers; None if unknown.
        source: Who measured it, or with which command.
        measured_at: ISO 8601 time of measuring; None if unknown.
        spread: Relative spread of step times by GPU count; may leave counts out.
        cpu_seconds: Processor seconds of one worker for a step, by GPU count.
        memory_bytes: Memory that one worker uses, by GPU count.
        extrapolated: Guesses at counts that were not measured, ``(steps per second, margin)`` by
            GPU count; the rate may be too high by the margin's share.
        details: Further facts, such as versions and hardware, as JSON values.
    """

    model: str
    device: str
    points: Mapping[int, float]
    global_batch_size: int | None = None
    source: str = ""
    measured_at: str | None = None
    spread: Mapping[int, float] = field(default_factory=dict)
    cpu_seconds: Mapping[int, float] = field(default_factory=dict)
    memory_bytes: Mapping[int, float] = field(default_factory=dict)
    extrapolated: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def curve(self) -> ScalingCurve:
        """The measured points as the scheduler takes them; guesses are not among them."""
        return ScalingCurve(self.points)

    @property
    def file_name(self) -> str:
        """Name that the profile has in a folder of profiles."""
        size = "" if self.global_batch_size is None else f"-{self.global_batch_size}"
        return f"{self.model}{size}.json"


def to_json(profile: Profile) -> dict[str, Any]:
    """Return the profile as an object of JSON values."""
    known: dict[str, Any] = {
        "schema": SCHEMA,
        "model": profile.model,
        "device": profile.device,
        "global_batch_size": profile.global_batch_size,
        "points": {str(count): rate for count, rate in sorted(profile.points.items())},
        "spread": _texts(profile.spread),
        "measured_at": profile.measured_at,
        "source": profile.source,
        "details": dict(profile.details),
    }
    more: dict[str, Any] = {
        "cpu_seconds": _texts(profile.cpu_seconds),
        "memory_bytes": _texts(profile.memory_bytes),
        "extrapolated": {
            str(count): {"steps_per_s": rate, "margin": margin}
            for count, (rate, margin) in sorted(profile.extrapolated.items())
        },
    }
    return known | {name: values for name, values in more.items() if values}


def _texts(numbers: Mapping[int, float]) -> dict[str, float]:
    return {str(count): number for count, number in sorted(numbers.items())}


def from_json(fields: object, *, origin: str) -> Profile:
    """Return the profile that a JSON object describes.

    Args:
        fields: The decoded object.
        origin: Where it comes from, for messages; a path, for instance.

    Returns:
        The profile; points of zero or nan (not measured) are left out.

    Raises:
        UsageError: It is not an object, lacks ``model`` or ``points``, has another schema, or a
            value of the wrong kind.
    """
    if not isinstance(fields, dict):
        raise _bad(f"no profile in {origin}: expected an object, found {type(fields).__name__}")
    if fields.get("schema", SCHEMA) != SCHEMA:
        raise UsageError(
            f"cannot read {origin}: schema {_short(fields['schema'])}, "
            f"this eflib reads schema {SCHEMA}",
            hint="a newer eflib may have written it",
        )
    size = fields.get("global_batch_size")
    if size is not None and (
        not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= 2**53
    ):
        raise _bad(
            f"global_batch_size in {origin} must be an integer from 1 to 2**53, got {_short(size)}"
        )
    details = fields.get("details") or {}
    if not isinstance(details, dict):
        raise _bad(f"details in {origin} must be an object, got {_short(details)}")
    return Profile(
        model=_text(fields, "model", origin),
        device=_text(fields, "device", origin, default="").lower(),
        points=_points(fields, origin),
        global_batch_size=size,
        source=_text(fields, "source", origin, default=""),
        measured_at=_text(fields, "measured_at", origin, default="") or None,
        spread=_by_count(fields.get("spread") or {}, "spread", origin),
        cpu_seconds=_by_count(fields.get("cpu_seconds") or {}, "cpu_seconds", origin),
        memory_bytes=_by_count(fields.get("memory_bytes") or {}, "memory_bytes", origin),
        extrapolated=_guesses(fields.get("extrapolated") or {}, origin),
        details=details,
    )


def _points(fields: Mapping[str, Any], origin: str) -> dict[int, float]:
    """Return the measured points, of which there must be at least one."""
    if "points" not in fields:
        raise UsageError(f"no points in {origin}", hint=f"it has {', '.join(sorted(fields))[:200]}")
    return measured(_by_count(fields["points"], "points", origin), origin=origin)


def _guesses(value: object, origin: str) -> dict[int, tuple[float, float]]:
    """Return the guesses (steps per second, margin) by GPU count."""
    parts: dict[str, dict[str, Any]] = {"steps_per_s": {}, "margin": {}}
    if not isinstance(value, dict):
        raise _bad(f"extrapolated in {origin} must be an object by GPU count, got {_short(value)}")
    for count, guess in value.items():
        if not isinstance(guess, dict) or not parts.keys() <= guess.keys():
            raise _bad(
                f"extrapolated in {origin} must have steps_per_s and margin at {count} GPUs, "
                f"got {_short(guess)}"
            )
        for name, numbers in parts.items():
            numbers[count] = guess[name]
    rates = _by_count(parts["steps_per_s"], "extrapolated", origin)
    margins = _by_count(parts["margin"], "extrapolated", origin)
    return {count: (rate, margins[count]) for count, rate in rates.items()}


def measured(points: Mapping[int, float], *, origin: str) -> dict[int, float]:
    """Return the points that were measured, ascending; zero, negative and nan mean: was not.

    Args:
        points: Steps per second by GPU count.
        origin: Where they come from, for messages.

    Raises:
        UsageError: None is left, there are more than ``MAX_POINTS``, or a speed is below
            ``MIN_RATE`` or above ``MAX_RATE``.
    """
    known = {n: rate for n, rate in sorted(points.items()) if math.isfinite(rate) and rate > 0}
    if not known:
        raise _bad(f"no measured point in {origin}: every throughput is zero or missing")
    if len(known) > MAX_POINTS:
        raise _bad(f"{origin} has {len(known)} points; at most {MAX_POINTS} are read")
    for count, rate in known.items():
        if not MIN_RATE <= rate <= MAX_RATE:
            raise _bad(
                f"{rate:g} steps per second at {count} GPUs in {origin} is outside of "
                f"{MIN_RATE:g} to {MAX_RATE:g}"
            )
    return known


def _by_count(value: object, name: str, origin: str) -> dict[int, float]:
    """Return a JSON object of numbers by GPU count."""
    if not isinstance(value, dict):
        raise _bad(f"{name} in {origin} must be an object by GPU count, got {_short(value)}")
    numbers = {}
    for word, number in value.items():
        count = gpu_count(str(word))
        if count is None:
            raise _bad(
                f"{name} in {origin} must be by GPU count from 1 to {MAX_GPUS}, got {_short(word)}"
            )
        if isinstance(number, bool) or not isinstance(number, (int, float, type(None))):
            raise _bad(f"{name} in {origin} at {count} GPUs must be a number, got {_short(number)}")
        if isinstance(number, int) and abs(number) > MAX_NUMBER:
            raise _bad(f"{name} in {origin} at {count} GPUs is too large: {_short(number)}")
        numbers[count] = math.nan if number is None else float(number)
    return dict(sorted(numbers.items()))


def gpu_count(word: str) -> int | None:
    """Return the GPU count that a text spells; None if it is not one from 1 to ``MAX_GPUS``."""
    word = word.strip()
    if not word.isdecimal() or len(word) > len(str(MAX_GPUS)):
        return None
    return int(word) if 1 <= int(word) <= MAX_GPUS else None


def _text(fields: Mapping[str, Any], name: str, origin: str, *, default: str | None = None) -> str:
    """Return a text field; None counts as absent."""
    value = fields.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or (not value.strip() and default is None):
        raise _bad(f"{name} in {origin} must be a text, got {_short(value)}")
    if len(value) > MAX_TEXT:
        raise _bad(f"{name} in {origin} has {len(value)} characters; at most {MAX_TEXT} are read")
    return value


def _short(value: object) -> str:
    """Return the beginning of a value, for a message."""
    if isinstance(value, int) and abs(value) > MAX_NUMBER:
        return "a number of more than 300 digits"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _bad(problem: str) -> UsageError:
    return UsageError(problem, hint=FORM)
