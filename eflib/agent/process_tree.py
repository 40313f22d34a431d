"""Families of processes: how a child is bound to its parent, and how all descendants are ended.

Linux does most of it: a child can ask to die with its parent, and a process can ask to inherit the
orphans among its descendants, so that no daemon slips away. Elsewhere both do nothing, and what is
left is found by the tag that every descendant carries in its environment.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Family = list["psutil.Process"]

TAG = "EFLIB_AGENT"
"""The variable that holds an agent's tag in the environment of all that descend from it."""

TRACKER_SECONDS = 3.0
"""How long multiprocessing's resource trackers may take to clean up, in seconds."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_RETRY_SECONDS = 0.02


def path_for_helpers() -> str:
    """Return a PYTHONPATH with which a new interpreter finds eflib, wherever it is started."""
    root = str(Path(__file__).parents[2])
    return os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))


def die_with_parent(parent: int) -> None:
    """Be killed when the process ``parent`` ends; if it already has, end now."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, in place of init."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def is_alive(process: object) -> bool:
    """Tell whether a process runs: one that has ended and was not waited for does not.

    Args:
        process: The process, or the pid of whichever process has it now; nothing else runs.
    """
    try:
        process = psutil.Process(process) if isinstance(process, int) else process
        if not isinstance(process, psutil.Process):
            return False
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except (psutil.Error, ValueError, OverflowError):
        return False


def descendants(roots: Iterable[int]) -> Family:
    """Return the living processes below ``roots``, without these."""
    roots = list(roots)
    found: dict[int, psutil.Process] = {}
    for root in roots:
        if root not in found:  # else those below it have been found with it
            with suppress(psutil.Error):
                below = psutil.Process(root).children(recursive=True)
                found.update((child.pid, child) for child in below)
    return [child for child in found.values() if child.pid not in roots and is_alive(child)]


def tagged(tag: str) -> Family:
    """Return the living processes whose environment, as they were started, holds the tag."""
    found: Family = []
    for pid in psutil.pids():
        if pid != os.getpid() and _holds(pid, tag):
            with suppress(psutil.Error):
                found.append(psutil.Process(pid))
    return [process for process in found if is_alive(process)]


def end_all(find: Callable[[], Family], *, seconds: float) -> list[int]:
    """Kill what ``find`` returns, again and again until it returns nothing.

    A process can be born while its family is being killed; so one round is never enough. Trackers
    of multiprocessing are spared for a while: they end when those whose semaphores and shared
    memory they track have ended, and clean up after them.

    Args:
        find: Called before each round.
        seconds: The bound.

    Returns:
        The pids that outlived the bound: processes in uninterruptible sleep.
    """
    begin = time.monotonic()
    while True:
        doomed = find()
        if not doomed:
            return []
        is_patient = time.monotonic() < begin + TRACKER_SECONDS
        for process in doomed:
            with suppress(psutil.Error):
                if not (is_patient and is_tracker(process)):
                    process.kill()
        if time.monotonic() >= begin + seconds:
            return [process.pid for process in doomed]
        time.sleep(_RETRY_SECONDS)


def end_tagged(tag: str, *, seconds: float, known: Callable[[], Family] = list) -> list[int]:
    """Kill all that carries an agent's tag, all that ``known`` returns, and their descendants.

    The tracker of this process's living parent is left out: it ends with the parent, not before.
    """
    parent = os.getppid()

    def find() -> Family:
        roots = [*tagged(tag), *known()]
        below = descendants(process.pid for process in roots)
        mine = os.getpid()
        family = [process for process in {*roots, *below} if process.pid != mine]
        return [one for one in family if not (os.getppid() == parent and _tracks(one, parent))]

    return end_all(find, seconds=seconds)


def is_tracker(process: psutil.Process) -> bool:
    """Tell whether a process is a resource tracker of multiprocessing."""
    return any("multiprocessing.resource_tracker" in word for word in process.cmdline())


def _tracks(process: psutil.Process, parent: int) -> bool:
    with suppress(psutil.Error):
        return process.ppid() == parent and is_tracker(process)
    return False


def signal_group(leader: int, number: signal.Signals) -> bool:
    """Send a signal to the process group that ``leader`` leads, or will lead in a moment.

    Returns:
        False if there is no such process any more.
    """
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        try:
            os.kill(leader, number)
        except ProcessLookupError:
            return False
    return True


def _holds(pid: int, tag: str) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except PermissionError:
        return False
    except OSError:
        return not sys.platform.startswith("linux") and _tag_of(pid) == tag
    return f"{TAG}={tag}".encode() in environment.split(b"\0")


def _tag_of(pid: int) -> str | None:
    try:
        value: str | None = psutil.Process(pid).environ().get(TAG)
    except (psutil.Error, OSError):
        return None
    return value


def _prctl(option: int, value: int) -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
