"""The glossary is kept: words that it rules out stand in no page and in no message."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "docs" / "glossary.md"
PARTS = ("eflib", "launcher", "models", "profiles")
LINKED = {ROOT / "eflib" / part for part in PARTS}


def rows():
    """Return (term, meaning, words ruled out) of each line of the glossary's tables."""
    lines = re.findall(r"^\| (.+?) \| (.+) \| ?(.*?) ?\|$", GLOSSARY.read_text("utf-8"), re.M)
    return [one for one in lines if one[0] not in {"term", "---"}]


RULED_OUT = sorted({word.strip() for *_, words in rows() for word in words.split(",")} - {""})


def prose(text):
    """Return a page without its code: names in it are other people's, or the code's."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def pages():
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    return {file.name: prose(file.read_text("utf-8")) for file in files if file != GLOSSARY}


def texts(tree):
    """Yield every text of a file that has more than one word and is no docstring."""
    expressions = {id(one.value) for one in ast.walk(tree) if isinstance(one, ast.Expr)}
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and " " in text.strip() and id(node) not in expressions:
            yield text


def messages():
    files = [file for part in PARTS for file in sorted((ROOT / part).rglob("*.py"))]
    return {
        file.relative_to(ROOT).as_posix(): "\n".join(texts(ast.parse(file.read_text("utf-8"))))
        for file in files
        if not LINKED & set(file.parents)
    }


@pytest.mark.parametrize("word", RULED_OUT)
def test_a_word_that_is_ruled_out_stands_in_no_page_and_no_message(word):
    pattern = re.compile(rf"\b{re.escape(word)}s?\b".replace(r"\ ", r"\s+"), re.I)

    assert {
        name: found.group()
        for name, text in (pages() | messages()).items()
        if (found := pattern.search(text))
    } == {}


def test_each_term_is_explained_once():
    terms = [term for term, *_ in rows()]

    assert len(terms) > 40
    assert len(set(terms)) == len(terms)
    assert [term for term, meaning, _ in rows() if not meaning.strip()] == []
