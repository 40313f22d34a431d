"""What mkdocs does beside rendering: pages made from the code, so that they cannot go stale.

- ``<!-- help: efctl status -->`` becomes what ``efctl status --help`` prints.
- Each example is a page of its own; links to ``../examples/...`` lead there.
- The changelog is a page.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

from eflib.launcher import efctl, eflaunch
from eflib.launcher.interface import command_help, interface_of

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
WIDTH = 80  # of a help text, in characters


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that have no file in docs/."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "changelog.md", content=changelog))
    for example in examples():
        name = example.relative_to(ROOT).as_posix()
        code = example.read_text(encoding="utf-8")
        text = f"---\nsearch:\n  exclude: true\n---\n# {name}\n\n```python\n{code}```\n"
        files.append(File.generated(config, page_of(name), content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Put help texts in place, and lead links to examples to their pages."""
    up = "../" * page.file.src_uri.count("/")
    text = re.sub(r"<!-- help: ([\w ]+) -->", lambda found: fenced(help_of(found[1])), markdown)
    return re.sub(
        rf"\]\({up}\.\./(examples/[\w./-]+\.py)\)",
        lambda found: f"]({up}{page_of(found[1])})",
        text,
    )


def examples() -> list[Path]:
    """Return the files of examples/ that are Python."""
    return sorted((ROOT / "examples").rglob("*.py"))


def page_of(example: str) -> str:
    """Return the page of an example, as seen from docs/."""
    return f"{example.removesuffix('.py')}.md"


def help_of(command: str) -> str:
    """Return what a command's ``--help`` prints."""
    if command == "eflaunch":
        return eflaunch.help_text(WIDTH)
    if command == "efctl":
        return efctl.help_text()
    interface = interface_of(efctl.find(command.removeprefix("efctl ")))
    return command_help(command, interface, width=WIDTH)


def fenced(text: str) -> str:
    """Return text as a block of its own."""
    return f"```text\n{text}\n```"
