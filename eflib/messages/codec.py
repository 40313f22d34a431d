"""Messages as JSON: the only place where bytes from outside become values.

Whatever the bytes are, reading ends in a value of the type asked for or in ``UnreadableError``:
nesting without end, half surrogate pairs, numbers out of range, missing fields, anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar, cast

import msgspec

from eflib.errors import UsageError

if TYPE_CHECKING:
    from eflib.messages.fields import Message

T = TypeVar("T")

_ENCODER = msgspec.json.Encoder()
_FAULTS = (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError, TypeError, OverflowError)


class UnreadableError(ValueError):
    """Bytes that are not a message of the type asked for; the text says why."""


class InvalidMessageError(UsageError):
    """A message that its reader would refuse; the writer has put a wrong value into it."""


class Form(Generic[T]):
    """How to read one type, or a union of types that their ``type`` field tells apart.

    Args:
        kind: The type, or the union, as in ``Submit | Cancel``.
    """

    def __init__(self, kind: object) -> None:
        decoder = msgspec.json.Decoder(cast("type[object]", kind))
        self._decoder = cast("msgspec.json.Decoder[T]", decoder)

    def read(self, data: bytes) -> T:
        """Return the value that the bytes stand for.

        Raises:
            UnreadableError: They stand for none of this type.
        """
        try:
            return self._decoder.decode(data)
        except _FAULTS as error:
            raise UnreadableError(_reason(error)) from None


_FORMS: dict[object, object] = {}


def form(kind: type[T]) -> Form[T]:
    """Return how to read a type; made once for each."""
    if kind not in _FORMS:
        _FORMS[kind] = Form[T](kind)
    return cast("Form[T]", _FORMS[kind])


def decode(data: bytes, kind: type[T]) -> T:
    """Return the value of a type that the bytes stand for.

    Raises:
        UnreadableError: They stand for none.
    """
    return form(kind).read(data)


def encode(message: Message) -> bytes:
    """Return a message as JSON, having seen that its reader will take it.

    Not a number and the infinities, which JSON does not have, become null.

    Raises:
        InvalidMessageError: A value is of a wrong type or out of its bounds.
    """
    name = type(message).__name__
    try:
        data = _ENCODER.encode(message)
    except _FAULTS as error:
        raise InvalidMessageError(f"a {name} cannot be written ({_reason(error)})") from error
    try:
        decode(data, type(message))
    except UnreadableError as error:
        raise InvalidMessageError(f"a {name} cannot be written ({error})") from error
    return data


def convert(value: object, kind: type[T]) -> T:
    """Return the message of a type that dictionaries, lists, texts and numbers stand for.

    Raises:
        InvalidMessageError: They stand for none.
    """
    try:
        return msgspec.convert(value, kind, str_keys=True)
    except _FAULTS as error:
        raise InvalidMessageError(f"not a valid {kind.__name__}: {_reason(error)}") from error


def facts_of(message: Message) -> dict[str, object]:
    """Return a message as a dictionary of JSON's own types, as commands print it."""
    facts: dict[str, object] = msgspec.json.decode(_ENCODER.encode(message))
    return facts


def to_builtins(message: object) -> object:
    """Return a value as JSON's own types, for printing: dictionaries, lists, texts, numbers."""
    return msgspec.to_builtins(message, str_keys=True)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = str(error).encode("ascii", "backslashreplace").decode()
    return (text[:1].lower() + text[1:])[:300] or type(error).__name__
