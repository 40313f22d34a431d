import pytest

from tests.unit.coordinator.host import Host


@pytest.fixture
def host(tmp_path):
    host = Host(tmp_path)
    yield host
    if host.coordinator is not None:
        host.coordinator._journal.close()
    host.store.close()
