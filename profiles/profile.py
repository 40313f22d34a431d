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
        raise UsageError(
            f"no profile in {origin}: expected an object, found {type(fields).__name__}"
        )
    if fields.get("schema", SCHEMA) != SCHEMA:
        raise UsageError(
            f"cannot read {origin}: schema {fields['schema']!r}, this eflib reads schema {SCHEMA}",
            hint="a newer eflib may have written it",
        )
    size = fields.get("global_batch_size")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
        raise UsageError(f"global_batch_size {size!r} in {origin} is not a whole number from 1 up")
    details = fields.get("details") or {}
    if not isinstance(details, dict):
        raise UsageError(f"details in {origin} is no object: {details!r}")
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
        raise UsageError(f"no points in {origin}", hint=f"it has {', '.join(sorted(fields))}")
    return measured(_by_count(fields["points"], "points", origin), origin=origin)


def _guesses(value: object, origin: str) -> dict[int, tuple[float, float]]:
    """Return the guesses (steps per second, margin) by GPU count."""
    parts: dict[str, dict[str, Any]] = {"steps_per_s": {}, "margin": {}}
    if not isinstance(value, dict):
        raise UsageError(f"extrapolated in {origin} is no object by GPU count: {value!r}")
    for count, guess in value.items():
        if not isinstance(guess, dict) or not parts.keys() <= guess.keys():
            raise UsageError(
                f"{guess!r} at {count} GPUs under extrapolated in {origin} has no steps_per_s "
                "with a margin"
            )
        for name, numbers in parts.items():
            numbers[count] = guess[name]
    rates = _by_count(parts["steps_per_s"], "extrapolated", origin)
    margins = _by_count(parts["margin"], "extrapolated", origin)
    return {count: (rate, margins[count]) for count, rate in rates.items()}


def measured(points: Mapping[int, float], *, origin: str) -> dict[int, float]:
    """Return the points that were measured, ascending; zero, negative and nan mean: was not.

    Raises:
        UsageError: None is left.
    """
    known = {n: rate for n, rate in sorted(points.items()) if math.isfinite(rate) and rate > 0}
    if not known:
        raise UsageError(f"no measured point in {origin}: every throughput is zero or missing")
    return known


def _by_count(value: object, name: str, origin: str) -> dict[int, float]:
    """Return a JSON object of numbers by GPU count."""
    if not isinstance(value, dict):
        raise UsageError(f"{name} in {origin} is no object of numbers by GPU count: {value!r}")
    numbers = {}
    for count, number in value.items():
        if not str(count).isdecimal() or int(count) < 1:
            raise UsageError(f"{count!r} under {name} in {origin} is not a GPU count from 1 up")
        if isinstance(number, bool) or not isinstance(number, (int, float, type(None))):
            raise UsageError(f"{number!r} at {count} GPUs under {name} in {origin} is not a number")
        numbers[int(count)] = math.nan if number is None else float(number)
    return dict(sorted(numbers.items()))


def _text(fields: Mapping[str, Any], name: str, origin: str, *, default: str | None = None) -> str:
    """Return a text field; None counts as absent."""
    value = fields.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or (not value.strip() and default is None):
        raise UsageError(f"{name} in {origin} is not a text: {value!r}")
    return value
