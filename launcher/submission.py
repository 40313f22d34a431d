"""From what a person asked for to the ``submit`` message: held against files and the clock."""

from __future__ import annotations

import errno
import importlib.machinery
import os
import re
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eflib import profiles
from eflib.errors import UsageError, os_reason
from eflib.files import expanded, working_folder, writing
from eflib.launcher import environment, values
from eflib.launcher.arguments import close_match
from eflib.units import parse_deadline

if TYPE_CHECKING:
    from eflib.launcher.eflaunch import LaunchRequest


def submission(asked: LaunchRequest, *, now: float) -> dict[str, Any]:
    """Return the fields of a ``submit`` message.

    Args:
        asked: The command line, read.
        now: The present, in seconds since the epoch.

    Raises:
        UsageError: The script, the deadline, the profile, the name or the log folder cannot be
            used. Nothing has been made or written.
    """
    folder = str(working_folder())
    for place, word in enumerate((folder, *asked.arguments)):
        _check_text(word, f"argument {place} of the script" if place else "the working folder")
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
        "cwd": folder,
        "env": environment.sent(os.environ, asked.env),
        "deadline": deadline,
        "soft": asked.is_soft,
        "max_gpus": asked.max_gpus,
        "profile": _curve(asked.profile),
        "log_dir": _log_folder(asked.log_dir),
    }


def make_log_folder(path: str | None) -> None:
    """Make the folder that ``--log-dir`` names, if it was given.

    Raises:
        UsageError: It cannot be made.
    """
    if path is not None:
        with writing(path, "the log folder"):
            Path(path).mkdir(parents=True, exist_ok=True)


def _check_text(word: str, what: str) -> None:
    if "\0" in word or not values.is_unicode(word):
        raise UsageError(
            f"{what} is not valid UTF-8 text: {word!r}", hint="rename the file, or use a link to it"
        )


def _checked_script(name: str) -> Path:
    path = Path(name)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise _no_script(name, path) from None
    except OSError as cause:
        raise _unreadable(name, cause) from cause
    if stat.S_ISDIR(mode):
        raise UsageError(f"the script {name} is a folder", hint="give a file in it, or use -m")
    if not stat.S_ISREG(mode):
        raise UsageError(
            f"the script {name} is not a regular file", hint="every worker reads it: save it first"
        )
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as cause:
        raise _unreadable(name, cause) from cause
    return path.absolute()


def _no_script(name: str, path: Path) -> UsageError:
    try:
        beside = sorted(str(other) for other in path.parent.glob("*.py"))
    except OSError:
        beside = []
    guess = close_match(name, [other.removeprefix("./") for other in beside])
    hint = guess or f"paths are relative to the folder {working_folder()}"
    return UsageError(f"there is no script {name}", hint=hint)


def _unreadable(name: str, cause: OSError) -> UsageError:
    return UsageError(
        f"cannot read the script {name} ({os_reason(cause)})",
        hint="see its permissions, or give another path",
    )


def _check_module(name: str) -> None:
    """See that ``python -m`` would find a module; none of its packages is imported."""
    parts = name.split(".")
    known = parts[0] in sys.builtin_module_names and len(parts) == 1
    if not known and not (all(part.isidentifier() for part in parts) and _is_found(parts)):
        path = name.endswith(".py") or "/" in name
        hint = "leave out -m to run a file" if path else f"searched from {working_folder()}"
        raise UsageError(f"there is no module {name!r}", hint=hint)


def _is_found(parts: list[str]) -> bool:
    spec = importlib.machinery.PathFinder.find_spec(parts[0], ["", *sys.path])
    if spec is None:  # an editable install may have a finder of its own
        found = (finder.find_spec(parts[0], None) for finder in sys.meta_path)
        spec = next((one for one in found if one is not None), None)
    for count in range(2, len(parts) + 1):
        if spec is None or spec.submodule_search_locations is None:
            return False
        places = list(spec.submodule_search_locations)
        spec = importlib.machinery.PathFinder.find_spec(".".join(parts[:count]), places)
    return spec is not None


def _name(asked: LaunchRequest) -> str:
    if asked.name is None:
        own = asked.script.rpartition(".")[2] if asked.is_module else Path(asked.script).stem
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", own).strip("._-")
        return plain[: values.MAX_NAME] or "job"
    return values.job_name(asked.name)


def _curve(path: str | None) -> dict[str, Any] | None:
    return None if path is None else profiles.to_json(profiles.read(path))


def _log_folder(path: str | None) -> str | None:
    """Return the log folder as an absolute path, having seen that it can be made and written."""
    if path is None:
        return None
    folder = expanded(path)
    with writing(folder, "the log folder"):
        place = next(place for place in (folder, *folder.parents) if place.exists())
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return str(folder)
