"""The examples in docstrings are run: an example that does not hold misleads its reader."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def modules_with_examples():
    for folder in ("eflib", "launcher", "models", "profiles"):
        prefix = "" if folder == "eflib" else "eflib."
        for file in sorted((ROOT / folder).rglob("*.py")):
            if ">>>" in file.read_text():
                parts = file.relative_to(ROOT).with_suffix("").parts
                yield prefix + ".".join(part for part in parts if part != "__init__")


@pytest.mark.parametrize("name", sorted(set(modules_with_examples())))
def test_examples_in_docstrings_give_what_they_show(name):
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=flags)
    assert tried
    assert not failed
