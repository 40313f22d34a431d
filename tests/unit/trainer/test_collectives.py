"""Which errors mean that a peer is lost: told by where they come up, never by their words."""

import pytest
import torch
import torch.distributed as dist

from eflib.trainer import collectives
from eflib.trainer.collectives import PeerLostError, Transfer, came_from_transfer

GLOO_WORDS = "[../third_party/gloo/gloo/transport/tcp/pair.cc:5] Connection closed by peer"


class Work:
    def __init__(self, error=None):
        self.error = error

    def wait(self):
        if self.error is not None:
            raise self.error


@pytest.fixture
def start(monkeypatch):
    """Let torch start every sum with this outcome."""

    def set_outcome(outcome):
        def all_reduce(*_, **__):
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(dist, "all_reduce", all_reduce)

    return set_outcome


@pytest.mark.parametrize("error", [RuntimeError(GLOO_WORDS), RuntimeError(""), dist.DistError("x")])
def test_a_transfer_that_fails_on_its_way_means_a_lost_peer(start, error):
    start(Work(error))
    with pytest.raises(PeerLostError):
        collectives.all_reduce(torch.zeros(1))


def test_the_lost_peer_holds_no_frames_of_the_transfer(start):
    start(Work(RuntimeError(GLOO_WORDS)))
    with pytest.raises(PeerLostError, match=r"^Connection closed by peer$") as caught:
        collectives.all_reduce(torch.zeros(1))
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("gloo"), torch.AcceleratorError("NCCL")])
def test_a_device_that_fails_in_the_wait_is_the_worker_s_own_error(start, error):
    start(Work(error))
    with pytest.raises(type(error)):
        collectives.all_reduce(torch.zeros(1))


@pytest.mark.parametrize(
    "error", [RuntimeError(GLOO_WORDS), ValueError("NCCL"), KeyError("gloo")], ids=repr
)
def test_what_torch_refuses_to_start_is_the_worker_s_own_error(start, error):
    start(error)
    with pytest.raises(type(error)):
        collectives.all_reduce(torch.zeros(1))


@pytest.mark.parametrize("kind", [dist.DistBackendError, dist.DistNetworkError])
def test_a_connection_that_is_gone_at_the_start_means_a_lost_peer(start, kind):
    start(kind("no connection"))
    with pytest.raises(PeerLostError):
        collectives.all_reduce(torch.zeros(1))


def test_a_transfer_is_waited_for_once():
    transfer = Transfer(Work())
    transfer.wait()
    transfer.wait()


def raised(action):
    try:
        action()
    except Exception as error:  # noqa: BLE001 - it is what the test is about
        return error
    raise AssertionError


def in_torch_s_package(error):
    """Raise an error from a frame that stands in torch.distributed, as FSDP2's waits do."""
    scope = {"__name__": "torch.distributed.fsdp.a_module", "error": error}
    return raised(lambda: exec("raise error", scope))


def test_of_errors_in_a_pass_those_of_torch_s_own_transfers_mean_a_lost_peer():
    assert came_from_transfer(in_torch_s_package(RuntimeError("any words")))
    assert came_from_transfer(dist.DistBackendError("any words"))
    assert came_from_transfer(PeerLostError("x"))


def test_the_frame_that_calls_a_compiled_operator_says_nothing_of_whose_it_is():
    def script():
        torch.ops.aten.mm(torch.ones(2, 3), torch.ones(2, 3))

    found = raised(script)
    assert "mat1" in str(found)
    assert not came_from_transfer(found)


@pytest.mark.parametrize(
    "error", [RuntimeError(GLOO_WORDS), RuntimeError("NCCL error"), ValueError("gloo")], ids=repr
)
def test_of_errors_in_a_pass_the_script_s_own_do_not(error):
    def script():
        raise error

    assert not came_from_transfer(raised(script))


def test_a_script_s_mistake_in_a_transfer_does_not():
    assert not came_from_transfer(in_torch_s_package(ValueError("wrong shape")))
    assert not came_from_transfer(in_torch_s_package(torch.OutOfMemoryError("gloo")))
    assert not came_from_transfer(None)
