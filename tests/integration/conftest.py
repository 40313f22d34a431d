"""What tests of real processes share."""

import pytest

from tests.helpers.clusters import living


@pytest.fixture
def cluster(tmp_path):
    """A cluster of its own, nothing started; the test fails if it leaves a process behind."""
    with living(tmp_path) as live:
        yield live


@pytest.fixture(scope="module")
def four_slots(tmp_path_factory):
    """A coordinator and an agent with four slots that the tests of a module share."""
    with living(tmp_path_factory.mktemp("cluster")) as live:
        live.start(slots=4)
        yield live
