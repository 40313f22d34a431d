"""Answers of the coordinator to requests."""

from __future__ import annotations

from eflib.messages.fields import Integer, Label, Message, Path, Text


class Refusal(Message, frozen=True):
    """Why a request is not carried out.

    Attributes:
        code: ``usage`` if a value is wrong, else what stands in the way.
        problem: One line.
        hint: What to do.
    """

    code: Label
    problem: Text
    hint: Text = ""


class Reply(Message, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to one request; which fields are set depends on what was asked.

    Attributes:
        error: Why it is refused; None if it is carried out.
        job: The job's id (submit, profile, cancel, rescale).
        name: What it is called (submit, profile).
        log_dir: Folder of its logs (submit, profile).
        state: Its new state (cancel).
        num_gpus: The size it is held at (rescale).
        target: The slots it will have (rescale).
        stops: Whether the coordinator ends now (release).
    """

    error: Refusal | None = None
    job: Label | None = None
    name: Label | None = None
    log_dir: Path | None = None
    state: Label | None = None
    num_gpus: Integer | None = None
    target: Integer | None = None
    stops: bool = False
