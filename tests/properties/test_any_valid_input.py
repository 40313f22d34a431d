"""Inputs of every type with any values that its bounds allow, in any order: the plane takes them.

What no agent or worker would say may still be said, by a worker that was held up for an hour or by
a message that was written again.
"""

import random
from typing import get_args

import pytest
from msgspec import inspect

from eflib.messages.codec import decode, encode
from eflib.messages.fields import LATEST
from eflib.messages.journal import Begin, Input
from tests.unit.coordinator.world import fresh_plane

KINDS = [kind for kind in get_args(Input) if kind is not Begin]
TEXTS = ["", "x", "train", "pause", "a.py", "SIGKILL", "ü" * 50]
CURVES = [{1: 10.0}, {1: 10.0, 2: 19.0, 4: 34.0}, {1: 1e-9}, {1: 1e9}, {3: 5.0}, {1: 1.0, 2: 0.5}]


class Speaker:
    """Draws inputs; names are mostly those that the plane knows."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.plane = fresh_plane()
        self.now = 1000.0
        self.count = 0

    def draw(self, kind):
        """Return an input of a type."""
        fields = inspect.type_info(kind).fields
        found = {}
        for field in fields:
            if field.required or self.chance.random() < 0.8:
                found[field.name] = self.value(field.name, field.type)
        return kind(**found)

    def value(self, name, kind):
        named = getattr(self, f"_{name}", None)
        if named is not None:
            return named()
        drawn = None
        match kind:
            case inspect.UnionType():
                drawn = self.value("", self.chance.choice(kind.types))
            case inspect.StructType():
                drawn = self.draw(kind.cls)
            case inspect.VarTupleType():
                size = self.chance.randrange(4)
                drawn = tuple(self.value("", kind.item_type) for _ in range(size))
            case inspect.DictType():
                drawn = {}
            case inspect.BoolType():
                drawn = self.chance.random() < 0.5
            case inspect.StrType():
                drawn = self.chance.choice(TEXTS)
            case inspect.IntType():
                drawn = self._number(kind, [0, 1, 2, 3, 7, 64, 1000])
            case inspect.FloatType():
                drawn = self._number(kind, [0.0, 0.1, 1.0, 33.3, 1e4])
        return drawn

    def _number(self, kind, usual):
        low = kind.ge if kind.ge is not None else -(2**53)
        high = kind.le if kind.le is not None else (kind.lt or 2**53) - 1
        fit = [one for one in usual if low <= one <= high]
        return (
            self.chance.choice(fit)
            if self.chance.random() < 0.9
            else self.chance.choice([low, high])
        )

    def _request(self):
        self.count += 1
        return f"r{self.count}"

    def _name(self):
        return self.chance.choice(["a", "b"])

    def _job(self):
        return self.chance.choice([*self.plane.jobs, "a", "nobody-9"])

    def _worker(self):
        seats = [seat for job in self.plane.jobs.values() for seat in job.members.seats]
        return self.chance.choice([*seats, "nobody-9.1"])

    def _node(self):
        return self.chance.choice(["n0", "n1", "n2"])

    def _slots(self):
        return self.chance.choice([1, 2, 4, 8])

    def _generation(self):
        newest = [job.members.newest.number for job in self.plane.jobs.values()]
        return self.chance.choice([0, 1, *newest, 2**53])

    def _profile(self):
        points = self.chance.choice([None, *CURVES])
        inner = inspect.type_info(KINDS[0]).fields
        curve = next(field for field in inner if field.name == "profile").type
        struct = next(one.cls for one in curve.types if isinstance(one, inspect.StructType))
        return None if points is None else struct(points)

    def _known_curve(self):
        return None

    def _deadline(self):
        return self.chance.choice([None, 0.0, self.now - 5, self.now + 60, self.now + 1e5, LATEST])

    def _record(self):
        return None

    def _env(self):
        return {}

    def say(self):
        """Draw one input and hand it to the plane, as a coordinator would after its journal."""
        kind = self.chance.choice(KINDS)
        drawn = self.draw_whole(kind)
        if drawn is not None:
            message = decode(encode(drawn), kind)  # within its bounds, and as it is read again
            self.plane.handle(message, self.now)
        for job, made in self.plane.proposals(self.now):
            made_input = next(one for one in KINDS if one.__struct_config__.tag == "generation")
            if self.chance.random() < 0.7:
                self.plane.handle(made_input(job=job.job, record=made), self.now)
        if self.chance.random() < 0.3:
            self.now += self.chance.choice([0.0, 1.0, 30.0, 200.0, 1e4])
        self.plane.take_effects()

    def draw_whole(self, kind):
        tag = kind.__struct_config__.tag
        if tag == "generation":
            return None  # those that the plane proposes are taken
        if tag == "node_joined":
            record = next(f for f in inspect.type_info(kind).fields if f.name == "record").type.cls
            return kind(node=self._node(), record=record(slots=self._slots()))
        return self.draw(kind)

    def look(self):
        """Read everything off the plane."""
        self.plane.assignments()
        for job in self.plane.jobs.values():
            encode(self.plane.status(job, None, self.now))


@pytest.mark.parametrize("seed", range(12))
def test_the_plane_takes_any_valid_input_and_can_be_read_afterwards(seed):
    speaker = Speaker(seed)
    for number in range(150):
        speaker.say()
        if number % 10 == 0:
            speaker.look()


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(1000, 1060))
def test_the_plane_takes_very_many_valid_inputs(seed):
    speaker = Speaker(seed)
    for _ in range(400):
        speaker.say()
        speaker.look()
