"""What tests of real processes share."""

import pytest

from tests.helpers.clusters import LiveCluster
from tests.helpers.processes import leaving_no_process


@pytest.fixture
def cluster(tmp_path):
    """A cluster of its own, nothing started; the test fails if it leaves a process behind."""
    with leaving_no_process():
        live = LiveCluster(tmp_path)
        try:
            yield live
        finally:
            live.end()
