"""A journal that the version before wrote: one file, of objects without types, without snapshots.

``data/journal-of-one-file.jsonl`` was written by that version: a job with a given curve that was
measured, rescaled, lost a worker and is held at a size, another that was cancelled while it was
measured, and a node that left.
"""

import itertools
import shutil
from pathlib import Path

import pytest

from eflib import home as places
from eflib.errors import StoreError

WRITTEN = Path(__file__).parent / "data" / "journal-of-one-file.jsonl"


@pytest.fixture
def old(host):
    host.now = 5009.0
    host.requests = itertools.count(100)  # it remembers those that it has carried out
    shutil.copy(WRITTEN, places.old_journal_file(host.home))
    return host


def test_it_is_taken_over_with_all_that_it_says(old):
    old.start()
    old.turn()
    job = old.status("a-1")
    assert (job.state, job.world_size, job.generation, job.pinned) == ("RUNNING", 2, 2, 1)
    assert (job.global_step, job.samples, job.digest) == (7, 448, "abc")
    assert [(one.from_, one.to, one.shares) for one in job.rescales] == [(4, 2, "16x4 -> 32x2")]
    assert job.curve == {1: 10.0, 2: 19.0, 4: 34.0}
    assert old.status("b-2").state == "CANCELLED"
    assert list(old.coordinator._plane.nodes) == ["n0"]
    request = old.submit("c")
    old.turn()
    assert old.reply(request).job == "c-3"


def test_it_is_the_same_after_another_start(old):
    old.start()
    old.turn()
    before = old.status("a-1")
    old.start()
    old.turn()
    after = old.status("a-1")
    assert (after.state, after.story, after.curve) == (before.state, before.story, before.curve)


def test_a_line_of_it_that_cannot_be_read_is_named_with_the_way_out(old):
    with places.old_journal_file(old.home).open("a") as file:
        file.write('{"v":1,"t":1.0,"in":{"type":"submit","name":"a","argv":7}}\n')
    with pytest.raises(StoreError, match=r"journal\.jsonl:22: a 'submit' entry") as caught:
        old.start()
    assert "move that file or folder away" in caught.value.hint
