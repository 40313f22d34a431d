"""What the coordinator costs with many jobs: processor time, a restart, the size of its journal.

``python tests/benchmarks/coordinator_load.py [--ended N] [--live N] [--seconds N] [--smallest]``
starts a coordinator over a folder store and plays everybody else: jobs are submitted and cancelled
until there are enough ended ones; then live ones come to train on nodes whose agents and workers
are messages alone. The coordinator's processor time is taken while nothing happens but heartbeats,
and while every job reports every 5 s. Then it is killed and started again. The last line is one
JSON object; shares are of one core.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from eflib import home as places
from eflib.messages.generations import Generation
from eflib.messages.inbox import (
    Announce,
    Cancel,
    GivenCurve,
    NodeJoined,
    Rescale,
    Submit,
    Switched,
    WorkerReady,
)
from eflib.messages.records import Assignment, CoordinatorRecord, Heartbeat, NodeRecord, Progress
from eflib.messages.replies import Reply
from eflib.messages.status import JobStatus
from eflib.store import keys, open_store
from eflib.store.secret import load_or_create_key
from eflib.store.signed import SignedStore

SLOTS = 8  # of a node
REPORT_S = 5.0
STEPS_PER_S = 10.0
DAY_S = 86_400.0
BATCH = 500  # jobs that are submitted and cancelled at a time
BOUND_S = 1200.0  # for any phase


class Served:
    """A coordinator as a process of its own, what it costs, and requests to it."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        places.make_home(self.home)
        self.url = f"file://{folder / 'store'}"
        key = load_or_create_key(places.key_file(self.home))
        self.store = SignedStore(open_store(self.url), key)
        self._requests = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it; return the seconds until it has answered a request."""
        began = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "eflib.coordinator", "--store", self.url],
            env={**os.environ, "EFLIB_HOME": str(self.home)},
        )
        self.wait_for_answer()
        return time.perf_counter() - began

    def kill(self) -> None:
        """End it as a crash does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def seconds(self) -> float:
        """Return the processor time that it has used."""
        assert self._process is not None
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def share(self, seconds: float) -> float:
        """Return the share of a core that it uses for a while."""
        before, began = self.seconds(), time.perf_counter()
        time.sleep(seconds)
        return (self.seconds() - before) / (time.perf_counter() - began)

    def memory(self) -> int:
        """Return the bytes that it holds."""
        assert self._process is not None
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def journal_bytes(self) -> int:
        """Return the size of all that its memory is kept in."""
        files = places.journal_folder(self.home).rglob("*")
        return sum(file.stat().st_size for file in files if file.is_file())

    def request(self) -> str:
        """Return a new request's id."""
        self._requests += 1
        return f"load-{os.getpid()}-{self._requests}"

    def wait_for_answer(self) -> None:
        """Wait until all that was posted before is taken in."""
        request = self.request()
        self.store.post(keys.INBOX, Rescale(request=request, job="nobody"))
        self.answer(request)

    def answer(self, request: str) -> Reply:
        """Wait for the answer to a request."""
        end = time.monotonic() + BOUND_S
        while (reply := self.store.fetch(keys.reply(request), Reply)) is None:
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > end:
                raise SystemExit("coordinator_load: the coordinator does not answer")
            time.sleep(0.01)
        self.store.store.delete(keys.reply(request))
        return reply

    def submit(self, name: str, deadline: float | None = None) -> str:
        """Post a job whose curve is given; return the request."""
        request = self.request()
        message = Submit(
            request=request,
            name=name,
            script="/nowhere/train.py",
            argv=("--epochs", "3"),
            cwd="/nowhere",
            env={f"VARIABLE_{number}": "a value of some length" for number in range(30)},
            deadline=deadline,
            max_gpus=1,
            profile=GivenCurve({1: STEPS_PER_S}),
        )
        self.store.post(keys.INBOX, message)
        return request

    def end_jobs(self, number: int) -> None:
        """Submit and cancel so many jobs."""
        for first in range(0, number, BATCH):
            asked = [self.submit("ended") for _ in range(min(BATCH, number - first))]
            for request in asked:
                job = self.answer(request).job
                cancel = Cancel(request=self.request(), job=str(job))
                self.store.post(keys.INBOX, cancel)
        self.wait_for_answer()


class Load(Served):
    """A coordinator, and the nodes and workers that talk to it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.nodes: list[str] = []
        self.jobs: list[str] = []
        self.began: dict[str, float] = {}
        self._known: set[str] = set()
        self._stop = threading.Event()
        self._reporting = threading.Event()

    def join(self, number: int) -> None:
        """Let nodes with so many slots join."""
        self.nodes = [f"node-{index:04d}" for index in range(-(-number // SLOTS))]
        for node in self.nodes:
            record = NodeRecord(node=node, slots=SLOTS, host="nowhere", store_host="10.0.0.1")
            self.store.put(keys.node_record(node), record)
            self.store.put(keys.node_heartbeat(node), Heartbeat(1))
            self.store.post(keys.INBOX, NodeJoined(node=node))
        threading.Thread(target=self._beat, daemon=True).start()
        threading.Thread(target=self._report, daemon=True).start()

    def _beat(self) -> None:
        """Be the agents' heartbeats."""
        count = 1
        while not self._stop.wait(1.0):
            count += 1
            for node in self.nodes:
                self.store.put(keys.node_heartbeat(node), Heartbeat(count))

    def _report(self) -> None:
        """Be the ranks 0: each reports every few seconds, spread evenly."""
        while not self._stop.is_set():
            self._reporting.wait()
            began = time.monotonic()
            for number, job in enumerate(self.jobs):
                if self._stop.wait(
                    max(began + number * REPORT_S / len(self.jobs) - time.monotonic(), 0)
                ):
                    return
                steps = int((time.time() - self.began[job]) * STEPS_PER_S)
                told = Progress(
                    generation=1, global_step=steps, world_size=1, steps_per_s=STEPS_PER_S, loss=0.5
                )
                self.store.put(keys.job_progress(job), told)

    def train(self, number: int) -> None:
        """Let so many jobs come to train."""
        late = time.time() + 3 * DAY_S
        asked = [self.submit("live", late if n % 2 else None) for n in range(number)]
        self.jobs = [str(self.answer(request).job) for request in asked]
        end = time.monotonic() + BOUND_S
        while waiting := [job for job in self.jobs if job not in self.began]:
            self._play_workers()
            for job in waiting:
                if self._is_running(job):
                    self.began[job] = time.time()
            if time.monotonic() > end:
                raise SystemExit(f"coordinator_load: {len(waiting)} jobs do not come to train")
            time.sleep(0.2)

    def _play_workers(self) -> None:
        """Be each assigned worker: ready, then a member of its generation."""
        for node in self.nodes:
            assigned = self.store.fetch(keys.node_assignment(node), Assignment)
            for worker in assigned.workers if assigned is not None else ():
                if worker.worker not in self._known:
                    self._known.add(worker.worker)
                    announce = Announce(max_steps=int(DAY_S * STEPS_PER_S), global_batch_size=64)
                    ready = WorkerReady(job=worker.job, worker=worker.worker, announce=announce)
                    self.store.post(keys.INBOX, ready)
        for job in self.jobs:
            made = f"{job} entered"
            if made in self._known:
                continue
            if self.store.fetch(keys.generation(job, 1), Generation) is not None:
                self._known.add(made)
                switched = Switched(job=job, generation=1, step=0, from_=0, to=1, pause_s=0.1)
                self.store.post(keys.INBOX, switched)

    def _is_running(self, job: str) -> bool:
        status = self.store.fetch(keys.job_status(job), JobStatus)
        return status is not None and status.state == "RUNNING"

    def report(self) -> None:
        """Let every live job report every few seconds from now on."""
        self._reporting.set()

    def close(self) -> None:
        """End all."""
        self._stop.set()
        self._reporting.set()
        if self._process is not None and self._process.poll() is None:
            self.kill()


def list_seconds(load: Load) -> float:
    """Return how long ``efctl list`` takes."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "eflib.launcher.efctl", "list", "--store", load.url],
        env={**os.environ, "EFLIB_HOME": str(load.home)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - began


def measure(load: Load, *, ended: int, live: int, seconds: float) -> dict[str, float]:
    """Return all figures."""
    report: dict[str, float] = {"ended": ended, "live": live}
    load.start()
    began = time.perf_counter()
    load.end_jobs(ended)
    report["ending_s"] = time.perf_counter() - began
    load.join(live)
    began = time.perf_counter()
    load.train(live)
    report["training_s"] = time.perf_counter() - began
    time.sleep(2.0)
    report["idle_share"] = load.share(seconds)
    load.report()
    time.sleep(REPORT_S)
    report["reporting_share"] = load.share(seconds)
    report["journal_bytes"] = load.journal_bytes()
    report["memory_bytes"] = load.memory()
    report["list_s"] = list_seconds(load)
    load.kill()
    report["restart_s"] = load.start()
    assert load.store.fetch(keys.COORDINATOR, CoordinatorRecord) is not None
    return report


def main() -> None:
    """Print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ended", type=int, default=20_000)
    parser.add_argument("--live", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--smallest", action="store_true")
    args = parser.parse_args()
    if args.smallest:
        args.ended, args.live, args.seconds = 30, 5, 3.0
    folder = Path(tempfile.mkdtemp(prefix="eflib-load-"))
    load = Load(folder)
    try:
        report = measure(load, ended=args.ended, live=args.live, seconds=args.seconds)
    finally:
        load.close()
        shutil.rmtree(folder, ignore_errors=True)
    for name, value in report.items():
        print(f"{name:20} {value:14.3f}")
    print(json.dumps({name: round(value, 4) for name, value in report.items()}))


if __name__ == "__main__":
    main()
