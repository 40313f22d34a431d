"""Between processes go typed messages: no dictionary of anything, and no reader without a type."""

import ast
import inspect
import typing
from pathlib import Path

import pytest

from eflib.messages.fields import Message
from eflib.store.signed import SignedStore

ROOT = Path(__file__).parents[3]
PARTS = ("coordinator", "agent", "store", "messages", "trainer/elastic")
FILES = [file for part in PARTS for file in sorted((ROOT / "eflib" / part).rglob("*.py"))]
UNTYPED = {"dict[str, Any]", "Mapping[str, Any]", "MutableMapping[str, Any]", "dict[str, object]"}
PRINTED = "eflib/messages/codec.py"  # facts_of: what commands print, and nobody reads again


def untyped(tree):
    """Yield the lines of a file that name a type which says nothing of its fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and ast.unparse(node) in UNTYPED:
            yield node.lineno


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_file_at_a_border_between_processes_has_a_dictionary_of_anything(file):
    if file.relative_to(ROOT).as_posix() != PRINTED:
        assert list(untyped(ast.parse(file.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize("name", ["put", "claim", "post"])
def test_what_is_written_into_a_store_is_a_message(name):
    hints = typing.get_type_hints(getattr(SignedStore, name))
    assert hints["message"] is Message


@pytest.mark.parametrize(("name", "argument"), [("fetch", "kind"), ("receive", "form")])
def test_what_is_read_from_a_store_is_asked_for_by_type(name, argument):
    parameters = inspect.signature(getattr(SignedStore, name)).parameters
    assert parameters[argument].default is inspect.Parameter.empty
