"""BatchNorm over all ranks' samples: what does not take two ranks; see test_ranks for the rest."""

import pytest
import torch
import torch.distributed as dist

from eflib.errors import UsageError
from eflib.trainer.collectives import PeerLostError
from eflib.trainer.step.sync_batchnorm import convert
from tests.unit.trainer.builders import a_trainer


def a_model():
    torch.manual_seed(0)
    inner = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    return torch.nn.Sequential(inner, torch.nn.Flatten(), torch.nn.LazyBatchNorm1d())


class Sent:
    """A sum that was started; ``outcome`` is what its wait does."""

    def __init__(self, outcome):
        self.wait = outcome


def gone(*_, **__):
    def closed():
        raise RuntimeError("Connection closed by peer")

    return Sent(closed)


def two_ranks(monkeypatch, all_reduce):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", all_reduce)


def test_names_parameters_and_buffers_stay_so_that_a_state_dict_from_before_fits():
    model = a_model()
    model(torch.randn(5, 3, 4, 4))
    before, tensors = model.state_dict(), list(model.parameters())
    convert(model)
    assert list(model.state_dict()) == list(before)
    assert all(one is other for one, other in zip(model.parameters(), tensors, strict=True))
    model.load_state_dict(before)


@pytest.mark.parametrize("training", [True, False])
def test_alone_and_in_evaluation_it_is_the_layer_that_it_stands_for(training):
    model, own = a_model().train(training), a_model().train(training)
    x = torch.randn(5, 3, 4, 4)
    model(x), own(x)
    convert(model).open(everybody=True)
    torch.testing.assert_close(model(x), own(x), rtol=0, atol=0)
    for one, other in zip(model.buffers(), own.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_half_precision_in_means_half_precision_out_with_statistics_in_full(monkeypatch):
    layers = torch.nn.Sequential(torch.nn.BatchNorm1d(4))
    rank_sum = convert(layers)
    # The other rank has the same samples.
    two_ranks(monkeypatch, lambda numbers, *_, **__: Sent(lambda: numbers.mul_(2)))
    rank_sum.open(everybody=True)
    x = 1000 + torch.randn(64, 4)
    out = layers(x.bfloat16())
    assert out.dtype == torch.bfloat16
    own = torch.nn.BatchNorm1d(4)
    torch.testing.assert_close(out.float(), own(x.bfloat16().float()), rtol=0.02, atol=0.02)


def test_a_peer_that_is_gone_lets_the_pass_end_and_the_step_fail(monkeypatch):
    model = a_model()
    model(torch.randn(5, 3, 4, 4))
    rank_sum = convert(model)
    two_ranks(monkeypatch, gone)
    rank_sum.open(everybody=True)
    model(torch.randn(5, 3, 4, 4)).sum().backward()
    with pytest.raises(PeerLostError, match="closed by peer"):
        rank_sum.close(0.5)


@pytest.mark.parametrize(
    "other", [{"deterministic": True}, {"max_microbatch_size": "auto"}], ids=str
)
def test_what_would_let_ranks_make_different_passes_is_refused_with_it(other):
    with pytest.raises(UsageError, match="sync_batchnorm=True with"):
        a_trainer(sync_batchnorm=True, **other)
