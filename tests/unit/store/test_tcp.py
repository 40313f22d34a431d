import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from eflib.errors import StoreError
from eflib.store import wait_for
from eflib.store.server import describe
from eflib.store.serving import serve
from eflib.store.tcp import TcpStore
from tests.helpers.processes import freeze


@pytest.fixture
def server(tmp_path):
    """A server in a process of its own, and the number of its port."""
    port_file = tmp_path / "port"
    command = [sys.executable, "-m", "eflib.store.server", "--port-file", str(port_file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    process.port = int(wait_for(lambda: port_file.exists() and port_file.read_text(), **START))
    yield process
    process.kill()
    process.communicate(timeout=60)


START = {"timeout": 60, "what": "the server's port"}


def test_a_server_that_died_is_reported_and_not_waited_for(server):
    store = TcpStore("127.0.0.1", server.port, connect_seconds=0.2)
    store.set("k", b"v")
    server.kill()
    server.wait(60)
    with pytest.raises(StoreError) as lost:
        store.get("k")
    assert lost.value.problem.startswith(f"lost the store at 127.0.0.1:{server.port} (")
    assert lost.value.hint.startswith("check that the process that serves it is running")
    with pytest.raises(StoreError) as refused:
        store.get("k")
    problem = f"cannot reach 127.0.0.1:{server.port} (refused) after 0.2 s"
    assert refused.value.problem == problem


def test_a_server_that_hangs_is_reported_within_the_bound_and_one_that_is_told_to_ends(server):
    store = TcpStore("127.0.0.1", server.port, call_seconds=0.3)
    store.set("k", b"v")
    freeze(server.pid)
    with pytest.raises(StoreError) as caught:
        store.get("k")
    os.kill(server.pid, signal.SIGCONT)
    assert caught.value.problem == (
        f"lost the store at 127.0.0.1:{server.port} (no answer for 0.3 s)"
    )
    store = TcpStore("127.0.0.1", server.port)
    assert store.get("k") == b"v"
    server.send_signal(signal.SIGTERM)
    printed, _ = server.communicate(timeout=60)
    assert server.returncode == 0
    assert printed == (
        f"store: serving at tcp://127.0.0.1:{server.port}, for this machine alone "
        f"(pid {server.pid})\n"
    )


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StoreError) as caught:
            serve(port)
    problem = f"cannot listen at 127.0.0.1:{port} (address already in use)"
    assert caught.value.problem == problem
    assert caught.value.hint == "choose another port, or 0 for a free one"


@pytest.mark.parametrize("host", ["203.0.113.9", "no such name", "127.0.0.1:1"])
def test_an_address_that_is_not_this_machine_s_is_named(host):
    with pytest.raises(StoreError, match="cannot listen at ") as caught:
        serve(0, host)
    assert caught.value.hint == "give an address of this machine, or 0.0.0.0 for all of them"


@pytest.mark.parametrize("port", [-1, 70_000, 10**30])
def test_a_port_that_cannot_be_is_named(port):
    with pytest.raises(StoreError, match="cannot listen at "):
        serve(port)


def listening_addresses(port):
    """Return the local addresses, as the kernel writes them, that listen at a port."""
    rows = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
    rows += Path("/proc/self/net/tcp6").read_text().splitlines()[1:]
    local = [row.split()[1].split(":") for row in rows if row.split()[3] == "0A"]
    return {address for address, at in local if int(at, 16) == port}


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="Linux tells")
def test_a_store_is_served_to_this_machine_alone_unless_another_address_is_given():
    own = serve()
    assert listening_addresses(own.port) == {"0100007F"}
    everywhere = serve(host="0.0.0.0")
    assert listening_addresses(everywhere.port) == {"00000000"}
    for server in (own, everywhere):
        store = TcpStore("127.0.0.1", server.port)
        store.set("k", b"v")
        assert store.get("k") == b"v"
        store.close()
        server.close()


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("localhost", "tcp://localhost:7, for this machine alone"),
        ("::1", "tcp://[::1]:7, for this machine alone"),
        ("10.0.0.3", "tcp://10.0.0.3:7, for everybody who reaches this address"),
        ("0.0.0.0", f"tcp://{socket.gethostname()}:7, at all addresses of this machine, for every"),
    ],
)
def test_a_server_says_who_can_reach_it(host, said):
    assert describe(host, 7).startswith(said)


def test_something_else_that_listens_is_not_a_store():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StoreError) as caught:
            TcpStore("127.0.0.1", port, connect_seconds=0.2).check()
    problem = f"what listens at 127.0.0.1:{port} did not answer as a store in 0.6 s"
    assert caught.value.problem == problem


def test_an_unknown_host_name_is_told(monkeypatch):
    def unknown(address, timeout):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", unknown)
    with pytest.raises(StoreError) as caught:
        TcpStore("no-such-node", 1, connect_seconds=0.05).check()
    assert caught.value.problem == "cannot reach no-such-node:1 (unknown host name) after 0.05 s"


def test_a_store_is_closed_twice_without_harm(tcp_store):
    store = TcpStore("127.0.0.1", int(tcp_store.url.rpartition(":")[2]))
    store.check()
    store.close()
    store.close()
    assert store.get("k") is None, "it connects again"


def test_a_port_file_that_cannot_be_written_is_a_usage_error(tmp_path):
    command = [sys.executable, "-m", "eflib.store.server", "--port-file", f"{tmp_path}/none/port"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error[usage]: cannot write the port file")
