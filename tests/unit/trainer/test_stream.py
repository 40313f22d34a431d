"""Iterable data sets: one stream that all ranks read, by steps, from any place on."""

import itertools

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eflib.errors import UsageError
from eflib.trainer.configuration import check_length
from eflib.trainer.data.position import CARRY, DROP, EPOCH_ENDS, SHORT, DataPlan
from eflib.trainer.data.stream import Source, StreamLoader
from tests.unit.trainer.builders import (
    Noisy,
    Points,
    Recorder,
    a_split,
    a_trainer,
    are_equal,
    blocks_of,
    weights,
)
from tests.unit.trainer.streams import (
    Iterators,
    Numbers,
    Seeking,
    Shuffled,
    Sized,
    Streamed,
)

KINDS = [Numbers, Seeking, Iterators, Shuffled]
LAWS = settings(derandomize=True, deadline=None, max_examples=60)


def as_read(samples):
    return list(samples)


@pytest.fixture
def a_feed():
    """Return a maker of feeds; all are closed when the test ends."""
    made = []

    def make(dataset, size=5, num_workers=0, world=(0, 1), max_size=None, split=None, **asked):
        source = Source(dataset, size, **asked)
        feed = StreamLoader(
            source, split or a_split(max_size), collate_fn=as_read, num_workers=num_workers
        )
        feed.restart(0, None, *world)
        made.append(feed)
        return feed

    yield make
    for feed in made:
        feed.close()


def take(feed, num_steps):
    """Return what a rank gets in some steps, one list a step; fewer at the end of the data."""
    steps = []
    for step in range(num_steps):
        if feed.begin(step).size == 0:
            break
        steps.append([sample for block in blocks_of(feed, step) for sample in feed.fetch(block)])
        feed.commit()
    return steps


def pairs_of(plan, num_steps):
    """Return the (epoch, place) pairs of a plan's steps, in the order of a stream."""
    steps = []
    for step in range(num_steps):
        block = plan.batch(step)
        places = range(block.start, block.stop)
        n = plan.num_samples
        steps.append([(block.epoch + place // n, place % n) for place in places])
    return [step for step in steps if step]


@LAWS
@given(st.integers(1, 30), st.integers(1, 12), st.sampled_from(EPOCH_ENDS), st.integers(1, 3))
def test_steps_of_a_stream_are_those_of_a_map_of_its_length(size, batch, end, max_epochs):
    if end == DROP and batch > size:
        return
    plan = DataPlan(size, batch, 0, end, max_epochs)
    feed = StreamLoader(
        Source(Numbers(size), batch, 0, end, max_epochs),
        a_split(),
        collate_fn=as_read,
        num_workers=0,
    )
    num_steps = plan.steps_in(max_epochs)
    for step, wanted in enumerate(pairs_of(plan, num_steps)):
        assert feed.begin(step) == plan.batch(step)
        assert feed.samples(feed.begin(step)) == wanted
        assert take(feed, 1) == [wanted]
    assert feed.begin(num_steps).size == 0


@LAWS
@given(
    st.sampled_from(KINDS),
    st.integers(1, 30),
    st.integers(1, 12),
    st.sampled_from([CARRY, SHORT]),
    st.integers(0, 9),
)
def test_from_any_step_on_a_newcomer_reads_what_the_others_read(kind, size, batch, end, begin):
    def feed(state=None):
        made = StreamLoader(
            Source(kind(size), batch, 3, end), a_split(), collate_fn=as_read, num_workers=0
        )
        if state is not None:
            made.load_state_dict(state)
        return made

    first = feed()
    take(first, begin)
    state = first.state_dict()
    assert take(feed(state), 6) == take(first, 6)


@pytest.mark.parametrize(("kind", "num_read"), [(Numbers, 20), (Seeking, 5), (Iterators, 5)])
def test_a_newcomer_seeks_where_the_data_set_can_and_skips_where_it_cannot(a_feed, kind, num_read):
    first = a_feed(kind())
    take(first, 3)
    late = kind()
    feed = a_feed(late)
    feed.load_state_dict(first.state_dict())
    assert take(feed, 1) == [[(0, place) for place in range(15, 20)]]
    assert late.num_read == num_read


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("kind", [Seeking, Shuffled])
def test_ranks_share_the_stream_over_any_worlds(a_feed, kind, num_workers):
    """1, 3, 2 ranks in turn: survivors stay, newcomers take their state."""
    whole = list(itertools.chain(*take(a_feed(kind()), 9)))
    feeds = [a_feed(kind(), num_workers=num_workers)]
    seen = []
    for world_size in (1, 3, 2):
        state = feeds[0].state_dict()
        feeds = feeds[:world_size]
        while len(feeds) < world_size:
            feeds.append(a_feed(kind(), num_workers=num_workers))
            feeds[-1].load_state_dict(state)
        for rank, feed in enumerate(feeds):
            feed.restart(0, None, rank, world_size)
        for _ in range(3):
            seen += [sample for feed in feeds for sample in take(feed, 1)[0]]
        assert all(feed.state_dict() == feeds[0].state_dict() for feed in feeds)
    assert seen == whole


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_step_that_failed_is_given_again_to_other_shares(a_feed, num_workers):
    feed = a_feed(Seeking(), num_workers=num_workers, world=(1, 2))
    take(feed, 1)
    before = feed.state_dict()
    assert feed.fetch(blocks_of(feed, 1)[0]) == [(0, 8), (0, 9)]
    assert feed.state_dict() == before
    feed.restart(1, None, 0, 1)
    assert take(feed, 2) == [[(0, p) for p in range(5, 10)], [(0, p) for p in range(10, 15)]]


def test_reading_ahead_counts_for_nothing_in_the_state(a_feed):
    feed = a_feed(Seeking(), num_workers=1)
    take(feed, 2)
    assert feed.state_dict() == {"epoch": 0, "place": 10, "dataset": {"at": 10}}


def test_its_process_ends_when_it_is_closed(a_feed):
    before = set(psutil.Process().children())
    feed = a_feed(Numbers(), num_workers=1)
    take(feed, 1)
    started = set(psutil.Process().children()) - before
    assert len(started) == 1
    feed.close()
    assert not started & set(psutil.Process().children())


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_block_that_is_cut_anew_in_mid_step_has_its_samples(a_feed, num_workers):
    feed = a_feed(Numbers(), size=4, num_workers=num_workers)
    feed.begin(0)
    feed.split = a_split(1)
    got = [feed.fetch(block) for block in blocks_of(feed, 0)]
    assert got == [[(0, place)] for place in range(4)]
    feed.commit()
    assert take(feed, 1) == [[(0, place) for place in range(4, 8)]]


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize(
    ("rank", "own", "padding"), [(0, [0, 1, 2], []), (1, [3, 4], [4]), (2, [], [0, 0, 0])]
)
def test_a_rank_with_fewer_passes_gets_its_last_one_again_or_the_first(
    a_feed, num_workers, rank, own, padding
):
    split = a_split(1, least=2, even=True, padded=True)
    feed = a_feed(Numbers(), num_workers=num_workers, world=(rank, 3), split=split)
    process = feed.begin(0) and feed._arriving
    for wanted, blocks in ((own, blocks_of(feed, 0)), (padding, feed.share(feed.begin(0)).padding)):
        first = [feed.fetch(block)[0] for block in blocks]
        assert first == [(0, place) for place in wanted]
    feed.commit()
    assert feed.begin(1).start == 5
    assert feed._arriving is process  # nothing was read in another way


def test_more_than_one_process_is_refused():
    with pytest.raises(
        UsageError, match="num_workers is 2; an iterable data set is read by 0 or 1"
    ):
        a_trainer(dataset=Streamed(), num_workers=2)


def test_an_empty_stream_is_refused_by_its_epoch(a_feed):
    with pytest.raises(UsageError, match="the data set gave no sample in epoch 0"):
        a_feed(Numbers(0)).begin(0)


def test_a_stream_that_can_be_read_once_only_is_refused_in_its_second_epoch(a_feed):
    class Once:
        def __init__(self):
            self.left = iter(range(7))

        def __iter__(self):
            return self.left

    feed = a_feed(Once())
    with pytest.raises(UsageError, match="the data set gave no sample in epoch 1") as caught:
        take(feed, 2)
    assert "start over" in caught.value.hint


def test_a_stream_that_has_become_shorter_is_refused(a_feed):
    feed = a_feed(Numbers(9))
    feed.load_state_dict({"epoch": 0, "place": 10, "dataset": None})
    with pytest.raises(UsageError, match="ended after 9 samples; 10 of it were used before"):
        feed.begin(0)


def test_drop_that_drops_all_is_refused(a_feed):
    with pytest.raises(UsageError, match="epoch_end='drop' drops all 3 samples"):
        a_feed(Numbers(3), epoch_end=DROP).begin(0)


# In the trainer -----------------------------------------------------------------------------------


def fitted(**asked):
    trainer = a_trainer(**asked)
    trainer.fit()
    return trainer


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("asked", [{}, {"max_epochs": 2}, {"max_epochs": 2, "epoch_end": "short"}])
def test_a_stream_of_the_same_samples_trains_to_the_same_bits_as_a_map(num_workers, asked):
    stream = fitted(dataset=Streamed(), num_workers=num_workers, **asked)
    mapped = fitted(**asked)
    assert are_equal(weights(stream), weights(mapped))
    assert (stream.epoch, stream.global_step) == (mapped.epoch, mapped.global_step)


def test_an_unknown_length_ends_with_the_last_sample_and_a_known_one_is_foretold():
    recorder = Recorder()
    trainer = fitted(dataset=Streamed(), max_epochs=2, callbacks=[recorder])
    assert (trainer.global_step, trainer.max_steps) == (11, 0)
    assert [len(samples) for samples in recorder.samples] == [4] * 11
    assert recorder.samples[5] == [(0, 20), (0, 21), (1, 0), (1, 1)]
    assert recorder.events[-1] == "end"
    assert a_trainer(dataset=Sized(), max_epochs=2).max_steps == 11


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_loop_over_epochs_has_the_epochs_of_a_map(num_workers):
    def seen(dataset):
        trainer = a_trainer(dataset=dataset, max_epochs=3, num_workers=num_workers)
        steps = []
        for epoch in trainer.epochs():
            for inputs, targets in trainer:
                steps.append((epoch, trainer.epoch, trainer.global_step))
                trainer.step(torch.nn.functional.mse_loss(trainer.model(inputs), targets))
        return steps

    assert seen(Streamed(size=12)) == seen(Points(size=12))
    assert seen(Streamed(size=10)) == seen(Points(size=10))


def test_a_length_that_was_wrongly_foretold_loses_no_sample():
    class Liar(Sized):
        def __len__(self):
            return 10

    assert fitted(dataset=Liar(), max_epochs=1, epoch_end="short").global_step == 6


def test_an_unknown_length_cannot_have_a_deadline():
    with pytest.raises(UsageError, match="the data set does not know its length"):
        check_length(0, elastic=True)
    check_length(0, elastic=False)


@pytest.mark.parametrize("points", [Points, Noisy])
def test_a_run_over_a_stream_goes_on_from_a_checkpoint_in_mid_epoch(tmp_path, points):
    recorder = Recorder()
    asked = {"max_steps": 20, "checkpoint_dir": tmp_path, "seed": 4}
    first = a_trainer(dataset=Streamed(points=points), **asked)
    for inputs, targets in first:
        first.step(torch.nn.functional.mse_loss(first.model(inputs), targets))
        if first.global_step == 7:
            first.save_checkpoint()
    resumed = fitted(dataset=Streamed(points=points), callbacks=[recorder], **asked)
    assert len(recorder.samples) == 13
    assert are_equal(weights(resumed), weights(first))


def test_to_ask_for_the_epoch_reads_nothing():
    class Counted(Streamed):
        num_read = 0

        def __iter__(self):
            for sample in super().__iter__():
                Counted.num_read += 1
                yield sample

    trainer = a_trainer(dataset=Counted(), max_steps=3)
    assert (trainer.epoch, trainer.samples_at_hand, Counted.num_read) == (0, [], 0)
    for inputs, targets in trainer:
        trainer.step(torch.nn.functional.mse_loss(trainer.model(inputs), targets))
        read = Counted.num_read
        assert trainer.epoch == 0
        assert Counted.num_read == read == 4 * trainer.global_step
