"""One store of each kind for every test of the shared suite."""

import pytest

from eflib.store import FolderStore, open_store


@pytest.fixture(scope="session")
def tcp_port():
    from eflib.store.tcp import serve

    server = serve()
    yield server.port
    server.close()


@pytest.fixture(params=["folder", "tcp"])
def url(request, tmp_path):
    if request.param == "folder":
        return str(tmp_path / "store")
    return f"tcp://127.0.0.1:{request.getfixturevalue('tcp_port')}"


@pytest.fixture
def store(url, request):
    """An empty store: a folder of its own, or the one server, swept afterwards."""
    opened = open_store(url)
    yield opened
    if not isinstance(opened, FolderStore):
        for key in opened.list():
            opened.delete(key)
    opened.close()


@pytest.fixture
def stream(request):
    """A stream's name that no other test uses: streams outlive their entries' trimming."""
    return f"test/{request.node.name}"
