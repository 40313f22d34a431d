"""From measured counts to the others: a throughput model, and how sure it is. Pure.

A step at a fixed global batch, on n workers, takes the time to compute gradients and the time to
exchange them, which overlap by more or less (Pollux, section 3.2)::

    T(n) = (T_grad(n)^g + T_sync(n)^g)^(1/g)
    T_grad(n) = a + b / n                  a: paid by every worker; b: shared among them
    T_sync(n) = c + d * (n - 2)            from two workers on; nothing for one

A few measurements do not determine five numbers. So all models of a grid are kept, each weighted by
how well it meets the measurements: where they agree, the answer is sure; where they differ, their
spread is the margin. There is no search that could fail, and the same points give the same answer.

On CPU slots one thing more is known: workers of a node share its cores. Processor time that is
measured (a worker that sleeps or waits uses none) stretches once there are more threads than cores,
and who waits for the others' gradients then waits for their turn on a core, too.

References:
    Qiao et al., "Pollux: Co-adaptive Cluster Scheduling for Goodput-Optimized Deep Learning",
    OSDI 2021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

NOISE = 0.02  # relative error that even a quiet measurement has
MEDIAN_ERROR = 0.33  # error of a median over 8 steps, by their quartiles' distance
CONFIDENCE = 1.5  # a margin is so many standard deviations of the models' answers
LEAST_MARGIN = 0.03  # of a count that was not measured
CROWDED_MARGIN = 0.05  # of the time that a step takes longer because cores are shared
# Seconds that a step waits for workers who wait for a core, at twice as many threads as cores that
# are never idle. Measured with 4 and 8 workers on 2 cores; Linux gives a thread about 3 ms in turn.
TURN = 0.005

# The grid, in units of the time on one worker. Small shares are finer: most jobs scale well.
_SHARES = (0.0, 0.01, 0.02, 0.035, 0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 0.56, 0.8)
_ALPHA = np.array(_SHARES)  # a / (a + b)
_SYNC = np.array((*_SHARES, 1.1, 1.6, 2.3, 3.2, 4.5))  # c / (a + b)
_SLOPE = np.array((0.0, 0.02, 0.06, 0.2, 0.6))  # d / c
_OVERLAP = np.array((1.0, 1.5, 2.5, 5.0))  # g
# Before anything is measured: small shares are likelier, and an exchange hardly grows (a ring's
# share per worker does not). With these, errors on the curves that ship have no sign to speak of.
_USUAL_SHARE = 0.3
_SLOPE_WEIGHTS = np.array((0.4, 0.25, 0.2, 0.1, 0.05))


@dataclass(frozen=True)
class Observation:
    """What was measured at one count.

    Attributes:
        steps_per_s: By the median step.
        spread: Distance of the quartiles of step times over their median; None if unknown.
        cpu_s: Processor seconds that one worker uses for a step; None if not measured.
        memory_bytes: Memory of one worker; None if not measured.
    """

    steps_per_s: float
    spread: float | None = None
    cpu_s: float | None = None
    memory_bytes: float | None = None

    @property
    def details(self) -> dict[str, float]:
        """What is known beside the speed, as JSON values."""
        known = {"spread": self.spread, "cpu_s": self.cpu_s, "memory_bytes": self.memory_bytes}
        return {name: value for name, value in known.items() if value is not None}

    def to_json(self) -> dict[str, float]:
        """Return the JSON object that ``of`` reads."""
        return {"steps_per_s": self.steps_per_s, **self.details}

    @staticmethod
    def of(fields: Mapping[str, Any]) -> Observation:
        """Return the observation that a JSON object describes; other fields are left out."""
        names = ("spread", "cpu_s", "memory_bytes")
        known = {name: float(fields[name]) for name in names if fields.get(name) is not None}
        return Observation(float(fields["steps_per_s"]), **known)


@dataclass(frozen=True)
class Host:
    """What CPU slots of one node share.

    Attributes:
        cores: Cores of the node.
        slots: Most workers on it.
        threads: Threads of one worker.
    """

    cores: int
    slots: int
    threads: int = 1

    def crowding(self, workers: int) -> float:
        """Return how much longer the processor's part of a step takes than alone; at least 1."""
        return max(1.0, min(workers, self.slots) * self.threads / self.cores)


@dataclass(frozen=True)
class Sharing:
    """By how much steps take longer because workers share cores.

    A worker's processor seconds for a step on n workers are ``base + shared / n``.

    Attributes:
        base: What every worker pays.
        shared: What they share.
        host: Whose cores are shared; None where none are, as on GPUs.
    """

    base: float = 0.0
    shared: float = 0.0
    host: Host | None = None

    def busy(self, workers: int) -> float:
        """Return the processor seconds of one worker; 0 where they are not known."""
        return self.base + self.shared / workers

    def stretched(self, workers: int, seconds: float) -> float:
        """Return the seconds of a step that takes ``seconds`` where each has a core of its own."""
        own, more = self._load(workers)
        longer = seconds + own * more
        return longer + self._turns(workers) / longer

    def relaxed(self, workers: int, seconds: float) -> float:
        """Return the inverse of ``stretched``; something is left of any step."""
        own, more = self._load(workers)
        discriminant = max(seconds**2 - 4 * self._turns(workers), 0.0)
        longer = (seconds + math.sqrt(discriminant)) / 2
        return max(longer - own * more, 0.05 * seconds)

    def _load(self, workers: int) -> tuple[float, float]:
        """Return (processor seconds of a worker, how many others it shares each core with)."""
        if self.host is None:
            return 0.0, 0.0
        return self.busy(workers), self.host.crowding(workers) - 1

    def _turns(self, workers: int) -> float:
        """Return the wait for others' turns, times the step's seconds: idle cores make it rare."""
        own, more = self._load(workers)
        return TURN * more * own * (more + 1) if workers > 1 else 0.0


class Guess(NamedTuple):
    """Steps per second at a count that was not measured, and by what share it may be too high."""

    steps_per_s: float
    margin: float

    @property
    def cautious(self) -> float:
        """What a promise may build on."""
        return self.steps_per_s / (1 + self.margin)


@dataclass(frozen=True)
class Fit:
    """All models of the grid with their weights.

    Attributes:
        weights: Of each model; their sum is 1.
        scales: Log of each model's seconds per step on one worker.
        residuals: Log of measured over fitted seconds, by count: measured points stay as they are.
        sharing: By how much steps take longer where cores are shared.
        parameters: The likeliest model's numbers by name, in seconds.
    """

    weights: Numbers
    scales: Numbers
    residuals: Mapping[int, float]
    sharing: Sharing = Sharing()
    parameters: Mapping[str, float] = field(default_factory=dict)

    def at(self, workers: int) -> Guess:
        """Return the guess at a count."""
        logs = self.scales + np.log(_shapes((workers,))[:, 0])
        middle = float(self.weights @ logs)
        deviation = math.sqrt(float(self.weights @ (logs - middle) ** 2))
        # No step is shorter than what a worker computes in it.
        alone = max(math.exp(middle + self._residual(workers)), self.sharing.busy(workers))
        seconds = self.sharing.stretched(workers, alone)
        # Where cores are the limit, what is known of them is no guess of the grid's.
        doubt = (math.exp(CONFIDENCE * deviation) - 1) * alone + CROWDED_MARGIN * (seconds - alone)
        return Guess(1 / seconds, max(doubt / seconds, LEAST_MARGIN))

    def _residual(self, workers: int) -> float:
        """Return the correction that lets the curve pass through what was measured."""
        counts = sorted(self.residuals)
        places = [math.log2(count) for count in counts]
        return float(np.interp(math.log2(workers), places, [self.residuals[n] for n in counts]))


def fit(observed: Mapping[int, Observation], host: Host | None = None) -> Fit:
    """Weigh all models of the grid by measurements.

    Args:
        observed: What was measured, by count; at least one.
        host: What CPU slots share; None for GPUs.

    Examples:
        >>> found = fit({1: Observation(10.0), 2: Observation(18.0)})
        >>> 28.0 < found.at(4).steps_per_s < 34.0
        True
    """
    counts = sorted(observed)
    sharing = _sharing(observed, host)
    seconds = np.array([sharing.relaxed(n, 1 / observed[n].steps_per_s) for n in counts])
    errors = np.array(
        [math.hypot(NOISE, MEDIAN_ERROR * (observed[n].spread or 0.0)) for n in counts]
    )
    trust = 1 / errors**2
    offsets = np.log(seconds)[None, :] - np.log(_shapes(counts))
    scales = offsets @ trust / trust.sum()
    misfit = ((offsets - scales[:, None]) ** 2) @ trust
    weights = _PRIOR * np.exp(-0.5 * (misfit - misfit.min()))
    weights /= weights.sum()
    middle = weights @ (scales[:, None] + np.log(_shapes(counts)))
    residuals = dict(zip(counts, (np.log(seconds) - middle).tolist(), strict=True))
    best = int(np.argmax(weights))
    return Fit(weights, scales, residuals, sharing, _named(best, float(scales[best])))


def guesses(
    observed: Mapping[int, Observation], counts: Iterable[int], host: Host | None = None
) -> dict[int, Guess]:
    """Return guesses at those of ``counts`` that were not measured, ascending.

    Args:
        observed: What was measured, by number of workers.
        counts: Numbers of workers that are asked for.
        host: What the workers of a node share; None where they share no cores.
    """
    missing = sorted(set(counts) - set(observed))
    if not missing or not observed:
        return {}
    found = fit(observed, host)
    return {count: found.at(count) for count in missing}


def _grid() -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Return (alpha, sync, slope, overlap) of every model of the grid."""
    axes = np.meshgrid(_ALPHA, _SYNC, _SLOPE, _OVERLAP, indexing="ij")
    alpha, sync, slope, overlap = (axis.ravel() for axis in axes)
    return alpha, sync, slope, overlap


_MODELS = _grid()


def _prior() -> Numbers:
    """Return the weight of every model before anything is measured."""
    alpha, sync, slope, _ = _MODELS
    likely: Numbers = np.exp(-(alpha + sync) / _USUAL_SHARE)
    weights: Numbers = likely * _SLOPE_WEIGHTS[np.searchsorted(_SLOPE, slope)]
    return weights


_PRIOR = _prior()


def _shapes(counts: Iterable[int]) -> Numbers:
    """Return seconds of a step by model and count, over its seconds on one worker."""
    alpha, sync, slope, overlap = (axis[:, None] for axis in _MODELS)
    n = np.array(list(counts), dtype=np.float64)[None, :]
    grad = alpha + (1 - alpha) / n
    exchange = np.where(n >= 2, sync * (1 + slope * (n - 2)), 0.0)
    total: Numbers = (grad**overlap + exchange**overlap) ** (1 / overlap)
    return total


def _named(model: int, scale: float) -> dict[str, float]:
    """Return the numbers of a model, in seconds."""
    alpha, sync, slope, overlap = (float(axis[model]) for axis in _MODELS)
    whole = math.exp(scale)
    return {
        "a": alpha * whole,
        "b": (1 - alpha) * whole,
        "c": sync * whole,
        "d": slope * sync * whole,
        "g": overlap,
    }


def _sharing(observed: Mapping[int, Observation], host: Host | None) -> Sharing:
    """Return what the measured processor seconds say of shared cores."""
    known = {n: one.cpu_s for n, one in observed.items() if one.cpu_s is not None}
    if host is None or not known:
        return Sharing()
    counts = np.array(sorted(known), dtype=np.float64)
    seconds = np.array([known[int(n)] for n in counts]) / host.threads
    if len(counts) == 1:
        return Sharing(float(seconds[0]), 0.0, host)  # nothing shows that any of it is shared
    slope, base = (float(value) for value in np.polyfit(1 / counts, seconds, 1))
    if slope < 0:
        return Sharing(float(seconds.mean()), 0.0, host)
    if base < 0:
        return Sharing(0.0, float((seconds * counts).mean()), host)
    return Sharing(base, slope, host)
