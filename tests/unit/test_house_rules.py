"""Limits that keep the code readable: sizes of files and classes, suppressions, untyped records.

Files that name untyped records still are listed. The list may only shrink: a new one fails the
test, and so does an entry that is needed no longer.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("eflib", "launcher", "models", "profiles", "examples", "tests")
LINKED = {ROOT / "eflib" / part for part in ("launcher", "models", "profiles")}

MOST_LINES = 400
MOST_METHODS = 20  # public and private
MOST_SUPPRESSIONS_OF_ANY = 9
# A record that crosses a process border has a type of eflib.messages.
UNTYPED_RECORDS = {
    "launcher/documents.py",
    "launcher/tables.py",
    "launcher/wording.py",
}


def sources():
    """Return the text of every Python file of the repository by its name; links are left out."""
    files = (file for part in PARTS for file in sorted((ROOT / part).rglob("*.py")))
    kept = (file for file in files if not LINKED & set(file.parents))
    return {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in kept}


SOURCES = sources()
TREES = {name: ast.parse(text) for name, text in SOURCES.items()}


def test_no_file_is_too_long_to_be_read_at_once():
    lines = {name: text.count("\n") for name, text in SOURCES.items()}

    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def methods(tree):
    """Yield the classes of a file with their numbers of methods."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            functions = [one for one in node.body if isinstance(one, ast.FunctionDef)]
            yield node.name, len(functions)


def test_no_class_does_so_much_that_it_takes_more_than_twenty_methods():
    found = {
        f"{file} {name}": count for file, tree in TREES.items() for name, count in methods(tree)
    }

    assert {name: count for name, count in found.items() if count > MOST_METHODS} == {}


def test_any_is_suppressed_in_few_places():
    count = sum(len(re.findall(r"[#] noqa: .*ANN401", text)) for text in SOURCES.values())

    assert count <= MOST_SUPPRESSIONS_OF_ANY


def aliases(tree):
    """Yield the names that a file gives to dict[str, Any]."""
    for node in ast.walk(tree):
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        if value is not None and ast.unparse(value) == "dict[str, Any]":
            yield node


def test_no_record_is_a_dict_of_anything_under_another_name():
    found = {name for name, tree in TREES.items() if any(aliases(tree))}
    assert sorted(found - UNTYPED_RECORDS) == []
    assert sorted(UNTYPED_RECORDS - found) == []
