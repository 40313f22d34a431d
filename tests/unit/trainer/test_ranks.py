"""Two ranks over gloo: the mean over the global batch, and equal state on all of them."""

import pytest
import torch

from eflib.trainer.data.position import DataPlan
from eflib.trainer.elastic.transfer import RankState, choose_source
from eflib.trainer.state.digest import digest
from tests.unit.trainer import gloo_cases
from tests.unit.trainer.gloo_cases import TRAININGS, WORLD_SIZE
from tests.unit.trainer.ranks import run_ranks


def having(*steps):
    return [RankState(step is not None, step or 0) for step in steps]


@pytest.mark.parametrize(
    ("rank_states", "source"),
    [
        (having(None, None), 0),
        (having(None, 0, None), 1),
        (having(3, 4, 4), 1),
        (having(4, 3), 0),
        (having(None, 2, 9), 2),
        ([RankState(False, 99), RankState(True, 1)], 1),
    ],
)
def test_the_furthest_that_holds_a_state_is_the_source_and_the_first_of_equals(rank_states, source):
    assert choose_source(rank_states) == source


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Run all cases once; returns what each rank saw."""
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(gloo_cases.run_rank, WORLD_SIZE, folder)
    return [torch.load(folder / f"rank-{rank}.pt") for rank in range(WORLD_SIZE)]


def of_all(ranks, case):
    return [seen[case] for seen in ranks]


@pytest.mark.processes
@pytest.mark.parametrize("case", TRAININGS)
def test_ranks_take_the_step_of_one_process_that_has_the_whole_batch(ranks, case):
    alone = gloo_cases.train(case)
    loose = {"mixed dtypes": 2e-2, "sum and count": 1e-5, "sharded, sum and count": 1e-5}
    loose["sharded"] = 1e-6  # FSDP2 of torch 2.8 scales gradients in float32
    tolerance = loose.get(case, 1e-10)
    for rank, seen in enumerate(of_all(ranks, case)):
        assert seen["world"] == (rank, WORLD_SIZE)
        for one, other in zip(alone["weights"], seen["weights"], strict=True):
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
        assert seen["losses"] == pytest.approx(alone["losses"], rel=max(tolerance, 1e-5))


@pytest.mark.processes
@pytest.mark.parametrize("case", gloo_cases.SYNCED)
def test_synced_statistics_are_those_of_the_whole_batch_on_all_ranks(ranks, case):
    alone = gloo_cases.train(case)
    assert len(alone["buffers"]) == 6
    for seen in of_all(ranks, case):
        for one, other in zip(alone["buffers"], seen["buffers"], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    assert len({digest("", seen["buffers"]) for seen in of_all(ranks, case)}) == 1


@pytest.mark.processes
@pytest.mark.parametrize("case", gloo_cases.SHARDED)
def test_passes_that_count_for_nothing_leave_no_trace_in_buffers(ranks, case):
    seen = of_all(ranks, case)
    num_samples = sum(len(step) for one in seen for step in one["samples"])
    assert sum(int(one["buffers"][0]) for one in seen) == num_samples


@pytest.mark.processes
@pytest.mark.parametrize("case", TRAININGS)
def test_all_ranks_are_bit_equal_after_training(ranks, case):
    digests = {digest("", seen["weights"]) for seen in of_all(ranks, case)}
    assert len(digests) == 1
    assert len({tuple(seen["losses"]) for seen in of_all(ranks, case)}) == 1


@pytest.mark.processes
@pytest.mark.parametrize("case", TRAININGS)
def test_ranks_share_each_batch_without_overlap(ranks, case):
    settings = TRAININGS[case]
    end, epochs = settings.get("epoch_end", "carry"), settings.get("max_epochs")
    plan = DataPlan(23, settings["global_batch_size"], 0, end, epochs)
    steps = zip(*(seen["samples"] for seen in of_all(ranks, case)), strict=True)
    for step, shares in enumerate(steps):
        block = plan.batch(step)
        wanted = plan.samples(block)
        if case in gloo_cases.DATA:  # a stream's samples are known by their place in it
            places = range(block.start, block.stop)
            wanted = [(block.epoch + place // 23, place % 23) for place in places]
        assert [sample for share in shares for sample in share] == wanted


@pytest.mark.processes
def test_a_stop_on_one_rank_ends_all_after_the_same_step(ranks):
    assert of_all(ranks, "stop") == [4, 4]


@pytest.mark.processes
def test_a_sharded_model_is_evaluated_by_all_ranks_or_not_at_all(ranks):
    first, second = of_all(ranks, "evaluate sharded")
    alone = gloo_cases.evaluate_sharded(rank=0)
    assert first["both"] == second["both"] == pytest.approx(alone["both"], rel=1e-9)
    assert "evaluate() was called on rank 1 and not on [0]" in second["alone"]


@pytest.mark.processes
def test_streams_that_differ_between_ranks_are_refused_on_all(ranks):
    for text, own in zip(of_all(ranks, "streams that differ"), (2, 0), strict=True):
        assert f"the ranks hold 1 samples of a step that has {own}" in text
        assert "must give all ranks the same stream" in text


@pytest.mark.processes
@pytest.mark.parametrize(("case", "source"), [("catch up", 1), ("join", 0)])
def test_the_state_of_the_furthest_goes_to_who_lacks_it(ranks, case, source):
    seen = of_all(ranks, case)
    assert {one["digest"] for one in seen} == {seen[source]["before"]}
    assert [one["step"] for one in seen] == [2, 2]
    assert len({one["before"] for one in seen}) == 2
    assert len({one["sent"] for one in seen}) == 1
    weights = sum(one.numel() for one in gloo_cases.Odd(0).parameters()) * 4
    assert seen[0]["sent"] > 3 * weights  # the model and two moments of Adam


@pytest.mark.processes
def test_equal_rank_states_send_buffers_alone_and_end_alike(ranks):
    assert of_all(ranks, "nothing to send") == [0, 0]


@pytest.mark.processes
def test_models_that_differ_are_refused_on_all_ranks_by_the_first_tensor(ranks):
    for text in of_all(ranks, "another width"):
        assert "the model of rank 1 differs from rank 0's: 1.weight: (5, 2) float32 against" in text
        assert "1.weight: (4, 2) float32" in text
        assert "build the same model on every rank" in text


@pytest.mark.processes
def test_a_layer_more_on_one_rank_is_refused_on_all(ranks):
    for text in of_all(ranks, "another layer"):
        assert "the model of rank 1 differs from rank 0's: extra.weight: (1, 1) float32" in text


@pytest.mark.processes
def test_settings_that_differ_are_refused_with_both_values(ranks):
    for text in of_all(ranks, "other settings"):
        assert "rank 1 trains with seed=7, rank 0 with seed=3" in text


@pytest.mark.processes
def test_a_joiner_with_other_settings_is_refused_and_the_job_goes_on(ranks):
    member, joiner = of_all(ranks, "joiner with other settings")
    assert member == ""
    assert "rank 1 trains with max_steps=11, rank 0 with max_steps=10" in joiner


@pytest.mark.processes
def test_what_failed_on_one_rank_is_known_to_all(ranks):
    for problems in of_all(ranks, "problem on one rank"):
        assert problems == ["", "the switch drops packets"]


@pytest.mark.processes
def test_ranks_that_came_apart_are_named_on_all(ranks):
    for text in of_all(ranks, "came apart"):
        assert "ranks [1] hold another state than rank 0 at step 0" in text
        assert text.count("rank 0: ") == text.count("rank 1: ") == 1
