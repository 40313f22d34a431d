"""Laws of the data position: any sequence of world sizes, each sample once an epoch."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eflib.errors import UsageError
from eflib.trainer.data.position import (
    CARRY,
    DROP,
    EPOCH_ENDS,
    SHORT,
    DataPlan,
    epoch_order,
    rank_blocks,
    share,
)

LAWS = settings(derandomize=True, deadline=None, max_examples=150)
MOST = st.one_of(st.none(), st.integers(1, 9))  # samples of a forward pass
LEAST = st.integers(1, 2)  # samples of a rank that has any
WORLDS = st.lists(st.integers(1, 7), min_size=1, max_size=6)


@st.composite
def plans(draw, ends=EPOCH_ENDS):
    end = draw(st.sampled_from(ends))
    num_samples = draw(st.integers(1, 60))
    largest = num_samples if end == DROP else 80
    batch = draw(st.integers(1, largest))
    return DataPlan(num_samples, batch, draw(st.integers(0, 2**40)), end)


def samples_of(plan, step, world_size, max_size=None, least=1):
    """Return the (epoch, index) pairs of a step as all ranks of a world see them, in rank order."""
    return [
        sample
        for rank in range(world_size)
        for block in rank_blocks(plan.batch(step), rank, world_size, max_size, least)
        for sample in plan.samples(block)
    ]


@LAWS
@given(plans(ends=(CARRY, SHORT)), WORLDS, MOST, LEAST)
def test_each_epoch_sees_every_sample_once_over_any_world_sizes(plan, worlds, max_size, least):
    seen = [
        sample
        for step in range(plan.steps_in(2))
        for sample in samples_of(plan, step, worlds[step % len(worlds)], max_size, least)
    ]
    for epoch in (0, 1):
        of_epoch = [index for held, index in seen if held == epoch]
        assert sorted(of_epoch) == list(range(plan.num_samples))


@LAWS
@given(plans(ends=(DROP,)), WORLDS)
def test_with_drop_an_epoch_sees_its_first_samples_once_and_the_rest_never(plan, worlds):
    seen = [
        sample
        for step in range(plan.steps_in(2))
        for sample in samples_of(plan, step, worlds[step % len(worlds)])
    ]
    kept = plan.num_samples - plan.num_samples % plan.global_batch_size
    for epoch in (0, 1):
        order = epoch_order(plan.seed, epoch, plan.num_samples)
        assert [index for held, index in seen if held == epoch] == order[:kept].tolist()


@LAWS
@given(plans(ends=(CARRY, DROP)), st.integers(0, 500))
def test_each_step_has_exactly_the_global_batch_size_with_carry_and_drop(plan, step):
    assert plan.batch_size(step) == plan.global_batch_size
    assert len(samples_of(plan, step, 1)) == plan.global_batch_size


@LAWS
@given(plans(), st.integers(0, 200), st.integers(1, 9), st.integers(1, 9))
def test_a_step_has_the_same_samples_in_the_same_order_at_any_world_size(plan, step, one, other):
    assert samples_of(plan, step, one) == samples_of(plan, step, other)


@LAWS
@given(st.integers(0, 300), st.integers(1, 40), LEAST)
def test_shares_are_contiguous_cover_the_batch_and_differ_by_at_most_one(size, world_size, least):
    shares = [share(size, rank, world_size, least) for rank in range(world_size)]
    assert shares[0][0] == 0
    assert shares[-1][1] == size
    assert all(left[1] == right[0] for left, right in itertools.pairwise(shares))
    sizes = [stop - start for start, stop in shares]
    held = [one for one in sizes if one]
    assert sizes == held + [0] * (world_size - len(held))
    assert not held or max(held) - min(held) <= 1
    if size >= least * world_size:
        assert len(held) == world_size


@LAWS
@given(plans(), st.integers(0, 200), st.integers(1, 9), st.one_of(st.none(), st.integers(3, 9)))
def test_no_forward_pass_has_one_sample_unless_the_whole_step_has(plan, step, world, max_size):
    """BatchNorm cannot train on one sample, so a model with one asks for 2 at least."""
    batch = plan.batch(step)
    ranks = [rank_blocks(batch, rank, world, max_size, least=2) for rank in range(world)]
    sizes = [block.size for blocks in ranks for block in blocks]
    assert sum(sizes) == batch.size
    assert 1 not in sizes or batch.size == 1


@LAWS
@given(plans(), st.integers(0, 200), st.integers(1, 9), MOST)
def test_asking_for_two_samples_a_rank_changes_no_step(plan, step, world_size, max_size):
    asked = samples_of(plan, step, world_size, max_size, least=2)
    assert asked == samples_of(plan, step, 1)


@LAWS
@given(plans(), st.integers(0, 200), st.integers(1, 9), st.integers(1, 9))
def test_blocks_of_a_rank_are_its_share_and_under_the_bound(plan, step, world_size, max_size):
    for rank in range(world_size):
        start, stop = share(plan.batch_size(step), rank, world_size)
        blocks = rank_blocks(plan.batch(step), rank, world_size, max_size)
        assert sum(block.size for block in blocks) == stop - start
        for block in blocks:
            assert 1 <= block.size <= max_size
            assert plan.indices(block).tolist() == [index for _, index in plan.samples(block)]


def test_a_block_over_the_bound_is_cut_into_even_parts():
    plan = DataPlan(num_samples=100, global_batch_size=10)
    sizes = [block.size for block in rank_blocks(plan.batch(0), 0, 1, 4)]
    assert sizes == [4, 3, 3]


def test_the_order_depends_on_seed_and_epoch_alone():
    order = epoch_order(5, 2, 1003)
    epoch_order.cache_clear()
    assert np.array_equal(order, epoch_order(5, 2, 1003))
    assert not np.array_equal(order, epoch_order(5, 3, 1003))
    assert not np.array_equal(order, epoch_order(6, 2, 1003))
    one, other = (DataPlan(1003, size, 5) for size in (64, 7))
    assert one.indices(one.batch(0)).tolist() == order_of(5)[:64]
    assert other.indices(other.batch(0)).tolist() == order_of(5)[:7]


def order_of(seed):
    return epoch_order(seed, 0, 1003).tolist()


def test_the_order_is_this_one_for_good():
    """A run that goes on from a checkpoint of an older eflib must see the rest of its epoch."""
    assert epoch_order(0, 0, 8).tolist() == [2, 4, 3, 6, 5, 0, 1, 7]
    assert epoch_order(7, 1, 8).tolist() == [6, 3, 1, 0, 2, 4, 7, 5]


def test_ranks_beyond_the_batch_have_no_sample():
    plan = DataPlan(num_samples=10, global_batch_size=2)
    sizes = [sum(b.size for b in rank_blocks(plan.batch(0), rank, 4)) for rank in range(4)]
    assert sizes == [1, 1, 0, 0]


@LAWS
@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 4), st.sampled_from(EPOCH_ENDS))
def test_max_epochs_ends_after_exactly_so_many_epochs(num_samples, batch, num_epochs, end):
    if end == DROP and batch > num_samples:
        return
    plan = DataPlan(num_samples, batch, 0, end, max_epochs=num_epochs)
    steps = plan.steps_in(num_epochs)
    seen = [sample for step in range(steps) for sample in samples_of(plan, step, 1)]
    per_epoch = num_samples - (num_samples % batch if end == DROP else 0)
    assert len(seen) == len(set(seen)) == num_epochs * per_epoch
    assert {epoch for epoch, _ in seen} == set(range(num_epochs))
    assert all(plan.batch_size(step) > 0 for step in range(steps))
    if end == CARRY:
        assert plan.batch(steps).size == 0


def test_a_block_goes_on_into_as_many_epochs_as_it_takes():
    plan = DataPlan(num_samples=3, global_batch_size=8, seed=4)
    orders = [[(epoch, int(i)) for i in epoch_order(4, epoch, 3)] for epoch in range(6)]
    flat = [sample for order in orders for sample in order]
    assert plan.samples(plan.batch(0)) == flat[:8]
    assert plan.samples(plan.batch(1)) == flat[8:16]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"num_samples": 0}, "the data set is empty"),
        ({"global_batch_size": 0}, "global_batch_size is 0; at least 1 is needed"),
        ({"epoch_end": "stop"}, "epoch_end is 'stop'"),
        ({"epoch_end": DROP, "global_batch_size": 11}, "drops all 10 samples"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_by_its_value(fields, problem):
    with pytest.raises(UsageError, match=problem):
        DataPlan(**{"num_samples": 10, "global_batch_size": 4, **fields})


@LAWS
@given(plans(), st.integers(0, 60), st.integers(0, 60))
def test_a_plan_that_begins_at_a_step_of_another_goes_on_as_that_one(plan, begin, step):
    first = plan.batch(begin)
    later = replace(plan, origin=(first.epoch, first.start))
    assert later.batch(step) == plan.batch(begin + step)


@LAWS
@given(plans(), st.integers(0, 3), st.floats(0, 1, exclude_max=True), st.integers(1, 80))
def test_from_any_place_on_all_that_is_left_of_the_epoch_comes_once(plan, epoch, share_of, batch):
    """The batch size may change at any place, as when a run goes on with another one."""
    place = int(share_of * plan.num_samples)
    batch = min(batch, plan.num_samples) if plan.epoch_end == DROP else batch
    later = replace(plan, global_batch_size=batch, origin=(epoch, place))
    order = [(epoch, int(i)) for i in epoch_order(plan.seed, epoch, plan.num_samples)[place:]]
    seen, step = [], 0
    while (block := later.batch(step)).epoch == epoch:
        seen += later.samples(block)
        step += 1
    if plan.epoch_end == DROP:
        assert seen == order[: len(order) - len(order) % batch]
    else:
        assert seen[: len(order)] == order
        assert all(held > epoch for held, _ in seen[len(order) :])
