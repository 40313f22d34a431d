"""Laws of the sampler: ranks share an epoch evenly and exactly, whatever happens in its middle."""

import json
from itertools import chain, islice

from hypothesis import given, settings
from hypothesis import strategies as st

from eflib import ElasticSampler
from eflib.trainer.data.position import CARRY, DROP, EPOCH_ENDS, SHORT, epoch_order

LAWS = settings(derandomize=True, deadline=None, max_examples=120)
WORLDS = st.lists(st.integers(1, 5), min_size=1, max_size=4)


def ranks_of(world_size, state=None, **asked):
    samplers = [
        ElasticSampler(rank=rank, world_size=world_size, **asked) for rank in range(world_size)
    ]
    for sampler in samplers:
        if state is not None:
            sampler.load_state_dict(state)
    return samplers


def one_state(samplers):
    """Return the state, which is the same on all ranks and goes through JSON."""
    states = [json.loads(json.dumps(sampler.state_dict())) for sampler in samplers]
    assert all(state == states[0] for state in states)
    return states[0]


@LAWS
@given(st.integers(1, 60), st.integers(1, 5), st.integers(0, 3))
def test_single_indices_are_split_evenly_and_cover_the_epoch(size, world_size, epoch):
    samplers = ranks_of(world_size, data=size, seed=epoch)
    for sampler in samplers:
        sampler.set_epoch(epoch)
    shares = [list(sampler) for sampler in samplers]
    assert sorted(index for share in shares for index in share) == list(range(size))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert max(map(len, shares)) == len(samplers[0])
    assert one_state(samplers)["epoch"] == epoch + 1


@LAWS
@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 5), st.sampled_from(EPOCH_ENDS))
def test_lists_are_the_global_batches_whatever_the_world_size(size, batch, world_size, end):
    batch = min(batch, size)
    asked = {"data": size, "global_batch_size": batch, "epoch_end": end}
    alone = ElasticSampler(rank=0, world_size=1, **asked)
    samplers = ranks_of(world_size, **asked)
    for _ in range(3):
        whole = list(alone)
        shared = list(zip(*samplers, strict=True))  # as many lists on each rank
        assert [list(chain(*parts)) for parts in shared] == whole
        for parts in shared:
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
        assert one_state(samplers) == alone.state_dict()


@LAWS
@given(
    st.integers(1, 60),
    st.integers(1, 20),
    WORLDS,
    st.lists(st.integers(0, 5), min_size=4, max_size=4),
    st.sampled_from([CARRY, SHORT]),
)
def test_an_epoch_is_covered_once_over_restarts_in_other_worlds(size, batch, worlds, taken, end):
    """Each world takes a few batches; the next one begins anew from its state."""
    asked = {"data": size, "global_batch_size": batch, "epoch_end": end, "seed": 7}
    state, seen = None, []
    for place, world_size in enumerate([*worlds, 1]):
        samplers = ranks_of(world_size, state, **asked)
        drawn = [iter(sampler) for sampler in samplers]
        left = taken[place] if place < len(worlds) else None
        while left is None or left > 0:
            parts = [next(each, None) for each in drawn]
            if parts[0] is None:
                break
            seen += [index for part in parts for index in part]
            left = left if left is None else left - 1
        state = one_state(samplers)
        if state["epoch"] == 1 and state["samples"] == 0:
            break
    order = epoch_order(7, 0, size).tolist()
    assert seen[:size] == order[: len(seen)]
    assert len(seen) >= size or state["epoch"] == 0


@LAWS
@given(st.integers(1, 60), WORLDS, st.lists(st.integers(0, 9), min_size=4, max_size=4))
def test_single_indices_cover_an_epoch_while_the_world_changes_under_way(size, worlds, turns):
    """Each world takes a few turns; the next one goes on from its state."""
    order = epoch_order(0, 0, size).tolist()
    state, seen = None, []
    for world_size, count in zip(worlds, turns, strict=False):
        samplers = ranks_of(world_size, state, data=size)
        drawn = [iter(sampler) for sampler in samplers]
        for _ in range(min(count, (size - len(seen)) // world_size)):
            seen += [next(each) for each in drawn]
        state = one_state(samplers)
        assert seen == order[: len(seen)]
    for rest in ranks_of(1, state, data=size):
        seen += list(rest) if len(seen) < size else []
    assert seen == order


@LAWS
@given(
    st.integers(1, 40), st.integers(1, 9), st.integers(1, 4), st.integers(0, 9), st.integers(0, 9)
)
def test_the_state_after_so_many_taken_does_not_count_what_was_drawn_ahead(
    size, batch, world_size, taken, ahead
):
    asked = {"data": size, "global_batch_size": batch, "rank": 0, "world_size": world_size}
    sampler = ElasticSampler(**asked)
    drawn = list(islice(sampler, taken + ahead))
    taken = min(taken, len(drawn))
    later = ElasticSampler(**asked)
    later.load_state_dict(sampler.state_dict(taken=taken))
    rest = drawn[taken:]
    assert list(islice(later, len(rest))) == rest


@LAWS
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 4))
def test_drop_gives_whole_batches_alone(size, batch, world_size):
    batch = min(batch, size)
    samplers = ranks_of(world_size, data=size, global_batch_size=batch, epoch_end=DROP)
    shared = list(zip(*samplers, strict=True))
    assert [sum(map(len, parts)) for parts in shared] == [batch] * (size // batch)
