"""The loader of a rank's micro-batches: the same batches from 0 and from n processes."""

import socket

import psutil
import pytest
import torch

from eflib.trainer.data.loader import BlockLoader
from eflib.trainer.data.position import DataPlan
from tests.unit.trainer.builders import Noisy, Points, a_split, blocks_of

PLAN = DataPlan(num_samples=22, global_batch_size=5, seed=3)
# (from step, rank, world size): over sizes 1, 3, 2 and back to a step that was fetched before
WAYS = [(0, 0, 1), (2, 1, 3), (3, 0, 2), (4, 1, 2), (4, 0, 4), (6, 0, 1)]
LAST = 9


def a_loader(dataset, num_workers, max_size=None):
    return BlockLoader(dataset, PLAN, a_split(max_size), collate_fn=None, num_workers=num_workers)


def walk(loader, ways=WAYS, last=LAST):
    """Return (block, inputs) of all steps, with a new share where the ways say so."""
    batches = []
    for place, (step, rank, world_size) in enumerate(ways):
        loader.restart(step, last, rank, world_size)
        end = ways[place + 1][0] if place + 1 < len(ways) else last
        for each in range(step, end):
            batches += [(block, loader.fetch(block)[0]) for block in blocks_of(loader, each)]
    return batches


@pytest.fixture
def loader():
    """Return a loader with two processes; it is closed when the test ends."""
    made = a_loader(Noisy(), num_workers=2, max_size=2)
    yield made
    made.close()


def processes():
    return {child.pid for child in psutil.Process().children()}


def test_two_processes_give_the_batches_of_none_over_changes_of_share(loader):
    here = walk(a_loader(Noisy(), num_workers=0, max_size=2))
    ahead = walk(loader)
    assert [block for block, _ in ahead] == [block for block, _ in here]
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(ahead, here, strict=True))


def test_batches_are_of_the_plans_samples():
    points = Points()
    for block, inputs in walk(a_loader(points, num_workers=0)):
        assert torch.equal(inputs, points.x[PLAN.indices(block).tolist()])


def test_processes_stay_over_a_change_of_share_and_end_when_closed(loader):
    before = processes()
    seen = []
    for step, rank, world_size in WAYS:
        loader.restart(step, LAST, rank, world_size)
        for block in blocks_of(loader, step):
            loader.fetch(block)
        seen.append(processes() - before)
    started = seen[0]
    assert len(started) == 2
    assert all(one == started for one in seen)
    loader.close()
    assert not processes() & started


def test_a_loader_that_was_read_to_the_end_can_be_turned_back(loader):
    first = walk(loader, [(6, 0, 1)])
    again = walk(loader, [(6, 0, 1)])
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(first, again, strict=True))


def test_a_block_that_was_cut_otherwise_than_planned_is_fetched_all_the_same(loader):
    here = a_loader(Noisy(), num_workers=0, max_size=2)
    here.restart(0, LAST, 0, 1)
    loader.restart(0, LAST, 0, 1)
    assert torch.equal(
        loader.fetch(blocks_of(loader, 0)[0])[0], here.fetch(blocks_of(here, 0)[0])[0]
    )
    loader.split = here.split = a_split(1)
    for step in (1, 2):
        for block in blocks_of(here, step):
            assert torch.equal(loader.fetch(block)[0], here.fetch(block)[0])


@pytest.fixture
def connect():
    """Return a maker of TCP connections on this machine: (ours, the peer's)."""
    opened = []

    def make():
        with socket.create_server(("127.0.0.1", 0)) as server:
            ours = socket.create_connection(server.getsockname())
            theirs, _ = server.accept()
        theirs.settimeout(10)
        opened.extend((ours, theirs))
        return ours, theirs

    yield make
    for one in opened:
        one.close()


def test_peers_notice_a_closed_connection_though_processes_were_forked_meanwhile(connect):
    """A process group lives shorter than the loader's processes, which must not hold it open."""
    loader = a_loader(Points(), num_workers=1)
    ours, theirs = connect()
    try:
        walk(loader, [(0, 0, 1)], last=1)
        loader.restart(1, LAST, 0, 1)
        loader.fetch(blocks_of(loader, 1)[0])
        ours.close()
        assert theirs.recv(1) == b""
    finally:
        loader.close()


def test_a_connection_from_before_is_the_data_sets_to_use(connect):
    ours, theirs = connect()

    class Asking(Points):
        def __getitem__(self, index):
            ours.send(b"?")
            return super().__getitem__(index)

    loader = a_loader(Asking(), num_workers=1)
    try:
        walk(loader, [(0, 0, 1)], last=1)
        assert theirs.recv(1) == b"?"
    finally:
        loader.close()


def test_processes_that_were_started_early_serve_a_fresh_job_and_a_joiner(loader):
    before = processes()
    loader.start(LAST, 0, 1)
    started = processes() - before
    assert len(started) == 2
    for step, rank, world_size in [(0, 0, 1), (5, 1, 2)]:
        here = a_loader(Noisy(), num_workers=0, max_size=2)
        here.restart(step, LAST, rank, world_size)
        loader.restart(step, LAST, rank, world_size)
        for block in blocks_of(here, step):
            assert torch.equal(loader.fetch(block)[0], here.fetch(block)[0])
    assert processes() - before == started


class Broken(Points):
    """Cannot give one of its samples."""

    def __getitem__(self, index):
        if index == PLAN.indices(PLAN.batch(1))[0]:
            raise OSError(f"the file of sample {index} is gone")
        return super().__getitem__(index)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_of_the_data_set_comes_up_with_its_own_type_and_words(num_workers):
    loader = a_loader(Broken(), num_workers)
    try:
        with pytest.raises(OSError, match="the file of sample"):
            walk(loader, [(0, 0, 1)], last=3)
    finally:
        loader.close()


class Drawn(Points):
    """Gives what torch's generator gives."""

    def __getitem__(self, index):
        return torch.rand(()), index


def test_what_the_data_set_draws_is_not_what_the_forward_pass_draws():
    drawn, given = [], []
    for dataset in (Drawn(), Points()):
        loader = a_loader(dataset, num_workers=0)
        loader.restart(0, LAST, 0, 1)
        given.append(loader.fetch(blocks_of(loader, 0)[0])[0])
        drawn.append(torch.rand(()))
    assert drawn[0] == drawn[1]
    assert drawn[0] not in given[0]
