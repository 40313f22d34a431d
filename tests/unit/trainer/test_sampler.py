"""ElasticSampler and ElasticLoader without the trainer: DataLoader, states, worlds."""

from itertools import chain, islice

import psutil
import pytest
import torch
from torch.utils.data import DataLoader

from eflib import ElasticLoader, ElasticSampler
from eflib.errors import StateMismatchError, UsageError
from eflib.trainer.data.position import DataPlan, epoch_order
from tests.unit.trainer.builders import Noisy, Points

SIZE = 22
PROCESSES = [0, 2]


class Places(torch.utils.data.Dataset):
    """Gives the index itself."""

    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        return index


def order(epoch, seed=0):
    return epoch_order(seed, epoch, SIZE).tolist()


def flat(batches):
    return [int(index) for batch in batches if batch is not None for index in batch]


@pytest.fixture
def a_loader():
    """Return a maker of loaders over 22 places; all are closed when the test ends."""
    made = []

    def make(global_batch_size=5, rank=0, world_size=1, **settings):
        loader = ElasticLoader(
            settings.pop("dataset", Places()),
            global_batch_size,
            rank=rank,
            world_size=world_size,
            **settings,
        )
        made.append(loader)
        return loader

    yield make
    for loader in made:
        loader.close()


# With torch's DataLoader --------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", PROCESSES)
def test_as_a_sampler_the_ranks_batches_cover_each_epoch(num_workers):
    samplers = [ElasticSampler(Places(), rank=rank, world_size=3) for rank in range(3)]
    loaders = [
        DataLoader(Places(), batch_size=4, sampler=one, num_workers=num_workers) for one in samplers
    ]
    for epoch in range(2):
        seen = [flat(loader) for loader in loaders]
        assert [len(one) for one in seen] == [8, 7, 7]
        assert sorted(chain(*seen)) == list(range(SIZE))
        assert [one.epoch for one in samplers] == [epoch + 1] * 3


@pytest.mark.parametrize("num_workers", PROCESSES)
def test_as_a_batch_sampler_it_gives_this_ranks_share_of_each_global_batch(num_workers):
    sampler = ElasticSampler(SIZE, 6, rank=1, world_size=2, epoch_end="drop")
    loader = DataLoader(Places(), batch_sampler=sampler, num_workers=num_workers)
    assert len(loader) == 3
    assert flat(loader) == [order(0)[at + i] for at in (0, 6, 12) for i in (3, 4, 5)]
    assert flat(loader) == [order(1)[at + i] for at in (0, 6, 12) for i in (3, 4, 5)]


@pytest.mark.parametrize("num_workers", PROCESSES)
def test_a_count_of_batches_taken_makes_an_exact_state_of_what_was_drawn_ahead(num_workers):
    sampler = ElasticSampler(SIZE, 5, rank=0, world_size=1)
    seen = []
    for taken, batch in enumerate(
        DataLoader(Places(), batch_sampler=sampler, num_workers=num_workers)
    ):
        seen += flat([batch])
        if taken == 1:
            state = sampler.state_dict(taken=taken + 1)
            break
    assert (state["epoch"], state["samples"]) == (0, 10)
    later = ElasticSampler(SIZE, 4, rank=0, world_size=1)
    later.load_state_dict(state)
    assert seen + flat(DataLoader(Places(), batch_sampler=later)) == order(0)


# The loader's state -------------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", PROCESSES)
@pytest.mark.parametrize("taken", range(6))
def test_a_state_before_within_and_at_the_end_of_an_epoch_goes_on_there(
    a_loader, num_workers, taken
):
    """Five batches an epoch: what was handed out counts, what was fetched ahead does not."""
    first = a_loader(num_workers=num_workers)
    seen = list(islice(first, taken))
    state = first.state_dict()
    assert (state["epoch"], state["samples"]) == ((1, 0) if taken == 5 else (0, taken * 5))
    later = a_loader(num_workers=num_workers)
    later.load_state_dict(state)
    if taken < 5:
        assert flat(seen) + flat(later) == order(0)
    assert flat(later) == order(1)
    assert later.state_dict()["epoch"] == 2


@pytest.mark.parametrize("num_workers", PROCESSES)
def test_a_loader_that_is_turned_back_gives_again_what_it_gave(a_loader, num_workers):
    loader = a_loader(num_workers=num_workers, dataset=Noisy())
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()
    first = [inputs for inputs, _ in batches]
    loader.load_state_dict(state)
    again = [inputs for inputs, _ in loader]
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


def test_processes_give_what_this_process_gives(a_loader):
    here, there = (a_loader(dataset=Noisy(), num_workers=count) for count in PROCESSES)
    for (one, _), (other, _) in zip(here, there, strict=True):
        assert torch.equal(one, other)


def test_a_loop_that_was_left_goes_on_where_it_was(a_loader):
    loader = a_loader(num_workers=2)
    seen = flat([next(iter(loader)), next(iter(loader))])
    assert seen + flat(loader) == order(0)


@pytest.mark.parametrize("num_workers", PROCESSES)
def test_a_world_that_changes_in_mid_epoch_covers_the_epoch_exactly(a_loader, num_workers):
    """1, 3, 2 ranks, told by set_world, with prefetching processes over the change."""
    loaders = [a_loader(num_workers=num_workers)]
    seen = flat([next(iter(loaders[0]))])
    for world_size in (3, 2):
        state = loaders[0].state_dict()
        loaders = loaders[:world_size]
        loaders += [a_loader(num_workers=num_workers) for _ in range(world_size - len(loaders))]
        for rank, loader in enumerate(loaders):
            loader.load_state_dict(state)
            loader.set_world(rank, world_size)
        seen += flat([next(iter(loader)) for loader in loaders])
    assert [loader.batch_size for loader in loaders] == [5, 5]
    while loaders[0].epoch == 0:
        seen += flat([next(iter(loader)) for loader in loaders])
    assert seen == order(0)
    assert loaders[0].batch_size == 2


def test_set_world_within_a_running_loop_holds_from_the_next_batch_on(a_loader):
    loader = a_loader(num_workers=2)
    sizes = []
    for batch in loader:
        sizes.append(len(batch))
        if len(sizes) == 2:
            loader.set_world(1, 2)
    assert sizes == [5, 5, 2, 2, 1]


def test_a_rank_without_a_sample_gets_none_so_that_all_take_as_many_steps(a_loader):
    loaders = [a_loader(rank=rank, world_size=4) for rank in range(4)]
    *_, last = zip(*loaders, strict=True)
    assert [None if batch is None else len(batch) for batch in last] == [1, 1, None, None]


def test_the_seed_of_a_state_holds_on(a_loader):
    first = a_loader(seed=5)
    next(iter(first))
    later = a_loader(seed=6)
    later.load_state_dict(first.state_dict())
    assert flat(later) == order(0, seed=5)[5:]


def test_set_epoch_as_with_torchs_sampler_does_not_undo_a_state(a_loader):
    loader = a_loader()
    loader.load_state_dict({"epoch": 3, "samples": 10, "num_samples": SIZE, "seed": 0})
    loader.set_epoch(3)
    assert flat(loader) == order(3)[10:]
    loader.set_epoch(7)
    assert flat(loader) == order(7)


def test_a_state_of_other_data_is_refused(a_loader):
    loader = a_loader()
    with pytest.raises(StateMismatchError, match="of a data set of 30 samples, this one has 22"):
        loader.load_state_dict({**loader.state_dict(), "num_samples": 30})


def test_taken_after_a_move_is_refused():
    sampler = ElasticSampler(SIZE, rank=0, world_size=2)
    next(iter(sampler))
    sampler.set_world(0, 3)
    with pytest.raises(UsageError, match=r"state_dict\(taken=\.\.\.\) after the position"):
        sampler.state_dict(taken=1)


@pytest.mark.parametrize(("rank", "world_size"), [(2, 2), (-1, 2), (0, 0)])
def test_a_rank_that_cannot_be_is_refused(rank, world_size):
    with pytest.raises(UsageError, match=f"rank {rank} of {world_size} cannot be"):
        ElasticSampler(SIZE, rank=rank, world_size=world_size)


def test_rank_and_world_size_are_torchruns_unless_given(monkeypatch):
    for name, value in {"RANK": "1", "WORLD_SIZE": "3", "MASTER_ADDR": "here"}.items():
        monkeypatch.setenv(name, value)
    sampler = ElasticSampler(SIZE)
    assert (sampler.rank, sampler.world_size) == (1, 3)
    assert ElasticSampler(SIZE, rank=0, world_size=1).world_size == 1


def test_its_processes_end_with_it():
    before = set(psutil.Process().children())
    with ElasticLoader(Points(), 5, rank=0, world_size=1, num_workers=2) as loader:
        next(iter(loader))
        started = set(psutil.Process().children()) - before
        assert len(started) == 2
    assert not started & set(psutil.Process().children())


def test_batches_are_those_of_the_trainers_plan(a_loader):
    plan = DataPlan(SIZE, 5, seed=2, epoch_end="carry")
    loader = a_loader(seed=2, epoch_end="carry")
    seen = [flat([batch]) for _ in range(3) for batch in loader]
    assert seen == [plan.indices(plan.batch(step)).tolist() for step in range(len(seen))]
