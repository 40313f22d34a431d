"""Iterable data sets for tests: with a state, without, shuffled, of a map's samples."""

import torch

from eflib.trainer.data.position import epoch_order
from tests.unit.trainer.builders import Points


class Numbers(torch.utils.data.IterableDataset):
    """Gives (epoch, place): nothing to seek with, and a count of what was read."""

    def __init__(self, size=22):
        self.size = size
        self.epoch = 0
        self.num_read = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        for place in range(self.size):
            self.num_read += 1
            yield (self.epoch, place)


class Seeking(Numbers):
    """The same with a state of its own."""

    at = 0
    resumed = False

    def __iter__(self):
        if not self.resumed:
            self.at = 0
        self.resumed = False
        while self.at < self.size:
            self.num_read += 1
            self.at += 1
            yield (self.epoch, self.at - 1)

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at, self.resumed = state["at"], True


class Iterators(Numbers):
    """The iterator has the state, as torchdata's nodes have it."""

    def __iter__(self):
        return OwnState(self)


class OwnState:
    """An iterator that can be saved."""

    def __init__(self, owner):
        self.owner = owner
        self.at = 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.at >= self.owner.size:
            raise StopIteration
        self.owner.num_read += 1
        self.at += 1
        return (self.owner.epoch, self.at - 1)

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


class Shuffled(Numbers):
    """A shuffle buffer that draws from torch's generator while it is read."""

    def __iter__(self):
        buffer = []
        for item in super().__iter__():
            buffer.append(item)
            if len(buffer) == 5:
                yield buffer.pop(int(torch.randint(5, ())))
        while buffer:
            yield buffer.pop(int(torch.randint(len(buffer), ())))


class Streamed(torch.utils.data.IterableDataset):
    """The points of a map-style data set in the order that the plan gives them."""

    def __init__(self, size=22, seed=0, points=Points):
        self.points = points(size)
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        for index in epoch_order(self.seed, self.epoch, len(self.points)).tolist():
            yield self.points[index]


class Sized(Streamed):
    """The same with a length."""

    def __len__(self):
        return len(self.points)
