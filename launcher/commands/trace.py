"""``efctl trace``."""

from __future__ import annotations

from eflib.errors import UsageError
from eflib.launcher.arguments import number
from eflib.profiles import curves
from eflib.simulator import generate


def command(  # noqa: PLR0913 - each is an option
    out: str,
    *,
    jobs: str | None = None,
    mean_gap: str | None = None,
    log: str | None = None,
    min_duration: str | None = None,
    profiles: str | None = None,
    best_effort_share: str | None = None,
    deadline_factors: str | None = None,
    seed: str | None = None,
) -> None:
    """Make a trace of jobs for efctl simulate: drawn at random, or from a cluster's raw log.

    Arrivals are Poisson, durations log-uniform, and a deadline is so many durations after the
    submission. The same seed gives the same trace. With --log, arrivals, durations and GPUs are
    those of the log; models and deadlines are drawn.

    Args:
        out: The CSV file to write.
        jobs: How many jobs to draw; 100 by default.
        mean_gap: Mean seconds between submissions; 1500 by default.
        log: CSV with job_id,submission_time,duration,num_gpu to convert.
        min_duration: With --log, leave out jobs of fewer seconds; the published traces: 600.
        profiles: Device (a100, t4) or folder that models are drawn from; a100 by default.
        best_effort_share: Share of jobs whose deadline does not count, 0 to 1.
        deadline_factors: Least and greatest deadline in durations; 0.5,1.5 by default.
        seed: What all is drawn from; 0 by default.
    """
    draws = generate.Draws(
        seed=number(seed, "--seed", least=0) or 0,
        best_effort_share=_float(best_effort_share, "--best-effort-share", 0.0),
        deadline_factors=_factors(deadline_factors),
    )
    known = curves(profiles or "a100")
    if log is None:
        made = generate.generate(
            known,
            num_jobs=number(jobs, "--jobs") or 100,
            mean_gap=_float(mean_gap, "--mean-gap", 1500.0),
            draws=draws,
        )
    else:
        least = _float(min_duration, "--min-duration", 0.0)
        made = generate.convert(log, known, draws=draws, min_duration=least)
    print(f"{generate.write(made, out)}: {len(made)} jobs")


def _float(text: str | None, option: str, default: float) -> float:
    """Return the number that an option's text means."""
    try:
        return default if text is None else float(text)
    except ValueError as error:
        raise UsageError(f"{option} takes a number, not {text!r}") from error


def _factors(text: str | None) -> tuple[float, float]:
    """Return the two deadline factors."""
    if text is None:
        return generate.DEADLINE_FACTORS
    low, comma, high = text.partition(",")
    if not comma:
        raise UsageError(f"--deadline-factors takes two numbers as in 0.5,1.5, not {text!r}")
    return _float(low, "--deadline-factors", 0.0), _float(high, "--deadline-factors", 0.0)
