"""Bounds of the fields of messages: what each kind of number and text may be."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

M = TypeVar("M", bound="Message")

MAX_TEXT = 16_384
"""Characters of a longer text, such as a traceback or a reason; see ``shortened``."""
MAX_SLOTS = 1024
"""Slots of one node."""
MAX_WORLD = 65_536
"""Workers of one job."""
LATEST = 253_370_764_800.0
"""The first second of the year 9999: later moments cannot be written as a date in every zone."""

_PLAIN = r"^[^/\x00-\x1f\x7f]+$"

Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=_PLAIN)]
"""A node, job or worker: it becomes a part of a key and of a path."""
JobName = Annotated[str, Meta(max_length=60, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""What a person calls a job: it begins the job's id."""
Request = Annotated[str, Meta(max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""The id of a request, made by its sender, different for each."""
Label = Annotated[str, Meta(max_length=1024)]
"""A short text for people: a host, a device, a signal."""
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
"""A text for people: a reason, an error's message, a traceback."""
Path = Annotated[str, Meta(max_length=4096)]
"""A file, a folder or a module."""
Word = Annotated[str, Meta(max_length=131_072)]
"""An argument or a variable's value, as long as Linux lets one be."""
Words = Annotated[tuple[Word, ...], Meta(max_length=16_384)]
Environment = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=1024)], Word], Meta(max_length=8192)
]

Count = Annotated[int, Meta(ge=0, le=2**53)]
"""A number of steps, samples, bytes or beats; every JSON reader holds it exactly."""
Positive = Annotated[int, Meta(ge=1, le=2**53)]
Size = Annotated[int, Meta(ge=0, le=MAX_WORLD)]
"""A number of workers."""
Workers = Annotated[int, Meta(ge=1, le=MAX_WORLD)]
"""A number of workers that is not 0."""
Rank = Annotated[int, Meta(ge=0, lt=MAX_WORLD)]
Slot = Annotated[int, Meta(ge=0, lt=MAX_SLOTS)]
Slots = Annotated[int, Meta(ge=1, le=MAX_SLOTS)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Pid = Annotated[int, Meta(ge=0, lt=2**31)]
Status = Annotated[int, Meta(ge=-(2**31), le=2**32)]
"""An exit code; negative for a signal."""
Integer = Annotated[int, Meta(ge=-(2**53), le=2**53)]

Number = Annotated[float, Meta(ge=-1e300, le=1e300)]
"""A measured value; never infinite and never not a number (those are written as null)."""
Spread = Annotated[float, Meta(ge=0, le=1e9)]
"""A distance over a median."""
Bytes = Annotated[float, Meta(ge=0, le=2**62)]
Seconds = Annotated[float, Meta(ge=0, le=1e12)]
Moment = Annotated[float, Meta(ge=0, le=LATEST)]
"""Seconds since the epoch."""
MIN_RATE, MAX_RATE = 1e-9, 1e9
Rate = Annotated[float, Meta(ge=MIN_RATE, le=MAX_RATE)]
"""Steps per second."""
Points = Annotated[dict[Workers, Rate], Meta(min_length=1, max_length=256)]
"""Steps per second by world size."""


class Message(msgspec.Struct, frozen=True):
    """What all messages, documents and records are: immutable, compared by value."""


def replace(message: M, **changes: object) -> M:
    """Return a copy with other values in some of its fields.

    Args:
        message: What to copy; it stays as it is.
        changes: New values by field name.
    """
    return msgspec.structs.replace(message, **changes)


def extended(message: Message, kind: type[M], **more: object) -> M:
    """Return a message of another type with the fields of this one, and some more.

    Args:
        message: Where the fields come from; the other type has all of them.
        kind: The type of the new message.
        more: The other type's further fields, by name.
    """
    fields = {name: getattr(message, name) for name in message.__struct_fields__}
    fields.update(more)
    return kind(**fields)


def shortened(text: str, limit: int = MAX_TEXT) -> str:
    """Return a text that fits a field and can be written as UTF-8.

    The beginning and the end are kept: an error's first and last lines say most. What cannot be
    encoded, such as half of a surrogate pair, becomes a question mark.

    Args:
        text: Any text.
        limit: How many characters the field takes.
    """
    text = text.encode("utf-8", "replace").decode()
    if len(text) <= limit:
        return text
    mark = f"\n... {len(text) - limit} characters and more left out ...\n"
    head = (limit - len(mark)) // 2
    tail = limit - len(mark) - head
    return text[:head] + mark + text[len(text) - tail :]
