"""From what a person asked for to the ``submit`` message: held against files and the clock."""

from __future__ import annotations

import importlib.machinery
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eflib import profiles
from eflib.errors import UsageError
from eflib.launcher.arguments import close_match
from eflib.units import parse_deadline

if TYPE_CHECKING:
    from eflib.launcher.eflaunch import LaunchRequest

LONGEST_NAME = 60
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NOT_SENT = {"_", "OLDPWD", "PWD", "SHLVL"}
"""Of the shell's variables, those that say where the shell is, not what the script should see."""


def submission(asked: LaunchRequest, *, now: float) -> dict[str, Any]:
    """Return the fields of a ``submit`` message.

    Args:
        asked: The command line, read.
        now: The present, in seconds since the epoch.

    Raises:
        UsageError: The script, the deadline, the profile, the name or the log folder is no good.
    """
    script = asked.script
    if asked.is_module:
        _check_module(script)
    else:
        script = str(_checked_script(script))
    deadline = None
    if asked.deadline is not None:
        deadline = parse_deadline(asked.deadline, now=now)
    elif asked.is_soft:
        raise UsageError("--soft needs a deadline", hint="add --deadline, as in --deadline 2h")
    return {
        "name": _name(asked),
        "module" if asked.is_module else "script": script,
        "argv": list(asked.arguments),
        "cwd": str(Path.cwd()),
        "env": _environment(),
        "deadline": deadline,
        "soft": asked.is_soft,
        "max_gpus": asked.max_gpus,
        "profile": _curve(asked.profile),
        "log_dir": _log_folder(asked.log_dir),
    }


def _checked_script(name: str) -> Path:
    path = Path(name)
    if path.is_dir():
        raise UsageError(f"the script {name} is a folder", hint="give a file in it, or use -m")
    if not path.exists():
        try:
            beside = sorted(str(other) for other in path.parent.glob("*.py"))
        except OSError:
            beside = []
        guess = close_match(name, [other.removeprefix("./") for other in beside])
        raise UsageError(
            f"there is no script {name}", hint=guess or f"seen from the folder {Path.cwd()}"
        )
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as cause:
        reason = (cause.strerror or str(cause)).lower()
        raise UsageError(f"cannot read the script {name} ({reason})") from cause
    return path.absolute()


def _check_module(name: str) -> None:
    package = name.partition(".")[0]
    is_name = all(part.isidentifier() for part in name.split("."))
    found = is_name and importlib.machinery.PathFinder.find_spec(package, ["", *sys.path])
    if not found and package not in sys.builtin_module_names:
        path = name.endswith(".py") or "/" in name
        hint = "leave out -m to run a file" if path else f"seen from the folder {Path.cwd()}"
        raise UsageError(f"there is no module {name!r}", hint=hint)


def _name(asked: LaunchRequest) -> str:
    if asked.name is None:
        own = asked.script.rpartition(".")[2] if asked.is_module else Path(asked.script).stem
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", own).strip("._-")
        return plain[:LONGEST_NAME] or "job"
    if not _NAME.fullmatch(asked.name) or len(asked.name) > LONGEST_NAME:
        raise UsageError(
            f"a job cannot be called {asked.name!r}",
            hint=f"use letters, digits, '.', '_' and '-', {LONGEST_NAME} at most",
        )
    return asked.name


def _curve(path: str | None) -> dict[str, Any] | None:
    return None if path is None else profiles.to_json(profiles.read(path))


def _log_folder(path: str | None) -> str | None:
    if path is None:
        return None
    folder = Path(path).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        reason = (cause.strerror or str(cause)).lower()
        raise UsageError(f"cannot make the log folder {folder} ({reason})") from cause
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write to the log folder {folder}")
    return str(folder)


def _environment() -> dict[str, str]:
    """Return what the script should see: ours, without what torchrun may have set around us."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in _NOT_SENT and not name.startswith("TORCHELASTIC_")
    }
