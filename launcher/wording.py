"""What a job's status document says in words; pure: the present comes in as an argument."""

from __future__ import annotations

from typing import Any

from eflib.errors import (
    CoordinatorUnreachableError,
    EflibError,
    InfeasibleError,
    PreemptedError,
    WorkerFailedError,
    printable,
)
from eflib.units import HOUR, MAX_SECONDS, format_deadline, format_duration, later_deadline

Status = dict[str, Any]

UNDECIDED = {"SUBMITTED", "PROFILING"}
ENDED = {"SUCCEEDED", "FAILED", "CANCELLED", "REJECTED", "PREEMPTED"}
NUM_TRACEBACK_LINES = 30
MAX_CAUSE = 400
"""Longest cause in a last line, in characters: rank, node and log must not be cut off."""


class CancelledError(EflibError):
    """The job was cancelled by someone."""

    code = "cancelled"
    exit_status = 1


def title(status: Status) -> str:
    """Return what a person calls the job."""
    return printable(str(status.get("name") or status.get("job") or "job"))


def cut(text: str, most: int) -> str:
    """Return a text of at most ``most`` characters, with dots where something was left out."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def is_decided(status: Status) -> bool:
    """Tell whether admission has said yes or no."""
    return status.get("state") not in UNDECIDED


def has_ended(status: Status) -> bool:
    """Tell whether the job is in a state that it does not leave."""
    return status.get("state") in ENDED


def has_left(status: Status) -> bool:
    """Tell whether the job has ended and none of its workers is left."""
    return has_ended(status) and not status.get("workers")


def decision(status: Status, *, now: float) -> str:
    """Return the line that tells of an admission."""
    deadline, finish = status.get("deadline"), status.get("projected_finish")
    if deadline is None:
        when = "" if finish is None else f", projected finish {_moment(finish, now)}"
        return f"{title(status)} admitted as best effort{when}"
    text = f"{title(status)} admitted: deadline {_moment(deadline, now)}"
    if finish is None:
        return text
    slack = _slack(status)
    if slack is not None and slack < 0:
        late = format_duration(-slack)
        return f"{text}, projected finish {format_deadline(finish)}, {late} after the deadline"
    room = "" if slack is None else f", slack {format_duration(slack)}"
    return f"{text}, projected finish {format_deadline(finish)}{room}"


def refusal(status: Status, *, now: float) -> InfeasibleError:
    """Return the error that tells of a refusal, with a deadline that can be pasted."""
    lines = [f"reason: {status['reason']}"] if status.get("reason") else []
    earliest = offered_deadline(status, now=now)
    if earliest is None:
        hint = "submit it without a deadline to run it as best effort"
    else:
        lines.append(f"earliest deadline that would be accepted: {_moment(earliest, now)}")
        hint = (
            f"submit it again with --deadline {format_deadline(earliest)}, "
            "or without a deadline to run it as best effort"
        )
    deadline = status.get("deadline")
    until = "" if deadline is None else f" finish by {_moment(deadline, now)}"
    problem = f"job {title(status)!r} cannot{until or ' be admitted'}"
    return InfeasibleError(problem, detail="\n".join(lines), hint=hint)


def offered_deadline(status: Status, *, now: float) -> float | None:
    """Return a deadline that is still acceptable when it is pasted a little later, or None.

    None, too, where the earliest one is farther away than any deadline that is accepted.
    """
    earliest = status.get("earliest_deadline")
    if earliest is None or not earliest - now < MAX_SECONDS - 2 * HOUR:
        return None
    return later_deadline(earliest, now=now)


def progress(status: Status) -> str:
    """Return where a job stands, in one line without its name."""
    state = str(status.get("state", "")).lower()
    if state != "running":
        reason = status.get("reason")
        return printable(f"{state}: {reason}" if reason else state)
    workers = status.get("world_size") or 0
    parts = [_step(status), f"{workers} worker{'' if workers == 1 else 's'}"]
    if status.get("steps_per_s"):
        parts.append(f"{status['steps_per_s']:.3g} steps/s")
    slack = _slack(status)
    if slack is not None:
        parts.append(f"slack {format_duration(slack)}")
    if status.get("loss") is not None:
        parts.append(f"loss {status['loss']:.4g}")
    return ", ".join(parts)


def checkpoint(status: Status) -> str:
    """Return the last checkpoint's step and age, or "" if none is known."""
    step, age = status.get("checkpoint_step"), status.get("checkpoint_age_s")
    if step is None or age is None:
        return ""
    return f"step {step}, {format_duration(age)} ago"


def rescale(record: Status) -> str:
    """Return what happened at one change of size."""
    text = f"{record.get('from')} -> {record.get('to')} workers at step {record.get('step')}"
    pause = record.get("pause_s")
    return text if pause is None else f"{text}, paused {format_duration(pause)}"


def ending(status: Status) -> str:
    """Return the summary of a job that has ended."""
    parts = [f"{title(status)} {str(status.get('state', '')).lower()}"]
    if status.get("global_step") is not None:
        took = elapsed(status)
        parts.append(_step(status) + (f" in {format_duration(took)}" if took is not None else ""))
    ended, deadline = status.get("ended"), status.get("deadline")
    if status.get("state") == "SUCCEEDED" and ended is not None and deadline is not None:
        left = deadline - ended
        side = "before" if left >= 0 else "after"
        parts.append(f"{format_duration(abs(left))} {side} its deadline")
    rescales = status.get("rescales") or []
    if rescales:
        paused = sum(record.get("pause_s") or 0.0 for record in rescales)
        plural = "" if len(rescales) == 1 else "s"
        parts.append(f"{len(rescales)} rescale{plural}, paused {format_duration(paused)} in all")
    if status.get("log_dir"):
        parts.append(f"logs in {printable(status['log_dir'])}")
    return "; ".join(parts)


def elapsed(status: Status) -> float | None:
    """Return how long a job ran, in seconds; None if it has not ended or never began."""
    ended, started = status.get("ended"), status.get("started") or status.get("submitted")
    return None if ended is None or started is None else ended - started


def outcome(status: Status, *, now: float) -> EflibError | None:
    """Return the error with which a job that has ended ends its command; None if it succeeded."""
    state = status.get("state")
    if state == "SUCCEEDED":
        return None
    if state == "REJECTED":
        return refusal(status, now=now)
    if state == "FAILED":
        return _failure(status)
    reason = f": {status['reason']}" if status.get("reason") else ""
    if state == "PREEMPTED":
        return PreemptedError(
            f"job {title(status)!r} was preempted at step {status.get('global_step', 0)}{reason}",
            hint="submit it again to resume from its checkpoint",
        )
    return CancelledError(f"job {title(status)!r} was cancelled{reason}")


def unreachable(status: Status, *, seconds: float) -> CoordinatorUnreachableError:
    """Return the error for a coordinator that went away and cannot be brought back."""
    return CoordinatorUnreachableError(
        f"the coordinator has not run for {format_duration(seconds)} and cannot be restarted",
        detail=f"job {title(status)!r} may still be training; its logs: {status.get('log_dir')}",
        hint="start it with: efctl coordinator",
    )


def _failure(status: Status) -> WorkerFailedError:
    error = status.get("error") or {}
    message = error.get("message") or status.get("reason") or "no reason was given"
    lines = str(error.get("traceback") or "").rstrip().splitlines()
    places = [f"rank {error['rank']}"] if error.get("rank") is not None else []
    places += [f"node {error['node']}"] if error.get("node") else []
    log = error.get("log") or status.get("log_dir")
    places += [f"log {log}"] if log else []
    where = f" ({', '.join(places)})" if places else ""
    first_line = str(message).strip().splitlines()[0] if str(message).strip() else "no message"
    return WorkerFailedError(
        f"job {title(status)!r} failed: {cut(first_line, MAX_CAUSE)}{where}",
        detail="\n".join(lines[-NUM_TRACEBACK_LINES:]),
        hint=_failure_hint(status, first_line),
    )


def _failure_hint(status: Status, cause: str) -> str:
    rank = (status.get("error") or {}).get("rank")
    if rank is None:
        return f"see what happened with: efctl describe {status.get('job')}"
    look = f"see all that it wrote with: efctl logs {status.get('job')} --rank {rank}"
    if "SIGKILL" in cause:
        return f"the system kills a process when memory runs out (see: dmesg); {look}"
    return look


def _step(status: Status) -> str:
    step, last = status.get("global_step") or 0, status.get("max_steps")
    return f"step {step}" if last is None else f"step {step}/{last}"


def _slack(status: Status) -> float | None:
    slack: float | None = status.get("slack_s")
    return slack


def _moment(moment: float, now: float) -> str:
    ahead = moment - now
    side = f"in {format_duration(ahead)}" if ahead >= 0 else f"{format_duration(-ahead)} ago"
    return f"{format_deadline(moment)} ({side})"
