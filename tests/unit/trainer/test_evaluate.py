"""Evaluation of a model while it trains."""

import pytest
import torch

from tests.unit.trainer.builders import Points, a_trainer, are_equal, weights

mse = torch.nn.functional.mse_loss


def test_evaluate_gives_the_mean_over_the_whole_data_set():
    trainer, points = a_trainer(), Points()
    trainer.model.eval()
    whole = float(mse(trainer.model(points.x), points.y).detach())
    assert trainer.evaluate(points, mse, batch_size=5) == pytest.approx(whole)


def test_evaluate_leaves_each_module_in_its_own_mode():
    trainer = a_trainer()
    trainer.model[2].eval()  # as scripts freeze a normalisation
    trainer.evaluate(Points(), mse)
    assert trainer.model.training
    assert trainer.model[0].training
    assert not trainer.model[2].training


def test_evaluate_in_the_loop_changes_nothing_of_training():
    plain, trainer = a_trainer(), a_trainer()
    plain.fit()
    for inputs, targets in trainer:
        loss = mse(trainer.model(inputs), targets)
        trainer.evaluate(Points(), mse)
        trainer.step(loss)
    assert are_equal(weights(plain), weights(trainer))
