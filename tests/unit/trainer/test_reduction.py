"""Gradients are sent in buckets while the backward pass goes on, in one order on all ranks."""

import pytest
import torch
import torch.distributed as dist

from eflib.trainer.collectives import PeerLostError
from eflib.trainer.step import reduction
from eflib.trainer.step.reduction import GradientReducer


class Line:
    """Stands for the group: a world of two whose other rank sends the same."""

    def __init__(self, breaks_at=99):
        self.sent, self.breaks_at, self.refusal = [], breaks_at, None

    def all_reduce(self, flat, operation=None, *, async_op):
        del operation
        assert async_op
        if len(self.sent) == self.breaks_at and self.refusal is not None:
            raise self.refusal
        self.sent.append(flat)
        return self.Work(flat, breaks=len(self.sent) > self.breaks_at)

    class Work:
        def __init__(self, flat, *, breaks):
            self.flat, self.breaks = flat, breaks

        def wait(self):
            if self.breaks:
                raise RuntimeError("the peer has closed the connection")
            self.flat.mul_(2)


@pytest.fixture
def line(monkeypatch):
    found = Line()
    monkeypatch.setattr(dist, "all_reduce", found.all_reduce)
    for name in ("BUCKET_BYTES", "FIRST_BUCKET_BYTES"):
        monkeypatch.setattr(reduction, name, 16)
    return found


def three_layers():
    torch.manual_seed(0)
    return torch.nn.Sequential(*(torch.nn.Linear(2, 2, bias=False) for _ in range(3)))


def loss_of(model):
    return model(torch.ones(1, 2)).sum()


def expected(model, factor):
    wanted = torch.autograd.grad(loss_of(model), list(model.parameters()))
    return [factor * one for one in wanted]


def gradients(model):
    return [one.grad.clone() for one in model.parameters()]


def assert_close(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_buckets_are_on_their_way_before_the_backward_pass_ends(line):
    model = three_layers()
    reducer = GradientReducer(model.parameters(), num_control=2)
    before = []
    first = model[0].weight
    first.register_hook(lambda _: before.append(len(line.sent)))

    reducer.begin()
    loss = loss_of(model)
    reducer.arm(world_size=2)
    loss.backward()

    assert before == [2]
    assert len(line.sent) == 2
    assert reducer.reduce([1.0, 0.5], world_size=2) == [2.0, 1.0]
    assert len(line.sent) == 3
    assert_close(gradients(model), expected(model, 2))


def test_an_unused_layer_holds_back_what_is_behind_it_in_the_order(line):
    model = three_layers()
    unused = torch.nn.Linear(2, 2, bias=False)
    parameters = [*model[:2].parameters(), *unused.parameters(), *model[2:].parameters()]
    reducer = GradientReducer(parameters, num_control=1)

    reducer.begin()
    reducer.arm(world_size=2)
    loss_of(model).backward()

    assert len(line.sent) == 1
    reducer.reduce([0.0], world_size=2)
    assert [flat.numel() for flat in line.sent] == [4, 4, 4, 7]
    assert torch.equal(unused.weight.grad, torch.zeros(2, 2))
    assert_close(gradients(model), expected(model, 2))


def test_a_step_that_broke_off_begins_again_without_sending_anything_twice(line):
    model = three_layers()
    reducer = GradientReducer(model.parameters(), num_control=1)

    def out_of_memory(_):
        raise RuntimeError("out of memory")

    reducer.begin()
    fault = model[0].weight.register_hook(out_of_memory)
    reducer.arm(world_size=2)
    with pytest.raises(RuntimeError, match="out of memory"):
        loss_of(model).backward()
    fault.remove()
    assert len(line.sent) == 2

    reducer.begin()
    (loss_of(model) / 2).backward()  # now in two parts
    reducer.stash()
    reducer.restore()
    reducer.arm(world_size=2)
    (loss_of(model) / 2).backward()
    reducer.reduce([0.0], world_size=2)

    assert len(line.sent) == 3
    assert_close(gradients(model), expected(model, 2))


@pytest.mark.parametrize("refusal", [None, dist.DistBackendError("closed the connection")])
def test_a_peer_that_is_gone_in_the_backward_pass_is_reported_after_it(line, refusal):
    line.breaks_at, line.refusal = 1, refusal
    model = three_layers()
    reducer = GradientReducer(model.parameters(), num_control=1)

    reducer.begin()
    reducer.arm(world_size=2)
    loss_of(model).backward()
    with pytest.raises(PeerLostError, match="closed the connection"):
        reducer.reduce([0.0], world_size=2)

    line.breaks_at, line.sent = 99, []
    reducer.begin()
    reducer.arm(world_size=2)
    loss_of(model).backward()
    reducer.reduce([0.0], world_size=2)
    assert len(line.sent) == 3
    assert_close(gradients(model), expected(model, 2))


def test_gradients_put_elsewhere_and_earlier_micro_batches_are_all_summed(line):
    model = three_layers()
    reducer = GradientReducer(model.parameters(), num_control=1)

    reducer.begin()
    loss_of(model).backward()
    reducer.stash()
    model.zero_grad()
    reducer.restore()
    model[1].weight.grad = model[1].weight.grad.clone()
    reducer.arm(world_size=2)
    loss_of(model).backward()
    reducer.reduce([0.0], world_size=2)

    assert_close(gradients(model), expected(model, 4))


def test_one_rank_alone_sends_nothing_and_has_zeros_for_what_was_not_used(line):
    model, unused = three_layers(), torch.nn.Parameter(torch.ones(2))
    reducer = GradientReducer([*model.parameters(), unused], num_control=2)

    reducer.begin()
    reducer.arm(world_size=1)
    loss_of(model).backward()

    assert reducer.reduce([3.0, torch.tensor(4.0)], world_size=1) == [3.0, 4.0]
    assert line.sent == []
    assert torch.equal(unused.grad, torch.zeros(2))
    assert_close(gradients(model), expected(model, 1))


def test_control_numbers_ride_beside_parameters_that_cannot_carry_them(line):
    half = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    reducer = GradientReducer([half], num_control=2)

    reducer.begin()
    assert reducer.reduce([70001.0, torch.tensor(0.5)], world_size=2) == [140002.0, 1.0]


def test_what_torch_refuses_to_send_is_an_error_of_the_pass_and_no_lost_peer(line):
    line.breaks_at, line.refusal = 0, RuntimeError("copy_() between dense and sparse")
    model = three_layers()
    reducer = GradientReducer(model.parameters(), num_control=1)

    reducer.begin()
    reducer.arm(world_size=2)
    with pytest.raises(RuntimeError, match="between dense and sparse"):
        loss_of(model).backward()
