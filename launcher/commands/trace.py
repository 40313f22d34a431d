"""``efctl trace``."""

from __future__ import annotations

from eflib.errors import UsageError
from eflib.launcher import values
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
    """Make a trace of jobs for efctl simulate, at random or from a cluster's raw log.

    Arrivals are Poisson, durations log-uniform, and a deadline is a multiple of the duration after
    the submission. The same seed gives the same trace. With --log, arrivals, durations and GPUs
    are those of the log; models and deadlines are drawn at random.

    Args:
        out: The CSV file to write.
        jobs: How many jobs to draw; 100 by default.
        mean_gap: Mean seconds between submissions; 1500 by default.
        log: CSV with job_id,submission_time,duration,num_gpu to convert.
        min_duration: With --log, leave out jobs of fewer seconds; the published traces use 600.
        profiles: Device (a100, t4) or folder that models are drawn from; a100 by default.
        best_effort_share: Share of best-effort jobs, from 0 to 1.
        deadline_factors: Smallest and largest deadline, in durations; 0.5,1.5 by default.
        seed: Random seed; 0 by default.
    """
    draws = generate.Draws(
        seed=values.number(seed, "--seed", least=0, most=2**63) or 0,
        best_effort_share=values.real(
            best_effort_share, "--best-effort-share", default=0.0, most=1.0
        ),
        deadline_factors=_factors(deadline_factors),
    )
    known = curves(profiles or "a100")
    if log is None:
        made = generate.generate(
            known,
            num_jobs=values.number(jobs, "--jobs", most=generate.MAX_JOBS) or 100,
            mean_gap=values.real(mean_gap, "--mean-gap", default=1500.0),
            draws=draws,
        )
    else:
        least = values.real(min_duration, "--min-duration", default=0.0)
        made = generate.convert(log, known, draws=draws, min_duration=least)
    print(f"{generate.write(made, out)}: {len(made)} jobs")


def _factors(text: str | None) -> tuple[float, float]:
    """Return the two deadline factors."""
    if text is None:
        return generate.DEADLINE_FACTORS
    words = text.split(",")
    try:
        low, high = (float(word) for word in words)
    except ValueError as cause:
        raise UsageError(
            f"--deadline-factors must be two numbers, got {text!r}",
            hint="for example: --deadline-factors 0.5,1.5",
        ) from cause
    return low, high
