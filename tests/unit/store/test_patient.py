"""A store through outages."""

import pytest

from eflib.errors import StoreError, TooLargeError
from eflib.store import FolderStore
from eflib.store.base import LONGEST_VALUE
from eflib.store.patient import PatientStore


class Flaky(FolderStore):
    """A folder store that fails as often as it is told, before or after a write is made."""

    def __init__(self, root):
        super().__init__(root)
        self.failures = 0
        self.loses_answers = False

    def compare_and_set(self, key, expected, value):
        if not self.loses_answers:
            self._fail()
        won = super().compare_and_set(key, expected, value)
        self._fail()
        return won

    def get(self, key):
        self._fail()
        return super().get(key)

    def set(self, key, value):
        self._fail()
        super().set(key, value)

    def _fail(self):
        if self.failures:
            self.failures -= 1
            raise StoreError("lost the store at node0:1 (gone)", hint="see whether it runs")


@pytest.fixture
def flaky(tmp_path):
    return Flaky(tmp_path / "store")


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def store(flaky, now):
    def sleep(seconds):
        now[0] += seconds

    return PatientStore(flaky, 10.0, clock=lambda: now[0], sleep=sleep)


def test_a_short_outage_is_sat_out(store, flaky):
    flaky.failures = 4
    store.set("k", b"v")
    flaky.failures = 4
    assert store.get("k") == b"v"
    assert store.list() == ["k"]
    assert store.delete("k")


def test_a_long_one_is_an_error_with_address_time_and_last_cause(store, flaky, now):
    flaky.failures = 1000
    with pytest.raises(StoreError) as caught:
        store.get("k")
    assert now[0] <= 10.0
    assert caught.value.problem == (
        f"the store at {flaky.url} did not answer for 9 s, in 9 attempts; "
        "the last: lost the store at node0:1 (gone)"
    )
    assert caught.value.hint == "see whether it runs"


def test_a_value_that_is_too_large_is_not_an_outage(store, now):
    with pytest.raises(TooLargeError):
        store.set("k", b"x" * (LONGEST_VALUE + 1))
    assert now[0] == 0.0


@pytest.mark.parametrize("loses_answers", [False, True])
def test_what_is_written_is_written_once(store, flaky, loses_answers):
    flaky.loses_answers = loses_answers
    flaky.failures = 1
    assert store.compare_and_set("k", None, b"mine")
    flaky.failures = 1
    assert store.compare_and_set("k", b"mine", b"next")
    assert store.append("s", b"one") == 0
    assert not store.compare_and_set("k", None, b"other")
    assert store.read("s", 0) == [(0, b"one")]
