"""A command's options and arguments, read off the function that carries it out.

Keyword-only parameters are options: a ``bool`` is a flag, anything else takes a value, which
arrives as text. Positional parameters are arguments. The docstring's ``Args`` section is the help.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ALIASES = {
    "slots": ("--nproc-per-node",),
    "module": ("-m",),
    "follow": ("-f",),
}
"""Other spellings of options, the same in every command."""

METAVARS = {
    "deadline": "WHEN",
    "slots": "N",
    "max_gpus": "N",
    "profile": "FILE",
    "log_dir": "FOLDER",
    "store": "ADDRESS",
    "env": "NAME,NAME",
}
"""What stands for an option's value in the help, where the option's name does not say it."""

_INDENT = 26


@dataclass(frozen=True)
class Option:
    """One option: ``name`` is the parameter's, with underscores."""

    name: str
    is_flag: bool
    text: str

    @property
    def flag(self) -> str:
        """The spelling that help and errors use."""
        return "--" + self.name.replace("_", "-")

    @property
    def environment(self) -> str:
        """The variable that stands in for it."""
        return "EFLIB_" + self.name.upper()

    @property
    def spellings(self) -> tuple[str, ...]:
        """All ways to write it, with hyphens."""
        return (self.flag, *ALIASES.get(self.name, ()))

    @property
    def metavar(self) -> str:
        """What stands for its value in the help."""
        return METAVARS.get(self.name, self.name.replace("_", "-").upper())


@dataclass(frozen=True)
class Argument:
    """One positional argument."""

    name: str
    is_required: bool
    text: str


@dataclass(frozen=True)
class Interface:
    """What a command takes.

    Attributes:
        function: Carries it out, or says what is to be done.
        options: By name.
        arguments: In order.
        ends_at_script: From the first argument on, nothing is an option: it is a script's name, and
            what follows is the script's own.
    """

    function: Callable[..., Any]
    options: dict[str, Option]
    arguments: tuple[Argument, ...]
    ends_at_script: bool

    def spellings(self) -> dict[str, Option]:
        """Return each spelling with its option."""
        found = {"--help": HELP, "-h": HELP}
        for option in self.options.values():
            for spelling in option.spellings:
                found[spelling] = option
        return found


HELP = Option("help", is_flag=True, text="Show this text.")


def interface_of(function: Callable[..., Any]) -> Interface:
    """Return what a function's signature and docstring say about its command."""
    texts = _described(inspect.getdoc(function) or "")
    options, arguments, ends_at_script = {}, [], False
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            options[name] = Option(name, parameter.annotation is bool, texts.get(name, ""))
        elif parameter.kind is parameter.VAR_POSITIONAL:
            ends_at_script = True
        else:
            required = parameter.default is parameter.empty
            arguments.append(Argument(name, required, texts.get(name, "")))
    return Interface(function, options, tuple(arguments), ends_at_script)


def summary(function: Callable[..., Any]) -> str:
    """Return a function's docstring up to its first section."""
    text = inspect.getdoc(function) or ""
    return re.split(r"\n\n(?:Args|Returns|Raises|Examples):", text)[0]


def option_lines(options: Iterable[Option], *, width: int) -> str:
    """Return the help of options, wrapped to a width in characters."""
    return _columns((_left(option), option.text) for option in (*options, HELP))(width)


def argument_lines(arguments: Iterable[Argument], *, width: int) -> str:
    """Return the help of arguments, wrapped to a width in characters."""
    return _columns((argument.name.upper(), argument.text) for argument in arguments)(width)


def usage(name: str, interface: Interface) -> str:
    """Return the one line that says how a command is called."""
    words = [name, "[options]"] if interface.options else [name]
    for argument in interface.arguments:
        word = argument.name.upper()
        words.append(word if argument.is_required else f"[{word}]")
    if interface.ends_at_script:
        words.append("[ARGUMENTS...]")
    return " ".join(words)


def command_help(name: str, interface: Interface, *, width: int) -> str:
    """Return the help of a command."""
    parts = [f"usage: {usage(name, interface)}", wrapped(summary(interface.function), width)]
    if interface.arguments:
        parts.append("arguments:\n" + argument_lines(interface.arguments, width=width))
    parts.append("options:\n" + option_lines(interface.options.values(), width=width))
    return "\n\n".join(parts)


def _left(option: Option) -> str:
    spellings = sorted(option.spellings, key=lambda text: text.startswith("--"))
    shown = ", ".join(text for text in spellings if text != "--nproc-per-node")
    if option is HELP:
        return "-h, --help"
    return shown if option.is_flag else f"{shown} {option.metavar}"


def _columns(rows: Iterable[tuple[str, str]]) -> Callable[[int], str]:
    def lay_out(width: int) -> str:
        lines = []
        for left, text in rows:
            body = textwrap.wrap(text, max(20, width - _INDENT), break_on_hyphens=False)
            head = f"  {left}"
            if len(head) > _INDENT - 2:
                lines.append(head)
                head = ""
            lines += [f"{head:<{_INDENT}}{line}" for head, line in _beside(head, body)]
        return "\n".join(lines)

    return lay_out


def _beside(head: str, body: list[str]) -> list[tuple[str, str]]:
    lines = body or [""]
    return [(head if number == 0 else "", line) for number, line in enumerate(lines)]


def wrapped(text: str, width: int) -> str:
    """Return paragraphs, each wrapped to a width in characters."""
    parts = text.split("\n\n")
    return "\n\n".join(textwrap.fill(part, width, break_on_hyphens=False) for part in parts)


def _described(docstring: str) -> dict[str, str]:
    """Return the texts of a docstring's ``Args`` section, by parameter."""
    section = re.search(r"\n\nArgs:\n(.*?)(?:\n\n|\Z)", docstring, re.DOTALL)
    texts: dict[str, str] = {}
    name = ""
    for line in section[1].splitlines() if section else ():
        start = re.match(r" {4}\*{0,2}(\w+): (.*)", line)
        if start:
            name = start[1]
            texts[name] = start[2]
        else:
            texts[name] += f" {line.strip()}"
    return texts
