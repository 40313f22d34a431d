"""What connects ends early when somebody is lost, and nothing else does."""

import socket
import sys
import threading
import time
from contextlib import suppress

import pytest

from eflib.errors import StoreError
from eflib.trainer.elastic.interrupt import interrupted_when

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the descriptors of a process are listed on Linux"
)
BOUND = 10.0


class Net:
    """Sockets of one test; all are closed at its end."""

    def __init__(self):
        self.made = []

    def listen(self, ports=(0,)):
        """Listen at the first port that is free; 0 is a port of the system's choice."""
        for port in ports:
            with suppress(OSError):
                self.made.append(socket.create_server(("127.0.0.1", port)))
                return self.made[-1]
        raise AssertionError("no port is free")

    def connect(self, server):
        """Return one end of a connection; the other stays open."""
        ours = socket.create_connection(server.getsockname(), timeout=BOUND)
        self.made += [ours, server.accept()[0]]
        return ours


@pytest.fixture
def net():
    found = Net()
    yield found
    for one in found.made:
        one.close()


def ends(connection, seconds=BOUND):
    """Tell whether a connection ends within a time."""
    connection.settimeout(seconds)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False


def test_what_was_opened_inside_ends_once_somebody_is_lost(net):
    lost = threading.Event()
    with interrupted_when(lost.is_set):
        first = net.connect(net.listen())
        assert not ends(first, 0.1)
        lost.set()
        assert ends(first)
        assert ends(net.connect(net.listen()))


def test_connections_of_before_stay_but_those_to_the_store(net):
    store = net.listen()
    kept, ended = net.connect(net.listen()), net.connect(store)
    with interrupted_when(lambda: True, store_port=store.getsockname()[1]):
        assert ends(ended)
        assert not ends(kept, 0.1)


def test_a_connection_to_a_service_and_a_socket_that_listens_stay(net):
    service = net.listen(range(20000, 21000))
    with interrupted_when(lambda: True):
        to_service = net.connect(service)
        listener = net.listen()
        assert ends(net.connect(listener))
        assert not ends(to_service, 0.1)
        assert ends(net.connect(listener))


def test_it_asks_again_when_the_store_does_not_answer(net):
    answers = [StoreError("no answer")] * 2

    def is_lost():
        if answers:
            raise answers.pop()
        return True

    with interrupted_when(is_lost):
        assert ends(net.connect(net.listen()))


def test_its_thread_ends_with_it():
    for is_lost in (lambda: False, lambda: True):
        begin = time.monotonic()
        with interrupted_when(is_lost):
            pass
        assert time.monotonic() - begin < BOUND
    assert not [one for one in threading.enumerate() if one.name == "eflib-interrupt"]
