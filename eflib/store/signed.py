"""Messages: JSON objects with a schema version, signed for the place where they stand.

A value is two lines of JSON: a header with the schema and the signature, then the message. The
signature is checked before the message is parsed, and covers the key or stream, so that a message
copied to another place does not verify there.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import math
from typing import TYPE_CHECKING, Any

from eflib.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from eflib.store.base import Keys, Store

Message = dict[str, Any]
SCHEMA = 1

_log = logging.getLogger(__name__)


class SignedStore:
    """Signed messages in a store.

    Not a number and the infinities, which JSON does not have, are written as null: a diverged loss
    must not keep a job from reporting.

    Args:
        store: Where the messages stand.
        key: The cluster's key.
        on_refused: Told of each stream entry that is skipped because it does not verify; by
            default a warning is logged.
    """

    def __init__(
        self, store: Store, key: bytes, *, on_refused: Callable[[str], None] = _log.warning
    ) -> None:
        self.store = store
        self._key = key
        self._on_refused = on_refused
        self._refused: set[tuple[str, int]] = set()

    def put(self, key: str, message: Message) -> None:
        """Write the message at a key."""
        self.store.set(key, self._encode("key", key, message))

    def fetch(self, key: str) -> Message | None:
        """Return the message at a key, or None where there is none.

        Raises:
            StoreError: What stands there does not verify.
        """
        value = self.store.get(key)
        return None if value is None else self._decode("key", key, value)

    def claim(self, key: str, message: Message) -> bool:
        """Write the message if the key is absent; of many callers, one gets True."""
        return self.store.compare_and_set(key, None, self._encode("key", key, message))

    def swap(self, key: str, expected: Message | None, message: Message) -> bool:
        """Write the message if the key holds ``expected`` (None: is absent), in one act.

        Raises:
            StoreError: What stands there does not verify.
        """
        if expected is None:
            return self.claim(key, message)
        value = self.store.get(key)
        if value is None or self._decode("key", key, value) != expected:
            return False
        return self.store.compare_and_set(key, value, self._encode("key", key, message))

    def post(self, stream: str, message: Message) -> int:
        """Add a message at the end of a stream; returns its index, from 0."""
        return self.store.append(stream, self._encode("stream", stream, message))

    def receive(self, stream: str, start: int) -> list[tuple[int, Message]]:
        """Return the messages of a stream from index ``start`` on.

        An entry that does not verify is reported once and left out: it must not stop those behind
        it. To go on, start at the last index plus one; if nothing came, at the same place.
        """
        messages = []
        for index, value in self.store.read(stream, start):
            try:
                messages.append((index, self._decode("stream", stream, value)))
            except StoreError as cause:
                if (stream, index) not in self._refused:
                    self._refused.add((stream, index))
                    self._on_refused(f"left out entry {index} of {stream}: {cause.problem}")
        return messages

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
        body = canonical(message)
        header = json.dumps({"schema": SCHEMA, "mac": self._sign(kind, place, body)})
        return header.encode() + b"\n" + body

    def _decode(self, kind: str, place: str, value: bytes) -> Message:
        header, _, body = value.partition(b"\n")
        try:
            fields = json.loads(header)
            schema, mac = fields["schema"], fields["mac"]
        except (ValueError, TypeError, KeyError) as cause:
            raise StoreError(f"what stands at {place} is not a message of eflib") from cause
        if schema != SCHEMA:
            raise StoreError(
                f"the message at {place} has schema {schema!r}; this eflib reads {SCHEMA}",
                hint="use the same version of eflib on every node",
            )
        if not hmac.compare_digest(str(mac).encode(), self._sign(kind, place, body).encode()):
            raise StoreError(
                f"the message at {place} is not signed with this cluster's key",
                hint="use one EFLIB_HOME, or the same key file, on every node",
            )
        message: Message = json.loads(body)
        return message

    def _sign(self, kind: str, place: str, body: bytes) -> str:
        context = f"eflib {SCHEMA} {kind} {place}\n".encode()
        return hmac.new(self._key, context + body, hashlib.sha256).hexdigest()


def canonical(message: Message) -> bytes:
    """Return a message as JSON: sorted keys, no spaces; not a number and infinities as null.

    Raises:
        StoreError: It holds something that JSON does not have.

    Examples:
        >>> canonical({"step": 3, "loss": float("nan")})
        b'{"loss":null,"step":3}'
    """
    try:
        try:
            return _dumps(message)
        except ValueError:
            return _dumps(_finite(message))
    except (TypeError, ValueError, RecursionError) as cause:
        raise StoreError(f"a message cannot be written as JSON ({cause})") from cause


def _dumps(message: object) -> bytes:
    text = json.dumps(message, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode()


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _finite(held) for name, held in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(held) for held in value]
    return value
