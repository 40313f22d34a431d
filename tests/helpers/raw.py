"""Signed JSON of any form: what no type of eflib's would write, and a reader without types."""

import json


class Raw:
    """Reads and writes JSON objects in a signed store as they are.

    Args:
        signed: The ``SignedStore``; its key signs.
    """

    def __init__(self, signed):
        self.signed = signed

    def put(self, key, document):
        self.signed.store.set(key, self._value("key", key, document))

    def post(self, stream, document):
        return self.signed.store.append(stream, self._value("stream", stream, document))

    def fetch(self, key):
        value = self.signed.store.get(key)
        return None if value is None else json.loads(value.partition(b"\n")[2])

    def receive(self, stream, start=0):
        entries = self.signed.store.read(stream, start)
        return [json.loads(value.partition(b"\n")[2]) for _, value in entries]

    def _value(self, kind, place, document):
        return self.sealed(kind, place, json.dumps(document).encode())

    def sealed(self, kind, place, body):
        """Return any bytes, signed for a place."""
        header = {"schema": 1, "mac": self.signed._sign(kind, place, body)}
        return json.dumps(header).encode() + b"\n" + body
