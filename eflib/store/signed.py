"""Messages: typed JSON objects with a schema version, signed for the place where they stand.

A value is two lines of JSON: a header with the schema and the signature, then the message. The
signature is checked before the message is parsed, and covers the key or stream, so that a message
copied to another place does not verify there.

What cannot be verified, or is not of the type that its reader asks for, is put aside
(``eflib.store.aside``) and counts as absent: a bad value costs that value and nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from eflib.errors import StoreError
from eflib.messages.codec import UnreadableError, decode, encode
from eflib.messages.fields import Message
from eflib.store.aside import Aside

if TYPE_CHECKING:
    from collections.abc import Callable

    from eflib.messages.codec import Form
    from eflib.store.base import Keys, Store

SCHEMA = 1

T = TypeVar("T")


class Header(Message, frozen=True):
    """The first line of a value."""

    schema: int
    mac: str


@dataclass(frozen=True)
class Batch(Generic[T]):
    """What was read of a stream.

    Attributes:
        messages: Index and message of each entry that could be read.
        end: Where to read on: one behind the last entry, readable or not.
    """

    messages: list[tuple[int, T]]
    end: int


class SignedStore:
    """Signed messages in a store.

    Not a number and the infinities, which JSON does not have, are written as null: a diverged loss
    must not keep a job from reporting.

    Args:
        store: Where the messages stand.
        key: The cluster's key.
        aside: Where values go that cannot be read; by default they are logged alone.
    """

    def __init__(self, store: Store, key: bytes, *, aside: Aside | None = None) -> None:
        self.store = store
        self.aside = aside or Aside()
        self._key = key

    def put(self, key: str, message: Message) -> None:
        """Write the message at a key.

        Raises:
            InvalidMessageError: Its reader would refuse it.
            StoreError: The store is out.
        """
        self.store.set(key, self._encode("key", key, message))

    def fetch(self, key: str, kind: type[T]) -> T | None:
        """Return the message at a key; None where there is none, or none that can be read.

        Args:
            key: Where it stands.
            kind: Its type.

        Raises:
            StoreError: The store is out.
        """
        value = self.store.get(key)
        return None if value is None else self.read(key, value, kind)

    def read(self, key: str, value: bytes, kind: type[T]) -> T | None:
        """Return the message that the bytes of a key hold; None if they hold none of this type."""
        try:
            return decode(self._verified("key", key, value), kind)
        except StoreError as error:
            self.aside.put(key, value, _reason(error))
        except UnreadableError as error:
            self.aside.put(key, value, f"it cannot be read as {kind.__name__}: {error}")
        return None

    def claim(self, key: str, message: Message) -> bool:
        """Write the message if the key is absent; of many callers, one gets True.

        What stands there and cannot be read is put aside and makes room.

        Raises:
            InvalidMessageError: Its reader would refuse it.
            StoreError: The store is out.
        """
        encoded = self._encode("key", key, message)
        if self.store.compare_and_set(key, None, encoded):
            return True
        held = self.store.get(key)
        if held is None or self.read(key, held, type(message)) is not None:
            return False
        return self.store.compare_and_set(key, held, encoded)

    def post(self, stream: str, message: Message) -> int:
        """Add a message at the end of a stream; returns its index, from 0.

        Raises:
            InvalidMessageError: Its reader would refuse it.
            StoreError: The store is out.
        """
        return self.store.append(stream, self._encode("stream", stream, message))

    def receive(
        self,
        stream: str,
        start: int,
        form: Form[T],
        on_unreadable: Callable[[bytes, str], None] | None = None,
    ) -> Batch[T]:
        """Return the messages of a stream from index ``start`` on.

        An entry that cannot be verified or read is put aside: it does not stop those behind it.

        Args:
            stream: Which stream.
            start: The first index.
            form: The types that are expected.
            on_unreadable: Called with each message that is signed with the cluster's key and yet
                cannot be read, and the reason.

        Raises:
            StoreError: The store is out.
        """
        messages: list[tuple[int, T]] = []
        end = start
        for index, value in self.store.read(stream, start):
            end = index + 1
            place = f"{stream}, entry {index}"
            try:
                body = self._verified("stream", stream, value)
            except StoreError as error:
                self.aside.put(place, value, _reason(error))
                continue
            try:
                messages.append((index, form.read(body)))
            except UnreadableError as error:
                self.aside.put(place, value, f"it cannot be read: {error}")
                if on_unreadable is not None:
                    on_unreadable(body, str(error))
        return Batch(messages, end)

    def delete(self, key: str) -> bool:
        """Remove a key; True if it was there."""
        return self.store.delete(key)

    def list(self, prefix: str = "") -> Keys:
        """Return the keys that start with ``prefix``, sorted."""
        return self.store.list(prefix)

    def reaches(self, stream: str, end: int) -> bool:
        """Tell whether a stream ever had ``end`` entries; a store that began anew has not."""
        return self.store.reaches(stream, end)

    def trim(self, stream: str, end: int) -> None:
        """Forget the entries of a stream with an index below ``end``."""
        self.store.trim(stream, end)

    def close(self) -> None:
        """Let go of the store's connections."""
        self.store.close()

    def _encode(self, kind: str, place: str, message: Message) -> bytes:
        body = encode(message)
        header = encode(Header(SCHEMA, self._sign(kind, place, body)))
        return header + b"\n" + body

    def _verified(self, kind: str, place: str, value: bytes) -> bytes:
        """Return the message in a value, as JSON, once its signature is seen to be right.

        Raises:
            StoreError: It is not signed with this cluster's key, or not for this place.
        """
        first, _, body = value.partition(b"\n")
        try:
            header = decode(first, Header)
        except UnreadableError as cause:
            raise StoreError(f"the value at {place} is not a message of eflib") from cause
        if header.schema != SCHEMA:
            raise StoreError(
                f"the message at {place} has schema {header.schema}; this eflib reads {SCHEMA}",
                hint="use the same version of eflib on every node",
            )
        if not hmac.compare_digest(header.mac.encode(), self._sign(kind, place, body).encode()):
            raise StoreError(
                f"the message at {place} is not signed with this cluster's key",
                hint="use one EFLIB_HOME, or the same key file, on every node",
            )
        return body

    def _sign(self, kind: str, place: str, body: bytes) -> str:
        context = f"eflib {SCHEMA} {kind} {place}\n".encode()
        return hmac.new(self._key, context + body, hashlib.sha256).hexdigest()


def _reason(error: StoreError) -> str:
    return f"{error.problem} ({error.hint})" if error.hint else error.problem
