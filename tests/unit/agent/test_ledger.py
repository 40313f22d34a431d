"""What outlives an agent on its node's disk."""

import pytest

from eflib.agent.ledger import Ledger
from eflib.errors import StoreError, UsageError


def test_starts_and_tag_are_remembered_for_the_next_agent(tmp_path):
    first = Ledger(tmp_path, "n0")
    assert first.open("tag-1") == frozenset()
    assert first.previous_tag is None
    first.note_start("w1")
    first.note_start("w2")
    first.close()

    second = Ledger(tmp_path, "n0")

    assert second.open("tag-2") == {"w1", "w2"}
    assert second.previous_tag == "tag-1"
    second.close()


def test_a_node_has_one_agent_at_a_time(tmp_path):
    first, second = Ledger(tmp_path, "n0"), Ledger(tmp_path, "n0")
    first.open("tag-1")

    with pytest.raises(UsageError, match="an agent of node 'n0' runs already"):
        second.open("tag-2")
    first.close()


def test_nodes_of_one_home_do_not_meet(tmp_path):
    first, second = Ledger(tmp_path, "n0"), Ledger(tmp_path, "n1")
    first.open("tag-1")
    first.note_start("w")

    assert second.open("tag-2") == frozenset()
    first.close()
    second.close()


def test_a_name_with_a_slash_stays_in_its_folder(tmp_path):
    ledger = Ledger(tmp_path, "../rack/1")

    assert ledger.folder.parent == tmp_path / "agents"


def test_a_damaged_ledger_is_begun_anew(tmp_path):
    ledger = Ledger(tmp_path, "n0")
    ledger.folder.mkdir(parents=True)
    (ledger.folder / "agent.json").write_text("{")

    ledger.open("tag")

    assert ledger.previous_tag is None
    ledger.close()


def test_a_home_that_is_a_file_is_explained(tmp_path):
    (tmp_path / "home").touch()

    with pytest.raises(StoreError, match="cannot use the state folder") as caught:
        Ledger(tmp_path / "home", "n0").open("tag")
    assert "EFLIB_HOME" in caught.value.hint
