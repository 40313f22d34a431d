"""Every error that eflib raises for a person to read: what happened, the facts, the way out."""

from __future__ import annotations

MAX_LINE = 1000
"""Longest line of a message, in characters; what is beyond it is counted, not printed."""
MAX_DETAIL_LINES = 100
"""Most lines of facts; the last ones are kept, as those of a traceback say most."""


def printable(text: str) -> str:
    r"""Return a text as one line that is safe for a terminal, cut to ``MAX_LINE`` characters.

    Control characters, line ends and what is not valid Unicode are escaped as Python writes them:
    a message can hold the words of a script, which must not move the reader's cursor.

    Examples:
        >>> printable("a\x1b[2Jb")
        'a\\x1b[2Jb'
    """
    more = len(text) - MAX_LINE
    if more > 0:
        text = text[:MAX_LINE]
    if not text.isprintable():
        text = "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
    return f"{text}... ({more} characters more)" if more > 0 else text


def os_reason(cause: OSError) -> str:
    """Return the words of the operating system for an error, in small letters."""
    return (cause.strerror or str(cause) or type(cause).__name__).lower()


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
        facts = self.detail.splitlines()[-MAX_DETAIL_LINES:]
        lines = [f"  {printable(line.expandtabs(4))}" for line in facts]
        if self.hint:
            lines.append(f"hint: {printable(self.hint)}")
        lines.append(f"error[{self.code}]: {printable(self.problem)}")
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


class TooLargeError(StoreError):
    """A message is larger than a store takes; sending it again would not help."""

    code = "too-large"


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
    """A bug in eflib: a state machine was asked for a transition that it does not have."""

    code = "invalid-transition"
    exit_status = 70
