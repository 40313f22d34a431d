"""What an agent may be called and offer."""

import pytest

from eflib.agent.process import check_node, run_agent
from eflib.errors import UsageError


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/", "-n", ".hidden", "n" * 201, "n" * 10**6, "a b", "ü", "a\n"]
)
def test_a_node_whose_name_is_no_part_of_a_path_is_refused_before_anything_is_written(
    tmp_path, name
):
    with pytest.raises(UsageError, match="a node cannot be called") as caught:
        run_agent(store_url=str(tmp_path / "s"), key_file="k", node=name, slots=1, home=tmp_path)
    assert len(caught.value.render()) < 400
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("slots", [-1, 0, 1025, 10_000_000, 10**30])
def test_slots_that_no_node_has_are_refused(slots):
    with pytest.raises(UsageError, match="a node has 1 to 1024 slots, not"):
        check_node("n0", slots)


@pytest.mark.parametrize("name", ["n0", "node-7.example.org", "A_b", "n" * 200])
def test_usual_names_are_taken(name):
    check_node(name, 1024)
    check_node(name, None)
