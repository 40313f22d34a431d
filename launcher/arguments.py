"""The command line, cut up before fire sees it; pure.

Fire calls first and complains later, guesses types from spelling and keeps what follows ``--`` for
itself. So options are told from arguments here, unknown ones are refused here, and every value goes
to fire as a quoted text, which it cannot mistake for anything else.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import fire

from eflib.errors import UsageError
from eflib.launcher import values
from eflib.launcher.interface import HELP, Interface, Option, usage

if TYPE_CHECKING:
    from collections.abc import Mapping

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"", "0", "false", "no", "off"}


class UnknownOptionError(UsageError):
    """An option that the command does not have."""

    code = "unknown-option"


@dataclass
class Words:
    """A command line, cut up.

    Attributes:
        options: Values by option name; a flag's is True or False.
        arguments: What is no option, in order.
        wants_help: ``--help`` stood among the options.
    """

    options: dict[str, str | bool] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)
    wants_help: bool = False


def split(argv: list[str], interface: Interface) -> Words:
    """Cut a command line into options and arguments.

    ``--kebab-case``, ``--snake_case`` and ``--option=value`` are alike. A ``--`` ends the options.
    Where the command takes a script, so does the script's name, and all behind it is untouched.

    Raises:
        UsageError: An option is unknown, lacks its value, or has one that it does not take.
    """
    words = Words()
    known = interface.spellings()
    position = 0
    while position < len(argv):
        word = argv[position]
        position += 1
        if word == "--":
            words.arguments += argv[position:]
            break
        if not word.startswith("-") or word == "-":
            words.arguments.append(word)
            if interface.ends_at_script:
                words.arguments += argv[position:]
                break
            continue
        spelling, has_value, value = word.partition("=")
        option = known.get(spelling.replace("_", "-")) or _unknown(spelling, known, interface)
        if option is HELP:
            words.wants_help = True
        elif option.is_flag:
            words.options[option.name] = _truth(value, spelling) if has_value else True
        else:
            if not has_value:
                value = _following(argv, position, option)
                position += 1
            words.options[option.name] = values.text(value, option.flag, hint=_form(option))
    return words


def add_environment(
    words: Words, interface: Interface, environment: Mapping[str, str]
) -> list[Option]:
    """Fill in the options that were not given from ``EFLIB_<OPTION>``.

    Returns:
        The options that were filled in.

    Raises:
        UsageError: A flag's variable is neither true nor false.
    """
    filled = []
    for option in interface.options.values():
        value = environment.get(option.environment)
        if value is None or option.name in words.options or (value == "" and not option.is_flag):
            continue
        words.options[option.name] = (
            _truth(value, option.environment)
            if option.is_flag
            else values.text(value, option.environment)
        )
        filled.append(option)
    return filled


def call(name: str, interface: Interface, words: Words) -> Any:  # noqa: ANN401 - the function's
    """Call the interface's function through fire with what the words say.

    Args:
        name: The command, for errors.
        interface: What it takes.
        words: The command line, cut up.

    Raises:
        UsageError: Too many arguments, or too few.
    """
    _check_count(name, interface, words.arguments)
    for argument, given in zip(interface.arguments, words.arguments, strict=False):
        values.text(given, argument.name.upper(), hint=f"usage: {usage(name, interface)}")
    command = [repr(text) for text in words.arguments]
    command += [f"--{option}={value!r}" for option, value in words.options.items()]
    return fire.Fire(interface.function, command=command, name=name, serialize=lambda _result: None)


def close_match(word: str, known: list[str]) -> str:
    """Return ``did you mean X?`` for the closest known word, or nothing if none is close."""
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.7)
    return f"did you mean {found[0]}?" if found else ""


def _unknown(spelling: str, known: dict[str, Option], interface: Interface) -> Option:
    guess = close_match(spelling.replace("_", "-"), [text for text in known if text[1] == "-"])
    place = "Options of the script go after its name." if interface.ends_at_script else ""
    hint = " ".join(part for part in (guess or "see --help.", place) if part)
    raise UnknownOptionError(f"there is no option {spelling}", hint=hint)


def _following(argv: list[str], position: int, option: Option) -> str:
    following = argv[position] if position < len(argv) else ""
    if position >= len(argv) or (following.startswith("--") and len(following) > 2):
        but = f", but {following} follows" if following else ""
        raise UsageError(
            f"option {option.flag} needs a value{but}",
            hint=_form(option),
        )
    return following


def _form(option: Option) -> str:
    return f"write {option.flag} {option.metavar} or {option.flag}={option.metavar}"


def _truth(value: str, spelling: str) -> bool:
    if value.lower() not in _TRUE | _FALSE:
        raise UsageError(f"{spelling} must be true or false, got {value!r}", hint="write 1 or 0")
    return value.lower() in _TRUE


def _check_count(name: str, interface: Interface, given: list[str]) -> None:
    required = [argument for argument in interface.arguments if argument.is_required]
    hint = f"usage: {usage(name, interface)}"
    if len(given) < len(required):
        missing = required[len(given)].name.upper()
        raise UsageError(f"{name} needs {missing}", hint=hint)
    if len(given) > len(interface.arguments) and not interface.ends_at_script:
        raise UsageError(f"{name} does not take {given[len(interface.arguments)]!r}", hint=hint)
