"""``efctl``: ask about jobs and nodes, change them, and run the parts by hand."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from typing import TYPE_CHECKING

from eflib import __version__
from eflib.errors import UsageError
from eflib.launcher import arguments, cli
from eflib.launcher.commands import COMMANDS
from eflib.launcher.interface import command_help, interface_of

if TYPE_CHECKING:
    from collections.abc import Callable

ABOUT = """\
usage: efctl COMMAND [arguments]

Ask about jobs and nodes, change them, and run the parts of a cluster by hand. JOB is a job's name
or its id. Where facts are printed, --json prints them as one JSON object."""
FOOTER = """\
More about one: efctl COMMAND --help. Submit jobs with eflaunch."""


class UnknownCommandError(UsageError):
    """A subcommand that does not exist."""

    code = "unknown-command"


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    words = sys.argv[1:] if argv is None else argv
    return cli.guarded(lambda: _run(words))


def help_text() -> str:
    """Return what ``--help`` prints."""
    table = "\n".join(f"  {name:<13}{text}" for name, text in COMMANDS.items())
    return f"{ABOUT}\n\ncommands:\n{table}\n\n{FOOTER}"


def find(name: str) -> Callable[..., int | None]:
    """Return the function of a subcommand; its file is loaded only now.

    Raises:
        UnknownCommandError: There is none of this name.
    """
    if name not in COMMANDS:
        guess = arguments.close_match(name, list(COMMANDS))
        raise UnknownCommandError(
            f"there is no command {name!r}", hint=guess or "see all with: efctl --help"
        )
    module = importlib.import_module(f"eflib.launcher.commands.{name.replace('-', '_')}")
    command: Callable[..., int | None] = module.command
    return command


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        if len(argv) > 1 and argv[0] == "help":
            return _run([argv[1], "--help"])
        print(help_text())
        return 0 if argv else 2
    name, *rest = argv
    if name == "--version":
        print(f"efctl {__version__}")
        return 0
    interface = interface_of(find(name))
    words = arguments.split(rest, interface)
    if words.wants_help:
        width = min(100, shutil.get_terminal_size().columns)
        print(command_help(f"efctl {name}", interface, width=width))
        return 0
    arguments.add_environment(words, interface, os.environ)
    return arguments.call(f"efctl {name}", interface, words) or 0


if __name__ == "__main__":
    sys.exit(main())
