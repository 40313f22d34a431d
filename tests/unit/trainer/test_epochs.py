"""``trainer.epochs()``: the loop over epochs that most scripts have."""

import pytest
import torch

from eflib.errors import UsageError
from tests.unit.trainer.builders import Points, Recorder, a_trainer, are_equal, weights

mse = torch.nn.functional.mse_loss


def run_epochs(trainer, *, steps_of_a_part=None):
    """Train through ``epochs()`` and return (epoch, step at its start, step at its end)."""
    seen = []
    for epoch in trainer.epochs():
        start = trainer.global_step
        for inputs, targets in trainer:
            trainer.step(mse(trainer.model(inputs), targets))
            if trainer.global_step == steps_of_a_part:
                break
        seen.append((epoch, start, trainer.global_step))
    return seen


@pytest.mark.parametrize(
    ("epoch_end", "borders"), [("drop", [0, 5, 10, 15]), ("short", [0, 6, 12, 18])]
)
def test_each_epoch_has_its_own_steps(epoch_end, borders):
    seen = run_epochs(a_trainer(max_epochs=3, epoch_end=epoch_end))

    assert seen == [(n, borders[n], borders[n + 1]) for n in range(3)]


def test_a_batch_over_a_border_belongs_to_the_epoch_of_its_first_sample():
    # 22 samples, 4 a step: step 5 has samples 20 to 24, step 11 begins epoch 2
    assert run_epochs(a_trainer(max_epochs=2)) == [(0, 0, 6), (1, 6, 11)]


def test_it_trains_the_same_bits_as_one_loop_and_ends_once():
    recorder = Recorder()
    epochs, one = a_trainer(max_epochs=3, callbacks=[recorder]), a_trainer(max_epochs=3)

    run_epochs(epochs)
    one.fit()

    assert are_equal(weights(epochs), weights(one))
    assert recorder.events.count("end") == 1


def test_an_epoch_that_the_script_leaves_early_goes_on_in_its_next_loop():
    assert run_epochs(a_trainer(max_epochs=1), steps_of_a_part=2) == [(0, 0, 2), (0, 2, 6)]


def test_stop_ends_the_epochs_too():
    trainer, seen = a_trainer(max_epochs=5), []
    for epoch in trainer.epochs():
        seen.append(epoch)
        for inputs, targets in trainer:
            trainer.step(mse(trainer.model(inputs), targets))
            if epoch == 1:
                trainer.stop()

    assert seen == [0, 1]


def test_a_run_that_comes_back_begins_with_the_epoch_of_its_checkpoint(tmp_path):
    first = a_trainer(max_epochs=3, epoch_end="drop", checkpoint_dir=tmp_path)
    for inputs, targets in first:
        first.step(mse(first.model(inputs), targets))
        if first.global_step == 7:
            first.save_checkpoint()
            break
    again = a_trainer(max_epochs=3, epoch_end="drop", checkpoint_dir=tmp_path)

    assert run_epochs(again) == [(1, 7, 10), (2, 10, 15)]


def test_steps_end_the_last_epoch_in_the_middle():
    assert run_epochs(a_trainer(dataset=Points(8), max_steps=5)) == [
        (0, 0, 2),
        (1, 2, 4),
        (2, 4, 5),
    ]


def test_a_script_that_leaves_its_loop_after_the_last_step_ends_training_all_the_same():
    recorder = Recorder()
    run_epochs(a_trainer(max_epochs=1, callbacks=[recorder]), steps_of_a_part=6)

    assert recorder.events[-2:] == ["step 6", "end"]


def test_a_loop_over_epochs_without_a_loop_over_batches_is_refused():
    with pytest.raises(UsageError, match="the loop over epochs took no batch in epoch 0") as caught:
        list(a_trainer(max_epochs=2).epochs())
    assert "for batch in trainer" in caught.value.hint
