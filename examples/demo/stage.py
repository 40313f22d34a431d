"""Runs eflaunch in a cluster of the demo's own, and leaves nothing of it behind."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from eflib.home import make_home, store_folder
from eflib.launcher.documents import Cluster
from eflib.trainer.audit import read_audit

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from eflib.launcher.documents import Document

ROOT = Path(__file__).parents[2]
SLOTS = 4
LONGEST_FOLDER = 60
"""Characters from which sockets in a folder of ours would have paths too long for the system."""
END_SECONDS = 45.0
"""How long an interrupted eflaunch may take to end its job and what it started."""
LEAVE_SECONDS = 20.0
"""How long coordinator and agent may take to end when they are told to."""
JOIN_SECONDS = 90.0
"""How long the agent may take to come up: it loads torch first."""
PARTS = (["coordinator"], ["agent", "--slots", str(SLOTS)])
"""What eflaunch would start by itself; started first, jobs do not wait for torch to be loaded."""


@dataclass(frozen=True)
class Act:
    """One job of the demo.

    Attributes:
        script: Which of the examples.
        pace: Seconds that the model sleeps for each sample.
        deadline: As eflaunch takes it.
        max_gpus: Bound on its slots, those to measure it on included.
        dataset_size: Samples in an epoch, where the demo trains for more than one.
    """

    script: str
    steps: int
    batch_size: int
    pace: float
    deadline: str
    max_gpus: int | None = None
    dataset_size: int | None = None
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.script)

    @property
    def options(self) -> list[str]:
        """The words of eflaunch's command line before the script."""
        most = [] if self.max_gpus is None else ["--max-gpus", str(self.max_gpus)]
        name = [] if self.name == self.script else ["--name", self.name]
        return ["--deadline", self.deadline, *most, *name]

    @property
    def words(self) -> list[str]:
        """The script and what is its own."""
        sizes = ["--steps", str(self.steps), "--batch-size", str(self.batch_size)]
        return [f"examples/{self.script}.py", *sizes, "--pace", str(self.pace)]


class Stage:
    """Where the demo's commands run: a home folder for eflib, and the processes that use it.

    Args:
        folder: Of the demo alone.
        say: Tells the person who waits.

    Attributes:
        launched: When each command was given, in seconds since the epoch, by job.
        left_behind: How many processes had to be killed at the end, for they had not ended.
    """

    def __init__(self, folder: Path, *, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._home = make_home(folder / "home")
        self._say = say
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._parts: list[subprocess.Popen[bytes]] = []
        url = f"file://{store_folder(self._home)}"
        self._cluster = Cluster(self._home, url)
        own = {name: value for name, value in os.environ.items() if not name.startswith("EFLIB_")}
        threads = {"OMP_NUM_THREADS": own.get("OMP_NUM_THREADS", "1")}
        self._environment = {**own, **threads, "EFLIB_HOME": str(self._home)}
        if len(str(folder)) < LONGEST_FOLDER:
            self._environment["TMPDIR"] = str(make_home(folder / "tmp"))
        self.launched: dict[str, float] = {}
        self.left_behind = 0

    def __enter__(self) -> Stage:
        """Begin; nothing is started yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End whatever still runs; a second Ctrl-C does not get in the way."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._interrupt_commands()
            self._end_leftovers()
        finally:
            signal.signal(signal.SIGINT, before)

    def open(self) -> list[str]:
        """Start a coordinator and an agent; return the commands as a person would type them.

        Raises:
            TimeoutError: The agent does not come up.
        """
        for words in PARTS:
            module = ["eflib.launcher.efctl", *words]
            self._parts.append(self._start(module, self._folder / f"{words[0]}.txt"))
        end = time.monotonic() + JOIN_SECONDS
        while not self._cluster.nodes():
            if time.monotonic() > end or any(one.poll() is not None for one in self._parts):
                raise TimeoutError((self._folder / "agent.txt").read_text(errors="replace"))
            time.sleep(0.1)
        return [shlex.join(["efctl", *words, "&"]).replace("'&'", "&") for words in PARTS]

    def launch(self, act: Act) -> str:
        """Start eflaunch in the background; return the command as a person would type it."""
        self.launched[act.name] = time.time()
        words = [*act.options, *act.words, "--audit", str(self._audit_folder(act))]
        self._processes[act.name] = self._start(["eflib.launcher", *words], self._output(act))
        return shlex.join(["eflaunch", *act.options, *act.words])

    def jobs(self) -> dict[str, Document]:
        """Return the status documents, by name."""
        return {str(job["name"]): job for job in self._cluster.jobs()}

    def status(self, act: Act) -> int | None:
        """Return the exit code of a job's eflaunch; None while it runs or before it was started."""
        process = self._processes.get(act.name)
        return None if process is None else process.poll()

    def all_ended(self) -> bool:
        """Tell whether every eflaunch has ended."""
        return all(process.poll() is not None for process in self._processes.values())

    def said_by(self, act: Act) -> list[str]:
        """Return the lines that a job's eflaunch has printed."""
        return self._output(act).read_text(errors="replace").splitlines()

    def audit(self, act: Act) -> list[dict[str, object]]:
        """Return what the job's workers wrote down, a line for each step and worker."""
        return list(read_audit(self._audit_folder(act)))

    def _audit_folder(self, act: Act) -> Path:
        return self._folder / "audit" / act.name

    def _output(self, act: Act) -> Path:
        return self._folder / f"{act.name}.txt"

    def _start(self, module: list[str], output: Path) -> subprocess.Popen[bytes]:
        with output.open("wb") as file:
            return subprocess.Popen(
                [sys.executable, "-m", *module],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,  # Ctrl-C reaches us alone; we pass it on once
            )

    def _interrupt_commands(self) -> None:
        running = [one for one in self._processes.values() if one.poll() is None]
        if running:
            self._say("ending the jobs ...")
        for process in running:
            process.send_signal(signal.SIGINT)
        end = time.monotonic() + END_SECONDS
        for process in running:
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _end_leftovers(self) -> None:
        """Tell agent and coordinator to end; count and kill what is left after a while."""
        for part in reversed(self._parts):
            part.send_signal(signal.SIGTERM)
        end = time.monotonic() + LEAVE_SECONDS
        while (found := self._ours()) and time.monotonic() < end:
            time.sleep(0.2)
        self.left_behind = len(found)
        for process in found:
            process.kill()
        psutil.wait_procs(found, timeout=10)
        for part in self._parts:
            part.wait()

    def _ours(self) -> list[psutil.Process]:
        """Return the processes that have the demo's home in their environment."""
        found = []
        for process in psutil.process_iter():
            try:
                is_ours = process.environ().get("EFLIB_HOME") == str(self._home)
                if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found
