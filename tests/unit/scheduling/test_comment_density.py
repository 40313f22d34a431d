"""Heuristics say why they are there: a threshold without a reason cannot be changed by anybody."""

import ast
import io
import tokenize
from pathlib import Path

SCHEDULING = Path(__file__).parents[3] / "eflib" / "scheduling"
LEAST = 5.0
"""Lines with a comment per 100 lines of code, docstrings not counted as either."""

LAYOUT = {
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.COMMENT,
}


def lines_of(source):
    """Return the numbers of lines with code and of lines with a comment."""
    code, comments = set(), set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
        elif token.type not in LAYOUT:
            code.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if text and isinstance(node.value.value, str):
            code -= set(range(node.lineno, node.end_lineno + 1))
    return code, comments


def test_a_comment_is_told_from_code_and_docstrings():
    source = '"""A # docstring."""\nx = 1  # why\n# also why\ny = """\ntext"""\n'
    assert lines_of(source) == ({2, 4, 5}, {2, 3})


def test_scheduling_says_why_often_enough():
    counts = [lines_of(file.read_text()) for file in SCHEDULING.glob("*.py")]
    code, comments = (sum(map(len, column)) for column in zip(*counts, strict=True))
    assert 100 * comments / code >= LEAST, f"{comments} comments in {code} lines of code"
