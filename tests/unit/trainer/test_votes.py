"""What ranks tell each other in a step, and the losses that it is made of."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eflib.errors import UsageError
from eflib.trainer.step.votes import Votes, num_votes
from tests.unit.trainer.builders import a_trainer

WHOLE = st.integers(0, 2**20).map(float)
NAMES = ["loss", "count", "samples", "generation", "leave", "end", "save"]


@given(st.fixed_dictionaries(dict.fromkeys(NAMES, WHOLE)), st.lists(WHOLE, max_size=5))
def test_votes_come_back_as_they_were_packed(named, halvings):
    votes = Votes(**named, halvings=tuple(halvings))
    numbers = votes.pack(num_votes(len(halvings)))
    assert len(numbers) == num_votes(len(halvings))
    assert Votes.unpack(numbers) == votes


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(NAMES, WHOLE)), min_size=1, max_size=4))
def test_the_sum_of_the_numbers_is_the_sum_of_each_vote(ranks):
    rows = [Votes(**one).pack(num_votes()) for one in ranks]
    total = Votes.unpack([sum(column) for column in zip(*rows, strict=True)])
    for name in NAMES:
        assert getattr(total, name) == sum(one[name] for one in ranks)


def test_votes_without_halvings_fill_the_places_of_those_that_have_them():
    assert Votes(loss=2.0).pack(num_votes(3)) == [2.0, 0, 0, 0, 0, 0, 0, 0, 0, 0]


def test_the_loss_of_a_step_is_per_count_where_there_are_counts():
    assert Votes(loss=6.0).mean_loss == 6.0
    assert Votes(loss=6.0, count=4.0).mean_loss == 1.5


# Losses that a script gives ----------------------------------------------------------------------


def mean(outputs, targets):
    return torch.nn.functional.mse_loss(outputs, targets)


BAD_LOSSES = {
    "a float": (torch.Tensor.item, "the loss is a float, not a tensor"),
    "a detached tensor": (torch.Tensor.detach, "the loss depends on no parameter that is trained"),
    "None": (lambda loss: None, "the loss is a NoneType, not a tensor"),
    "a dict": (lambda loss: {"loss": loss}, "the loss is a dict, not a tensor"),
    "a triple": (lambda loss: (loss, 1, 2), "the loss is a tuple, not a tensor"),
    "one value a sample": (lambda loss: loss.expand(4), r"the loss has the shape \(4,\)"),
    "a float with a count": (lambda loss: (1.0, 4), "the loss is a float, not a tensor"),
    "a count of 0 in a whole step": (lambda loss: (loss, 0), "add up to 0"),
    "a negative count": (lambda loss: (loss, -1), "the count of a loss is -1; a number"),
    "a count that is not a number": (lambda loss: (loss, math.nan), "the count of a loss is nan"),
    "an infinite count": (lambda loss: (loss, math.inf), "the count of a loss is inf"),
    "a count as a text": (lambda loss: (loss, "4"), "the count of a loss is '4', not a number"),
    "a true count": (lambda loss: (loss, True), "the count of a loss is True, not a number"),
    "no count": (lambda loss: (loss, None), "the count of a loss is None, not a number"),
    "a tensor of counts": (
        lambda loss: (loss, torch.ones(4)),
        r"the count of a loss has the shape \(4,\)",
    ),
    "a negative tensor as count": (
        lambda loss: (loss, torch.tensor(-2.0)),
        "the count of a loss is -2.0",
    ),
}


@pytest.mark.parametrize("name", BAD_LOSSES)
def test_a_loss_that_cannot_be_used_is_named_and_nothing_is_trained(name):
    change, problem = BAD_LOSSES[name]
    trainer = a_trainer(loss_fn=lambda outputs, targets: change(mean(outputs, targets)))
    before = [one.detach().clone() for one in trainer.model.parameters()]
    with pytest.raises(UsageError, match=problem) as caught:
        trainer.fit()
    assert caught.value.hint
    assert trainer.global_step == 0
    assert all(map(torch.equal, before, trainer.model.parameters()))


def test_a_count_of_0_in_one_micro_batch_is_a_micro_batch_that_counts_for_nothing():
    def masked(outputs, targets):
        weight = (targets > 0).double()
        return (weight * (outputs - targets).square()).sum(), weight.sum()

    trainer = a_trainer(loss_fn=masked, max_microbatch_size=1, max_steps=3)
    trainer.fit()
    assert math.isfinite(trainer.loss)


def test_losses_with_and_without_a_count_in_one_step_are_refused():
    turns = iter(range(100))

    def mixed(outputs, targets):
        loss = mean(outputs, targets)
        return loss if next(turns) % 2 else (loss, 1)

    with pytest.raises(UsageError, match="some losses of a step come with a count and others do"):
        a_trainer(loss_fn=mixed, max_microbatch_size=2).fit()
