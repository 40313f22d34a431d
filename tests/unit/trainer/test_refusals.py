"""What a trainer refuses once it is made: calls in the wrong order, batches that are no pair."""

import pytest
import torch

from eflib.errors import UsageError
from tests.unit.trainer.builders import a_trainer

mse = torch.nn.functional.mse_loss


def test_a_loop_without_step_is_refused():
    with pytest.raises(UsageError, match=r"the loop's body ended without trainer\.step\(loss\)"):
        for _ in a_trainer():
            pass


def test_step_twice_for_one_batch_is_refused():
    trainer = a_trainer()
    inputs, targets = next(iter(trainer))
    trainer.step(mse(trainer.model(inputs), targets))
    with pytest.raises(UsageError, match=r"without a batch, or twice for one batch"):
        trainer.step(mse(trainer.model(inputs), targets))


def test_step_before_the_loop_is_refused():
    with pytest.raises(UsageError, match=r"trainer\.step\(loss\) without a batch"):
        a_trainer().step(torch.zeros((), requires_grad=True))


def test_fit_without_a_loss_function_is_refused():
    with pytest.raises(UsageError, match=r"fit\(\) needs loss_fn"):
        a_trainer(loss_fn=None).fit()


def test_fit_refuses_batches_that_are_no_pair():
    data = [torch.randn(3, dtype=torch.float64) for _ in range(10)]
    with pytest.raises(UsageError, match=r"fit\(\) needs batches of \(inputs, targets\)") as caught:
        a_trainer(dataset=data).fit()
    assert "for batch in trainer" in caught.value.hint


def test_register_after_training_began_is_refused():
    trainer = a_trainer(max_steps=1)
    trainer.fit()
    with pytest.raises(UsageError, match=r"register\('late'\) after training began"):
        trainer.register("late", trainer.optimizer)
