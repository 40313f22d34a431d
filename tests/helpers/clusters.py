"""A cluster of real processes on this machine, and jobs on it, as a person starts them."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

from eflib.launcher.documents import Cluster
from eflib.store import SignedStore, load_or_create_key, open_store
from tests.helpers.processes import leaving_no_process, wait_until

LONG = 120.0
"""A bound for what takes seconds on an idle machine: starts, imports, profiling."""
SCRIPT = Path(__file__).parent / "scripts" / "paced.py"


def command(name, *words):
    """Return the words that run one of our commands with this Python."""
    module = {"eflaunch": "eflib.launcher.eflaunch", "efctl": "eflib.launcher.efctl"}[name]
    return [
        sys.executable,
        "-c",
        f"import sys; from {module} import main; sys.exit(main())",
        *words,
    ]


class LiveCluster:
    """A home of its own; processes start where a test asks for them."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.home = self.folder / "home"
        self.home.mkdir(parents=True)
        self.environment = {**os.environ, "EFLIB_HOME": str(self.home), "COLUMNS": "200"}
        self.environment.pop("EFLIB_STORE", None)
        self.running = []

    # Processes -------------------------------------------------------------------------------

    def popen(self, name, *words):
        """Start a command; its output goes to a file that ``output`` reads."""
        log = self.folder / f"{len(self.running)}-{name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                command(name, *map(str, words)),
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self.environment,
                cwd=self.folder,
            )
        process.log = log
        self.running.append(process)
        return process

    def run(self, name, *words, timeout=LONG):
        """Run a command to its end; return (exit status, stdout, stderr)."""
        done = subprocess.run(
            command(name, *map(str, words)),
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def start(self, slots=4):
        """Start a coordinator and an agent that stay until the test ends."""
        self.coordinator = self.popen("efctl", "coordinator")
        self.agent = self.popen("efctl", "agent", "--slots", slots)
        wait_until(self.documents.nodes, "a node to register", LONG)

    def end(self):
        """End what is still running: in order first, then for good."""
        for process in reversed(self.running):
            if process.poll() is None:
                process.terminate()
        for process in reversed(self.running):
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    # Jobs ------------------------------------------------------------------------------------

    @property
    def store(self):
        key = load_or_create_key(self.home / "cluster.key")
        return SignedStore(open_store(f"file://{self.home / 'store'}"), key)

    @property
    def documents(self):
        return Cluster(self.home, f"file://{self.home / 'store'}", store=self.store)

    def status(self, job):
        """Return a job's status document, {} while there is none."""
        named = [one for one in self.documents.jobs() if job in {one["job"], one["name"]}]
        return named[-1] if named else {}

    def wait_for(self, job, holds, what, timeout=LONG):
        """Wait until a condition on the job's status document holds; return the document."""

        def look():
            status = self.status(job)
            return status if status and holds(status) else None

        try:
            return wait_until(look, f"job {job}: {what}", timeout, poll=0.05)
        finally:
            self.last = self.status(job)

    def output(self, process):
        """Return what a process that ``popen`` started has printed so far."""
        return process.log.read_text(errors="replace")


@contextmanager
def living(folder):
    """Give a cluster with nothing started; fail if it leaves a process behind."""
    with leaving_no_process():
        live = LiveCluster(folder)
        try:
            yield live
        finally:
            live.end()


class Audit:
    """What the workers of ``scripts/paced.py`` wrote: samples of committed steps, and pids."""

    def __init__(self, folder, num_samples=1003, batch_size=64):
        self.num_samples, self.batch_size = num_samples, batch_size
        self.steps = defaultdict(list)
        self.members = defaultdict(dict)
        for file in sorted(Path(folder).glob("audit/*.jsonl")):
            for line in file.read_text().splitlines():
                record = json.loads(line)
                self.steps[record["step"]].extend(map(tuple, record["samples"]))
                self.members[record["generation"]][record["rank"]] = record["pid"]

    def world_sizes(self):
        """Return the world size of each generation, in order."""
        return [len(self.members[number]) for number in sorted(self.members)]

    def check(self, num_steps):
        """Every step has the batch, every epoch each sample once."""
        assert sorted(self.steps) == list(range(num_steps))
        assert {len(samples) for samples in self.steps.values()} == {self.batch_size}
        epochs = defaultdict(list)
        for samples in self.steps.values():
            for epoch, index in samples:
                epochs[epoch].append(index)
        for epoch in sorted(epochs)[:-1]:
            assert sorted(epochs[epoch]) == list(range(self.num_samples)), f"epoch {epoch}"
        last = epochs[max(epochs)]
        assert len(last) == len(set(last))
