"""A cluster of real processes for a benchmark: a coordinator and an agent in a home of its own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from eflib.launcher.documents import Cluster
from eflib.store import SignedStore, load_or_create_key, open_store

CURVE = {"model": "benchmark", "points": {"1": 10, "2": 19, "3": 27, "4": 35, "8": 60}}
"""Any curve by which more workers are faster: a job is then not measured first."""


def command(name, *words):
    """Return the words that run ``eflaunch`` or ``efctl`` with this Python."""
    code = f"import sys; from eflib.launcher.{name} import main; sys.exit(main())"
    return [sys.executable, "-c", code, *map(str, words)]


def wait_until(condition, what, seconds, poll=0.02):
    """Return the first true value of ``condition``.

    Raises:
        TimeoutError: It did not come within ``seconds``.
    """
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(poll)
    return value


class LiveCluster:
    """Started on entering, ended on leaving; everything lies in one temporary folder.

    Args:
        slots: Workers that can run at once.
    """

    def __init__(self, slots):
        self.folder = Path(tempfile.mkdtemp(prefix="eflib-benchmark-"))
        self.environment = os.environ | {
            "EFLIB_HOME": str(self.folder / "home"),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
            "COLUMNS": "200",
        }
        self.environment.pop("EFLIB_STORE", None)
        self._slots = slots
        self._processes = []

    def __enter__(self):
        """Start the coordinator and the agent; returns when the node is there."""
        (self.folder / "home").mkdir()
        (self.folder / "curve.json").write_text(json.dumps(CURVE))
        url = f"file://{self.folder / 'home' / 'store'}"
        try:
            self.start("efctl", "coordinator")
            self.start("efctl", "agent", "--slots", self._slots)
            key = load_or_create_key(self.folder / "home" / "cluster.key")
            store = SignedStore(open_store(url), key)
            self.documents = Cluster(self.folder / "home", url, store=store)
            wait_until(self.documents.nodes, "the node", 60)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        """End all processes, newest first, and remove the folder."""
        for process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
        for process in reversed(self._processes):
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, name, *words):
        """Start a command; its output goes to ``process.log``."""
        log = self.folder / f"{len(self._processes)}-{name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                command(name, *words),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self.environment,
            )
        process.log = log
        self._processes.append(process)
        return process

    def submit(self, name, script, *words, max_gpus):
        """Submit a job without a deadline; returns the process of ``eflaunch``."""
        options = ["--name", name, "--profile", self.folder / "curve.json", "--max-gpus", max_gpus]
        return self.start("eflaunch", *options, script, *words)

    def control(self, *words):
        """Run ``efctl`` to its end."""
        done = subprocess.run(
            command("efctl", *words),
            capture_output=True,
            text=True,
            timeout=120,
            env=self.environment,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"efctl {words} failed:\n{done.stdout}{done.stderr}")

    def status(self, name):
        """Return a job's status document; {} while there is none."""
        named = [one for one in self.documents.jobs() if one["name"] == name]
        return named[-1] if named else {}

    def wait_status(self, name, holds, what, seconds=180):
        """Wait until a condition holds of a job's status document; returns the document.

        Raises:
            RuntimeError: The job failed; the message holds its output.
        """

        def look():
            status = self.status(name)
            if status.get("state") in {"FAILED", "CANCELLED", "REJECTED"}:
                raise RuntimeError(f"job {name} is {status['state']}:\n{self.output()}")
            return status if status and holds(status) else None

        return wait_until(look, f"job {name}: {what}", seconds)

    def output(self):
        """Return what all commands have printed."""
        parts = []
        for process in self._processes:
            text = process.log.read_text(errors="replace")
            parts.append(f"== {process.log.name}\n{text[-3000:]}")
        return "\n".join(parts)
