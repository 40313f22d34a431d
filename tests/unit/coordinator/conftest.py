import pytest

from tests.unit.coordinator.host import Host


@pytest.fixture
def host(tmp_path):
    host = Host(tmp_path)
    yield host
    if host.coordinator is not None:
        host.coordinator._memory.close()
    host.store.close()


@pytest.fixture
def running(host):
    """A coordinator with a node and a job that trains."""
    host.start()
    host.node()
    host.submit()
    host.train()
    return host
