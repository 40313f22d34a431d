"""What benchmarks run jobs on: a cluster of real processes of its own, and plain torchrun."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from eflib.launcher.documents import Cluster
from eflib.store import SignedStore, load_or_create_key, open_store

CURVE = {"model": "benchmark", "points": {"1": 10, "2": 19, "3": 27, "4": 35, "8": 60}}
"""Any curve by which more workers are faster: a job is then not measured first."""


def command(name, *words):
    """Return the words that run ``eflaunch`` or ``efctl`` with this Python."""
    code = f"import sys; from eflib.launcher.{name} import main; sys.exit(main())"
    return [sys.executable, "-c", code, *map(str, words)]


def device_for(workers):
    """Return ``cuda`` if each of so many workers can have a GPU of its own, which nccl needs."""
    return "cuda" if torch.cuda.device_count() >= workers else "cpu"


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


def stamps(folder):
    """Return the lines that the workers of ``elastic_job.py`` wrote so far, in order of time."""
    found = []
    for file in Path(folder).glob("*.jsonl"):
        lines = file.read_text().splitlines(keepends=True)
        found += [json.loads(line) for line in lines if line.endswith("\n")]
    return sorted(found, key=lambda one: one["time"])


class LiveCluster:
    """Started on entering, ended on leaving; everything lies in one temporary folder.

    Args:
        slots: Workers that can run at once; on GPUs, if there is one for each.
    """

    def __init__(self, slots):
        self.device = device_for(slots)
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
            slots = ["--slots", self._slots] if self.device == "cpu" else []
            self.start("efctl", "agent", *slots)
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


class Torchrun:
    """Plain torchrun with elastic agents, one for each node that this machine stands for.

    Its waits are set short, so that what is timed is its work: with its defaults a restart takes
    some 40 seconds (a last call of 30, a keep-alive of 15).

    Args:
        script: What each worker runs, with its arguments.
        nodes: Most agents at once.
        workers: Workers of each agent.
    """

    SETTINGS = "last_call_timeout=1,keep_alive_interval=1,keep_alive_max_attempt=3"

    def __init__(self, *script, nodes, workers):
        self.folder = Path(tempfile.mkdtemp(prefix="eflib-torchrun-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._script = list(map(str, script))
        self._nodes, self._workers = nodes, workers
        self._agents = []

    def __enter__(self):
        """Nothing runs yet: see ``add_agent``."""
        return self

    def __exit__(self, *_):
        """End the agents, and workers that they may have left, and remove the folder."""
        for agent in reversed(self._agents):
            self.stop(agent)
        for row in {row["pid"]: row for row in stamps(self.folder / "out")}.values():
            if _is_ours(row["pid"], self.folder):
                os.kill(row["pid"], signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def add_agent(self):
        """Start one more agent; returns its process."""
        words = [sys.executable, "-m", "torch.distributed.run", f"--nnodes=1:{self._nodes}"]
        words += [f"--nproc-per-node={self._workers}", "--rdzv-backend=c10d", "--rdzv-id=b"]
        words += [f"--rdzv-endpoint=127.0.0.1:{self._port}", f"--rdzv-conf={self.SETTINGS}"]
        words += ["--monitor-interval=0.1", "--max-restarts=100", *self._script]
        # Without the first, a node that joins hangs for a minute in torch 2.13, and then all fail.
        environment = {
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
            "CUDA_VISIBLE_DEVICES": self._gpus(),
        }
        log = self.folder / f"agent-{len(self._agents)}.log"
        with log.open("wb") as file:
            agent = subprocess.Popen(
                [*words, "--out", str(self.folder / "out")],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | environment,
            )
        agent.log = log
        self._agents.append(agent)
        return agent

    def _gpus(self):
        """Return what the next agent may see: GPUs that no agent before it uses."""
        if device_for(self._nodes * self._workers) == "cpu":
            return ""
        first = self._workers * sum(agent.poll() is None for agent in self._agents)
        return ",".join(str(gpu) for gpu in range(first, first + self._workers))

    def stop(self, agent):
        """End an agent as a machine that is taken away does: SIGTERM."""
        if agent.poll() is None:
            agent.terminate()
            try:
                agent.wait(timeout=60)
            except subprocess.TimeoutExpired:
                agent.kill()
                agent.wait()

    def stamps(self):
        """Return what the workers noted so far."""
        return stamps(self.folder / "out")

    def wait_stamps(self, holds, what, seconds=240):
        """Wait until a condition holds of the stamps; returns what it returned."""

        def look():
            if all(agent.poll() is not None for agent in self._agents):
                logs = [agent.log.read_text(errors="replace")[-3000:] for agent in self._agents]
                raise RuntimeError("torchrun ended:\n" + "\n".join(logs))
            return holds(self.stamps())

        return wait_until(look, what, seconds, poll=0.1)


def _is_ours(pid, folder):
    """Tell whether a process runs a script that was given this folder."""
    try:
        return str(folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
