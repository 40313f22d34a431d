"""The size of a forward pass is halved until it fits, and nothing of the step is lost."""

from contextlib import suppress

import pytest
import torch

from eflib.errors import UsageError, WorkerFailedError
from eflib.trainer.data.microbatch import MicrobatchSize, is_out_of_memory
from tests.unit.trainer.builders import Points, Recorder, a_trainer, are_equal, weights

mse = torch.nn.functional.mse_loss
TOO_MUCH = 2**52  # bytes


class Hungry(torch.nn.Module):
    """Asks for more memory than any machine has when it is given more than ``most`` samples."""

    def __init__(self, most, *, where="forward"):
        super().__init__()
        torch.manual_seed(0)
        self.norm = torch.nn.BatchNorm1d(3).double()
        self.layer = torch.nn.Linear(3, 1).double()
        self.most, self.where = most, where
        self.sizes = []

    def forward(self, x):
        y = self.layer(self.norm(x))
        if len(x) > self.most and self.where == "forward":
            torch.empty(TOO_MUCH)
        if len(x) > self.most and self.where == "backward":
            y.register_hook(lambda _: torch.empty(TOO_MUCH))
        self.sizes.append(len(x))
        return y


def hungry(most=6, where="forward", **settings):
    model = Hungry(most, where=where)
    recorder = Recorder()
    settings = {"global_batch_size": 20, "max_steps": 4, "callbacks": [recorder], **settings}
    trainer = a_trainer(model, dataset=Points(50), max_microbatch_size="auto", **settings)
    return trainer, model, recorder


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_memory_that_runs_out_is_the_step_of_the_size_that_fits(where, num_workers, capfd):
    trainer, model, recorder = hungry(where=where, num_workers=num_workers)
    trainer.fit()
    fitting = Hungry(99)
    other = Recorder()
    known = a_trainer(
        fitting,
        dataset=Points(50),
        global_batch_size=20,
        max_steps=4,
        max_microbatch_size=5,
        callbacks=[other],
    )
    known.fit()
    assert are_equal(weights(trainer), weights(known))
    assert recorder.losses == other.losses
    assert recorder.samples == other.samples
    for one, buffer in zip(model.buffers(), fitting.buffers(), strict=True):
        assert torch.equal(one, buffer)
    assert set(model.sizes[-16:]) == {5}
    assert "20 samples do not fit in memory; again with at most 10" in capfd.readouterr().err


def test_a_loop_of_ones_own_halves_by_hand():
    trainer, model, _ = hungry()
    by_hand, _, _ = hungry()
    trainer.fit()
    for inputs, targets in by_hand:
        loss = None
        with suppress(RuntimeError):
            loss = mse(by_hand.model(inputs), targets)
        if loss is None:
            by_hand.halve_microbatch()
        else:
            by_hand.step(loss)
    assert are_equal(weights(trainer), weights(by_hand))
    assert model.sizes


def test_what_was_found_is_kept_over_a_checkpoint(tmp_path):
    first, _, _ = hungry(checkpoint_dir=tmp_path, max_steps=2)
    first.fit()
    first.save_checkpoint()
    second, model, _ = hungry(most=99, checkpoint_dir=tmp_path)
    second.fit()
    assert second.global_step == 4
    assert model.sizes == [5] * 8


def test_a_run_may_go_on_with_another_setting(tmp_path):
    first, _, _ = hungry(checkpoint_dir=tmp_path, max_steps=2)
    first.fit()
    first.save_checkpoint()
    model = Hungry(99)
    second = a_trainer(
        model, dataset=Points(50), global_batch_size=20, max_steps=4, checkpoint_dir=tmp_path
    )
    second.fit()
    assert model.sizes == [20, 20]


def test_what_does_not_fit_at_all_is_an_error_that_says_so():
    trainer, _, _ = hungry(most=0)
    with pytest.raises(WorkerFailedError, match="out of memory in a pass of 3 samples") as caught:
        trainer.fit()
    assert "activation checkpointing" in caught.value.hint
    assert "can't allocate memory" in caught.value.detail


def test_other_errors_and_fixed_sizes_are_left_alone():
    trainer = a_trainer(Hungry(2), dataset=Points(50), max_microbatch_size=4)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        trainer.fit()
    trainer, model, _ = hungry(most=99)
    model.layer = torch.nn.Linear(4, 1).double()
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        trainer.fit()


def test_halving_outside_a_batch_is_refused():
    with pytest.raises(UsageError, match=r"halve_microbatch\(\) without a batch"):
        hungry()[0].halve_microbatch()


def test_a_gpu_out_of_memory_is_known():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_ranks_agree_on_the_smallest_and_compare_only_what_they_agreed_on():
    ranks = [MicrobatchSize("auto", 20, 1) for _ in range(2)]
    ranks[1].halve(10, "")
    ranks[1].halve(5, "")
    assert [one.limit for one in ranks] == [20, 3]
    assert ranks[0].state_dict() == ranks[1].state_dict()
    totals = [sum(pair) for pair in zip(*(one.votes() for one in ranks), strict=True)]
    for one in ranks:
        one.agree(totals)
    assert [one.limit for one in ranks] == [3, 3]
    joiner = MicrobatchSize("auto", 20, 1)
    joiner.load_state_dict(ranks[0].state_dict())
    assert joiner.limit == 3


def test_the_smallest_pass_is_of_one_sample():
    size = MicrobatchSize("auto", 20, 1)
    for held in (20, 10, 5, 3, 2):
        size.halve(held, "")
    assert size.limit == 1
    with pytest.raises(WorkerFailedError, match="a pass of 1 sample, and fewer cannot be tried"):
        size.halve(1, "no memory")
