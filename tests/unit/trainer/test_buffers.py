"""Buffers go back to a step's start, however a forward pass changed them."""

import torch

from eflib.trainer.step.buffers import BufferKeeper


class Buffered(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(3)
        self.register_buffer("replaced", torch.zeros(2))
        self.register_buffer("constant", torch.tensor([float("-inf"), 1.0]))
        self.register_buffer("hidden", torch.zeros(2), persistent=False)
        self.register_buffer("grows", torch.zeros(1))
        self.again = torch.nn.Module()
        self.again.register_buffer("same", self.constant)

    def change(self):
        self.norm(torch.randn(4, 3))
        self.replaced = self.replaced + 1
        self.hidden.data.add_(1)
        self.grows = torch.cat([self.grows, torch.ones(1)])


def test_what_changed_is_returned_and_goes_back_in_the_same_tensors():
    model = Buffered()
    before = {name: one.clone() for name, one in model.named_buffers()}
    tensors = {name: id(one) for name, one in model.named_buffers()}
    keeper = BufferKeeper(model)
    keeper.keep()
    model.change()
    found = keeper.restore()
    assert {name: id(one) for name, one in model.named_buffers()} == tensors
    for name, one in model.named_buffers():
        assert torch.equal(one, before[name]), name
    assert sorted(one.tolist() for one in found.values() if one.shape == (2,)) == [[1, 1], [1, 1]]
    assert len(found) == 5  # three of BatchNorm, and two that hold ones; a cache is dropped
    assert keeper.restore() == {}


def test_what_is_kept_later_is_what_it_goes_back_to():
    model = torch.nn.BatchNorm1d(3)
    keeper = BufferKeeper(model)
    model(torch.randn(4, 3))
    keeper.keep()
    model(torch.randn(4, 3))
    keeper.restore()
    assert int(model.num_batches_tracked) == 1


def test_a_model_without_buffers_has_nothing_to_go_back_to():
    keeper = BufferKeeper(torch.nn.Linear(2, 2))
    keeper.keep()
    assert len(keeper) == 0
    assert keeper.restore() == {}
