"""Every error that eflib raises for a person to read: what happened, the facts, the way out."""

from __future__ import annotations


class EflibError(Exception):
    """An expected failure, laid out so that its last line is the cause or the way out.

    Args:
        problem: One line: what cannot be done, with the value, without a full stop.
        detail: Facts that let the reader check us; may have several lines.
        hint: The cheapest next act, a command where possible.
    """

    code = "error"
    exit_status = 1

    def __init__(self, problem: str, *, detail: str = "", hint: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.detail = detail
        self.hint = hint

    def render(self) -> str:
        """Return the message as the command line prints it: facts, then hint, then the cause.

        The cause comes last, because the last line is what a person sees first in a long log.
        """
        lines = [f"  {line}" for line in self.detail.splitlines()]
        if self.hint:
            lines.append(f"hint: {self.hint}")
        lines.append(f"error[{self.code}]: {self.problem}")
        return "\n".join(lines)


class UsageError(EflibError):
    """A bad value from the caller: the command line, an argument, a file of settings."""

    code = "usage"
    exit_status = 2


class InfeasibleError(EflibError):
    """A deadline cannot be met; admission says so and names the earliest one that could."""

    code = "deadline-unreachable"
    exit_status = 3


class PreemptedError(EflibError):
    """The job was asked to leave and can be resumed."""

    code = "preempted"
    exit_status = 4


class StoreError(EflibError):
    """The store cannot be reached, read or written."""

    code = "store"
    exit_status = 5


class CoordinatorUnreachableError(EflibError):
    """No coordinator answered within the bound."""

    code = "coordinator-unreachable"
    exit_status = 5


class WorkerFailedError(EflibError):
    """A worker ended with an error; names rank, node, exit code and log."""

    code = "worker-failed"
    exit_status = 1


class StateMismatchError(EflibError):
    """Ranks, or a checkpoint and a model, disagree on the state; names both sides' values."""

    code = "state-mismatch"
    exit_status = 1


class CheckpointError(EflibError):
    """A checkpoint could not be written or read; names the folder and why."""

    code = "checkpoint"
    exit_status = 1


class InvalidTransitionError(EflibError):
    """A fault of ours: a state machine was asked for a step it does not have."""

    code = "invalid-transition"
    exit_status = 70
