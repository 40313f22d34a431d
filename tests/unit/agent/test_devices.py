"""What a node offers, as far as it can be told without a GPU."""

import os
import socket

import psutil
import pytest
from torch.distributed import TCPStore

from eflib.agent import devices
from eflib.agent.assemble import serve_groups
from eflib.agent.process import default_host


def test_slots_that_were_asked_for_are_cpu_slots():
    found = devices.find(3, pool=None)

    assert (found.device, found.slots, found.gpus) == ("cpu", 3, ())
    assert found.name


@pytest.mark.skipif(devices.torch.version.cuda is not None, reason="this torch may have GPUs")
def test_without_gpus_there_is_a_slot_per_usable_cpu():
    assert devices.find(None, pool=None).slots == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, ("0", "1")),
        ("", ("0", "1")),
        ("3, 5", ("3", "5")),
        ("GPU-a,GPU-b,GPU-c", ("GPU-a", "GPU-b")),
    ],
)
def test_gpus_keep_the_names_by_which_the_agent_was_given_them(monkeypatch, given, expected):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)

    assert devices.visible(2) == expected


@pytest.mark.parametrize(
    ("store", "host"),
    [("/a/folder", "127.0.0.1"), ("tcp://127.0.0.1:29500", "127.0.0.1"), ("tcp://[::1]:1", "::1")],
)
def test_a_node_is_reached_the_way_it_reaches_the_store(store, host):
    assert default_host(store) == host


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_the_store_of_the_groups_is_reached_by_the_name_that_is_advertised(host):
    try:
        served = serve_groups(host)
    except OSError as cause:
        pytest.skip(f"this machine has no {host}: {cause}")

    client = TCPStore(host, served.port, is_master=False)

    client.set("word", "given")
    assert served.get("word") == b"given"


def test_on_a_loopback_address_only_this_machine_reaches_it():
    served = serve_groups("127.0.0.1")

    listening = [
        connection.laddr.ip
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == served.port
    ]
    assert listening == ["127.0.0.1"]


def test_a_name_that_leads_this_machine_to_itself_is_served_to_others_too(monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.1.1", 0))]
    known = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *more, **options: found if host == "node7" else known(host, *more, **options),
    )

    served = serve_groups("node7")

    listening = [
        connection.laddr.ip
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == served.port
    ]
    assert listening == ["0.0.0.0"]
