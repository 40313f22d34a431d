"""Groups with members that do not come: who waits for them, and for how long."""

import errno
import socket
import sys
import time

import pytest
import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore

from eflib.trainer import timeouts
from eflib.trainer.collectives import PeerLostError
from eflib.trainer.elastic import formation
from eflib.trainer.elastic.formation import (
    Endpoint,
    EndpointGoneError,
    GroupKeeper,
    MissingMembersError,
)

HOST = "127.0.0.1"


@pytest.fixture
def server():
    return TCPStore(HOST, 0, is_master=True, wait_for_workers=False)


@pytest.fixture
def keeper():
    made = GroupKeeper(torch.device("cpu"))
    yield made
    made.close()


def form(keeper, server, prefix, members, gone=lambda _: []):
    endpoint = Endpoint(HOST, server.port, prefix)
    keeper.form(endpoint, members, 0, superseded=lambda: False, gone=gone)


def test_a_member_that_ended_before_it_came_is_named(keeper, server):
    with pytest.raises(MissingMembersError) as error:
        form(keeper, server, "j/1", ["w0", "w1"], gone=lambda members: members)
    assert error.value.workers == ["w1"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux lists descriptors")
def test_a_member_that_ends_after_it_came_holds_nobody_up(keeper, server):
    """It said that it is there, and never connects."""
    PrefixStore("j/2", server).set("present/1", "1")
    begin = time.monotonic()
    with pytest.raises(PeerLostError):
        form(keeper, server, "j/2", ["w0", "w1"], gone=lambda _: ["w1"])
    assert time.monotonic() - begin < timeouts.GROUP / 2
    form(keeper, server, "j/3", ["w0"])
    assert dist.get_world_size() == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux lists descriptors")
def test_after_an_attempt_that_failed_it_meets_those_who_had_none(keeper, server):
    PrefixStore("j/2", server).set("present/1", "1")
    with pytest.raises(PeerLostError):
        form(keeper, server, "j/2", ["w0", "w1"], gone=lambda _: ["w1"])
    form(keeper, server, "j/3", ["w0"])
    after = dist.group.WORLD.group_name
    keeper.abandon()
    form(keeper, server, "j/4", ["w0"])
    assert dist.group.WORLD.group_name == after


def test_no_number_of_groups_changes_how_an_error_is_written(keeper, server, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    for number in range(3):
        form(keeper, server, f"hook/{number}", ["w0"])
        keeper.leave()
    assert sys.excepthook is sys.__excepthook__


def test_where_nobody_listens_is_told_at_once(keeper):
    gone = TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
    port = gone.port
    del gone
    with pytest.raises(EndpointGoneError, match=str(port)):
        keeper.connect(HOST, port)


@pytest.mark.parametrize(
    ("cause", "meaning"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), EndpointGoneError),
        (ConnectionResetError(errno.ECONNRESET, "reset"), PeerLostError),
        (TimeoutError("timed out"), PeerLostError),
        (OSError(errno.EHOSTUNREACH, "no route"), PeerLostError),
        (socket.gaierror(socket.EAI_AGAIN, "temporary failure"), PeerLostError),
        (OSError(errno.EMFILE, "too many open files"), OSError),
    ],
    ids=repr,
)
def test_only_where_nobody_listens_the_agent_is_gone(keeper, monkeypatch, cause, meaning):
    """A network that is slow or away is not the end of an agent; nor is a fault of this worker."""

    def connect(*_, **__):
        raise cause

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(meaning) as caught:
        keeper.connect(HOST, 9)
    assert type(caught.value) is meaning


def test_after_leaving_there_is_nobody_to_tell(keeper, server):
    form(keeper, server, "j/4", ["w0"])
    keeper.leave()
    keeper.say_done(0)
    assert not PrefixStore("j/4", server).check(["done/0"])
    assert keeper.not_done(["w0", "w1"]) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux lists descriptors")
def test_members_that_cannot_connect_are_given_up_though_all_live(keeper, server, monkeypatch):
    monkeypatch.setattr(timeouts, "GROUP", 0.5)
    PrefixStore("j/5", server).set("present/1", "1")
    begin = time.monotonic()
    with pytest.raises(PeerLostError):
        form(keeper, server, "j/5", ["w0", "w1"])
    assert 0.4 < time.monotonic() - begin < 10


def test_a_late_member_is_waited_for_and_looked_for_less_often(keeper, server, monkeypatch):
    """It lives, and is late: in a callback, or with a long step."""
    monkeypatch.setattr(formation, "_LATE", 0.05)
    asked = []

    def gone(members):
        asked.append(members)
        if len(asked) == 4:
            PrefixStore("j/6", server).set("present/1", "1")
            return ["w1"] if members == ["w0", "w1"] else []
        return ["w1"] if len(asked) > 4 else []

    with pytest.raises(PeerLostError):
        form(keeper, server, "j/6", ["w0", "w1"], gone=gone)
    assert asked[:4] == [["w1"]] * 4
