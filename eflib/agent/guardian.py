"""The guardian: a small process beside the agent that ends the agent's family when the agent dies.

It holds one end of a pipe whose other end only the agent has. However the agent ends, ``kill -9``
included, the pipe closes; then the guardian kills every process that carries the agent's tag or
descends from one that does, until none is left, and ends. It loads neither torch nor the store.
"""

from __future__ import annotations

import argparse
import multiprocessing.util
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil

from eflib.agent import process_tree
from eflib.agent.timeouts import SNAPSHOT_SECONDS, SWEEP_SECONDS

_REST = 100.0  # times as long as it looks, the guardian rests: on a node with many processes


class Guardian:
    """The agent's handle on its guardian.

    Args:
        tag: The tag in the environment of all that descends from the agent.
    """

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The guardian's process, or None while there is none."""
        return self._process.pid if self._process else None

    def ensure(self) -> bool:
        """Start the guardian if it does not run; True if it had to be."""
        if self._process is not None:
            if self._process.poll() is None:
                return False
            self.close()
        command = [sys.executable, "-m", __name__, "--tag", self._tag, "--agent", str(os.getpid())]
        # Made by now: multiprocessing puts the sockets of the agent's whole family there.
        command += ["--temporary", multiprocessing.util.get_temp_dir()]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, env=_environment(), start_new_session=True
        )
        return True

    def close(self) -> None:
        """Let go of the pipe: the guardian kills what is left, and ends by itself."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def wait(self, seconds: float) -> bool:
        """Wait until the guardian has ended; False if the bound passes first."""
        if self._process is None:
            return True
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


def _environment() -> dict[str, str]:
    """Return the guardian's environment: without a tag, or it would end itself."""
    path = process_tree.path_for_helpers()
    untagged = {name: value for name, value in os.environ.items() if name != process_tree.TAG}
    return {**untagged, "PYTHONPATH": path}


def main(argv: list[str] | None = None) -> int:
    """Wait for the end of the pipe on stdin, then end the family.

    Returns:
        The exit status: 0 if no process is left.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tag", required=True)
    parser.add_argument("--agent", type=int, required=True)
    parser.add_argument("--temporary", help="a folder to delete when all have ended")
    options = parser.parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    agent = _process(options.agent)
    known = _watch(options.agent)
    left = process_tree.end_tagged(
        options.tag,
        seconds=SWEEP_SECONDS,
        known=lambda: [process for process in known if process_tree.is_alive(process)],
    )
    if options.temporary and not left and not (agent and process_tree.is_alive(agent)):
        # An agent that ends in order waits for this process, and then deletes it itself.
        shutil.rmtree(options.temporary, ignore_errors=True)
    if left:
        with suppress(OSError):  # its log may lie on a full disk
            sys.stderr.write(f"eflib: processes {left} of a dead agent cannot be killed\n")
    return 1 if left else 0


def _watch(agent: int) -> list[psutil.Process]:
    """Return the agent's last known family once the pipe on stdin has closed.

    The tag finds all but those who cleared their environment; these are found if they were seen.
    """
    known: set[psutil.Process] = set()
    pause = SNAPSHOT_SECONDS
    while not select.select([0], [], [], pause)[0]:
        begin = time.monotonic()
        known = {process for process in known if process_tree.is_alive(process)}
        known.update(process_tree.descendants([agent]))
        pause = max(SNAPSHOT_SECONDS, _REST * (time.monotonic() - begin))
    known = {process for process in known if process.pid != os.getpid()}
    return sorted(known, key=lambda process: process.pid)


def _process(pid: int) -> psutil.Process | None:
    with suppress(psutil.Error):
        return psutil.Process(pid)
    return None


if __name__ == "__main__":
    sys.exit(main())
