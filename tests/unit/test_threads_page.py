"""docs/threads.md names every thread and process that the code starts, and no other."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "threads.md").read_text(encoding="utf-8")
STARTERS = {"Popen", "Process", "WorkerContext", "fork", "forkpty", "spawnv", "DataLoader"}


def sources():
    for folder in ("eflib", "launcher"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            name = file.relative_to(ROOT).as_posix()
            if not name.startswith(("eflib/launcher", "eflib/models", "eflib/profiles")):
                yield name, ast.parse(file.read_text(encoding="utf-8"))


def calls(tree):
    """Yield each call of a file with the last word of what is called, and what that is of."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node, node.func.attr, ast.unparse(node.func.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node, node.func.id, ""


def threads():
    """Yield (file, name) of each thread; the name is None where it has none in plain text."""
    for file, tree in sources():
        for node, what, _ in calls(tree):
            if what == "Thread":
                names = [one.value for one in node.keywords if one.arg == "name"]
                named = names and isinstance(names[0], ast.Constant)
                yield file, names[0].value if named else None


def table(heading):
    """Return the rows of the first table under a heading, as lists of cells."""
    text = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_every_thread_has_a_name_that_the_page_tells_with_its_file():
    told = {(row[1].strip("`"), row[0].strip("`")) for row in table("Threads")}

    assert set(threads()) == told


def test_every_place_that_starts_a_process_is_on_the_page():
    starting = {
        file
        for file, tree in sources()
        for _, what, of in calls(tree)
        if what in STARTERS and of != "psutil"
    }
    told = {one for row in table("Processes") for one in re.findall(r"`(eflib/[^`]*)`", row[1])}

    assert starting <= told
    assert [one for one in sorted(told) if not (ROOT / one).is_file()] == []


@pytest.mark.parametrize("heading", ["Threads", "Processes"])
def test_every_row_says_who_ends_it_and_by_when(heading):
    assert [row for row in table(heading) if not all(row) or len(row) < 5] == []


def test_the_bounds_that_the_page_names_are_on_the_page_of_timeouts():
    bounds = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)*)`", PAGE)) - {"OMP_NUM_THREADS"}
    known = (ROOT / "docs" / "timeouts.md").read_text(encoding="utf-8")

    assert [name for name in sorted(bounds) if f"`{name}`" not in known] == []
