"""Seeded changes to real messages, as bad memory, bad programs and bad people make them."""

import json
import random

NASTY = [
    None,
    True,
    -1,
    0,
    10**9,
    2**53 + 1,
    -(2**63),
    10**30,
    1e308,
    -1e308,
    0.5,
    "",
    "a-1",
    "../../etc/passwd",
    "x" * 100_000,
    "\x00",
    "ünïcode\u202e",
    [],
    {},
    [[[]]],
    {"a": {"b": None}},
]
TEXTS = [
    b"[" * 5_000,
    b'{"a":' * 5_000,
    b'"\\ud800"',
    b"1e999",
    b"NaN",
    b"9" * 5_000,
    b'"\xff\xfe"',
    b"",
]


class Mutator:
    """Changes values; the same seed makes the same changes.

    Args:
        seed: Of all its choices.
        sign: Returns a signed value of a body: ``sign(kind, place, body)``.
    """

    def __init__(self, seed, sign):
        self.chance = random.Random(seed)
        self.sign = sign

    def value(self, kind, place, value):
        """Return a changed value for a place; one in two is signed with the right key."""
        body = value.partition(b"\n")[2]
        if self.chance.random() < 0.5:
            return self.chance.choice([self.torn, self.flipped, self.swollen])(value)
        change = self.chance.choice(
            [self.torn, self.flipped, self.odd_field, self.odd_field, self.odd_field, self.odd_text]
        )
        return self.sign(kind, place, change(body))

    def torn(self, data):
        """Cut a piece out."""
        start, end = sorted(self.chance.randrange(len(data) + 1) for _ in range(2))
        return data[:start] + data[end:]

    def flipped(self, data):
        """Change some bytes."""
        changed = bytearray(data or b"x")
        for _ in range(self.chance.choice([1, 1, 2, 10])):
            changed[self.chance.randrange(len(changed))] = self.chance.randrange(256)
        return bytes(changed)

    def swollen(self, data):
        """Put something in, or repeat a part."""
        place = self.chance.randrange(len(data) + 1)
        more = self.chance.choice([data, b"\n", b"\0" * 1000, self.chance.randbytes(20), *TEXTS])
        return data[:place] + more + data[place:]

    def odd_text(self, body):
        """Replace one value by text that is hardly JSON."""
        document = json.loads(body)
        mark = "a mark that is in no message"
        self._change(document, mark)
        text = json.dumps(document).encode()
        return text.replace(json.dumps(mark).encode(), self.chance.choice(TEXTS))

    def odd_field(self, body):
        """Replace, take away or add a field, anywhere in the message."""
        document = json.loads(body)
        self._change(document, self.chance.choice(NASTY))
        return json.dumps(document).encode()

    def _change(self, node, value):
        while True:
            inner = [one for one in _children(node) if one and isinstance(one, (dict, list))]
            if not inner or self.chance.random() < 0.5:
                break
            node = self.chance.choice(inner)
        if isinstance(node, dict):
            name = self.chance.choice([*node, "further"])
            if self.chance.random() < 0.15:
                node.pop(name, None)
            else:
                node[name] = value
        elif isinstance(node, list):
            node[self.chance.randrange(len(node))] = value


def _children(node):
    return list(node.values()) if isinstance(node, dict) else list(node)
