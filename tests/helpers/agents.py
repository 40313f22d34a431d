"""An agent in a process of its own, and the coordinator's side of the store, played by the test."""

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

from eflib.store import SignedStore, keys, load_key, load_or_create_key, open_store
from tests.helpers.processes import is_alive, wait_until
from tests.helpers.raw import Raw

ROOT = Path(__file__).parents[2]


class Stage:
    """A store in a folder, and what a coordinator would write there."""

    def __init__(self, folder):
        self.folder = folder
        self.key_file = folder / "cluster.key"
        load_or_create_key(self.key_file)
        self.store_url = str(folder / "store")
        self.store = SignedStore(open_store(self.store_url), load_key(self.key_file))
        self.log_dir = folder / "logs"
        self._revision = 0
        self._received = []

    def worker(self, name, code="", *, argv=(), env=None, rank=0, **fields):
        """Put a job with one worker that runs ``code``; returns the worker's assignment."""
        job = f"job-{name}"
        script = self.folder / f"{name}.py"
        script.write_text(textwrap.dedent(code), encoding="utf-8")
        spec = {"script": str(script), "argv": list(argv), "cwd": str(self.folder)}
        Raw(self.store).put(keys.job_spec(job), {**spec, "env": env or {}})
        return {
            "worker": name,
            "job": job,
            "job_name": job,
            "slot": 0,
            "generation": 1,
            "rank": rank,
            "world_size": 1,
            "local_rank": rank,
            "local_world_size": 1,
            "master_addr": "127.0.0.1",
            "master_port": 1,
            "mode": "train",
            "log_dir": str(self.log_dir / name),
            **fields,
        }

    def assign(self, *workers, node="n0"):
        """Say what a node should run from now on."""
        self._revision += 1
        message = {"revision": self._revision, "workers": list(workers)}
        Raw(self.store).put(keys.node_assignment(node), message)

    def exit_of(self, worker):
        """Return the worker's exit record, or None."""
        return Raw(self.store).fetch(keys.worker_exit(worker["job"], worker["worker"]))

    def wait_exit(self, worker):
        """Wait for the worker's exit record."""
        return wait_until(lambda: self.exit_of(worker), f"the exit of worker {worker['worker']}")

    def log_file(self, worker):
        """Return where the worker's log is."""
        return Path(worker["log_dir"]) / str(worker["generation"]) / f"{worker['rank']}.log"

    def log(self, worker):
        """Return the worker's output so far."""
        file = self.log_file(worker)
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def wait_log(self, worker, text):
        """Wait until the worker has written ``text``; returns its output."""
        found = wait_until(
            lambda: text in (log := self.log(worker)) and log,
            f"{text!r} in the log of worker {worker['worker']}",
        )
        return str(found)

    def wait_pids(self, worker, count=1):
        """Wait until the worker has written a line of JSON with pids; returns them."""
        self.wait_log(worker, "]\n")
        pids = json.loads(self.log(worker).splitlines()[-1])
        assert len(pids) == count
        return pids

    def messages(self, kind=None):
        """Return what was posted to the coordinator, of one type or all."""
        self._received += Raw(self.store).receive(keys.INBOX, len(self._received))
        return [message for message in self._received if kind in (None, message["type"])]

    def record(self, node="n0"):
        """Return what a node says of itself, or None."""
        return Raw(self.store).fetch(keys.node_record(node))


class AgentProcess:
    """``python -m eflib.agent``, started by a test."""

    def __init__(self, stage, node="n0", slots=4, options=(), home=None):
        self.stage = stage
        self.node = node
        self.home = home or stage.folder
        self.log_file = stage.folder / f"agent-{node}.log"
        self.command = [sys.executable, "-m", "eflib.agent", "--store", stage.store_url]
        self.command += ["--key-file", str(stage.key_file), "--home", str(self.home)]
        self.command += ["--node", node, "--slots", str(slots), *options]
        before = len(stage.messages("node_joined"))
        self.process = self.again()
        self.pid = self.process.pid
        wait_until(
            lambda: self.process.poll() is not None or len(stage.messages("node_joined")) > before,
            f"agent {node} to join",
            poll=0.1,
        )

    def again(self):
        """Start one more process with the same command."""
        with self.log_file.open("a") as log:
            return subprocess.Popen(self.command, cwd=ROOT, stdout=log, stderr=log)

    def log(self):
        """Return what the agent has printed."""
        return self.log_file.read_text(encoding="utf-8")

    def pool_pid(self):
        """Wait for the warm pool; returns its pid."""
        mark = Path(self.home) / "agents" / self.node / "warm"

        def ready():
            words = mark.read_text().split() if mark.exists() else []
            return words[-1:] == ["ready"] and is_alive(int(words[0])) and int(words[0])

        return wait_until(ready, "a warm pool")

    def stop(self, number=signal.SIGTERM):
        """Send the agent a signal and wait for its end; returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(60)
