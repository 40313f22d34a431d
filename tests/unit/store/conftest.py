"""One store of each kind for every test of the shared suite."""

import socket

import pytest

from eflib.store import open_store


@pytest.fixture(scope="session")
def tcp_store():
    from eflib.store.serving import serve

    server = serve()
    store = open_store(f"tcp://127.0.0.1:{server.port}")
    yield store
    store.close()
    server.close()


@pytest.fixture(params=["folder", "tcp"])
def store(request, tmp_path):
    """An empty store: a folder of its own, or the one server, swept afterwards."""
    if request.param == "folder":
        store = open_store(tmp_path / "store")
        yield store
        store.close()
        return
    store = request.getfixturevalue("tcp_store")
    yield store
    for key in store.list():
        store.delete(key)


@pytest.fixture
def url(store):
    return store.url


@pytest.fixture
def stream(request):
    """A stream's name that no other test uses: indices go on after a stream was trimmed."""
    return f"test/{request.node.name}"


@pytest.fixture
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]
