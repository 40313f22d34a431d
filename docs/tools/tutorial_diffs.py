"""Keeps what pages show of ``examples/tutorial/`` as the files have it.

``python docs/tools/tutorial_diffs.py`` writes the pages anew; a test holds that there is nothing to
write. Behind ``<!-- diff: A B -->`` stands what changes from A to B, behind ``<!-- file: A from:
WORD -->`` the file from the line that begins with WORD on.
"""

import difflib
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / name for name in ("tutorial.md", "from-torchrun.md")]
STEPS = ROOT / "examples" / "tutorial"
PLACE = re.compile(
    r"(<!-- (diff|file): (\S+) (?:from: )?(\S+) -->\n)(?:```(?:diff|python)\n.*?^```\n)?",
    re.S | re.M,
)


def filled(page: str) -> str:
    """Return the page with every block behind its mark made anew."""
    return PLACE.sub(_block, page)


def body(name: str) -> list[str]:
    """Return the lines of a step, without the docstring that says how to run it."""
    return (STEPS / name).read_text(encoding="utf-8").splitlines()[2:]


def changes(before: str, after: str) -> list[str]:
    """Return the unified diff of two steps with one line of context, without its head."""
    lines = difflib.unified_diff(body(before), body(after), n=1, lineterm="")
    return [line for line in list(lines)[2:] if not line.startswith("@@")]


def _block(found: re.Match[str]) -> str:
    mark, kind, first, second = found.groups()
    if kind == "diff":
        return f"{mark}```diff\n" + "\n".join(changes(first, second)) + "\n```\n"
    lines = body(first)
    start = next(number for number, line in enumerate(lines) if line.startswith(second))
    return f"{mark}```python\n" + "\n".join(lines[start:]) + "\n```\n"


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
