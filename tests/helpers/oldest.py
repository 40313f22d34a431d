"""Print the oldest versions that a setup.py allows, as constraints for pip.

Usage: ``python -m tests.helpers.oldest setup.py``, by ``make test-oldest``. Nothing is installed
yet when it runs, so it needs the standard library alone.
"""

import ast
import re
import sys
from pathlib import Path


def requirements(text):
    """Return what a setup.py lists, by extra; what is always needed stands under ''."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "setup":
            given = {one.arg: one.value for one in node.keywords}
            listed = {"": ast.literal_eval(given["install_requires"])}
            return listed | ast.literal_eval(given["extras_require"])
    raise ValueError("no call of setup() was found")


def oldest(text):
    """Return the lower bound of each requirement by name, but for torch, which the user picks."""
    found = {}
    for extra in requirements(text).values():
        for line in extra:
            match = re.match(r"([\w.-]+)\s*>=\s*([\w.]+)", line)
            if match and match[1] != "torch":
                found[match[1]] = match[2]
    return found


if __name__ == "__main__":
    bounds = oldest(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.stdout.writelines(f"{name}=={version}\n" for name, version in sorted(bounds.items()))
