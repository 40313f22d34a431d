"""Clipping: the norm of a sharded model is summed over ranks, and a peer may be lost in that."""

import pytest
import torch

from eflib.trainer.collectives import PeerLostError
from eflib.trainer.step.update import Update

IN_TORCH = {"__name__": "torch.distributed.tensor.a_module"}


@pytest.fixture
def update():
    model = torch.nn.Linear(2, 1)
    model(torch.ones(1, 2)).backward()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return Update(model, optimizer, scaler, lr_scheduler=None, max_grad_norm=0.1)


def test_a_peer_that_is_lost_in_the_norm_is_told_and_nothing_is_changed(update, monkeypatch):
    def clip(*_):
        exec("raise RuntimeError('Connection closed by peer')", dict(IN_TORCH))

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
    before = [one.detach().clone() for one in update._model.parameters()]
    with pytest.raises(PeerLostError, match="closed by peer") as caught:
        update.clip()
    assert caught.value.__context__ is None
    assert all(map(torch.equal, before, update._model.parameters()))


def test_an_error_of_the_script_s_own_in_it_stays_what_it_is(update, monkeypatch):
    def clip(*_):
        raise RuntimeError("the total norm is non-finite")

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
    with pytest.raises(RuntimeError, match="non-finite"):
        update.clip()
