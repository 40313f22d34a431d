"""What a worker tells the cluster: progress, rescales, measured speed; and where its log goes."""

from __future__ import annotations

import heapq
import os
import statistics
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from eflib.errors import StoreError
from eflib.messages.codec import InvalidMessageError
from eflib.store import keys
from eflib.trainer import timeouts
from eflib.trainer.console import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from eflib.messages.inbox import Finished, Measured, Switched
    from eflib.messages.records import Progress
    from eflib.store.signed import SignedStore

WARM_UP_STEPS = 2  # steps after a rescale that do not count: allocators and caches fill
MEASURED_STEPS = 8  # a measurement has at least this many steps and
MEASURED_SECONDS = 1.0  # this many seconds, but for slow models at most
MEASURED_SECONDS_MOST = 5.0
ISOLATED = 4.0  # a step that takes so many times the next longest recent one is a stall


class Measurement(NamedTuple):
    """What a profiling run says of one world size.

    Attributes:
        steps_per_s: By the median step.
        spread: Distance of the quartiles of the step times over their median.
        cpu_s: Processor seconds of this process for a step, on average.
        steps: How many steps were counted.
        seconds: How long they took together.
    """

    steps_per_s: float
    spread: float
    cpu_s: float
    steps: int
    seconds: float


class StepClock:
    """Measures the speed of the steps of one generation."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=256)
        self.restart()

    def restart(self) -> None:
        """Begin a generation: what came before does not count."""
        self._times.clear()
        self._skipped = 0
        self._num_steps = 0
        self._last = self._begin = time.perf_counter()
        self._cpu_begin = time.process_time()

    def tick(self) -> None:
        """Note that a step ended."""
        now = time.perf_counter()
        if self._skipped < WARM_UP_STEPS:
            self._skipped += 1
            self._begin, self._cpu_begin = now, time.process_time()
        else:
            self._times.append(now - self._last)
            self._num_steps += 1
        self._last = now

    def steps_per_s(self) -> float | None:
        """Return the mean speed of the recent steps, or None before there are any.

        One stall among them does not count: a late sample, a machine that was busy with something
        else. What comes again does, since it will keep coming: validation, checkpoints.
        """
        total, count = sum(self._times), len(self._times)
        longest = heapq.nlargest(2, self._times)
        if count > 1 and longest[0] > ISOLATED * longest[1]:
            total, count = total - longest[0], count - 1
        return count / total if total > 0 else None

    def measured(self) -> Measurement | None:
        """Return the speed once enough steps are in, else None."""
        seconds = self._last - self._begin
        enough = self._num_steps >= MEASURED_STEPS and seconds >= MEASURED_SECONDS
        if self._num_steps < 2 or not (enough or seconds >= MEASURED_SECONDS_MOST):
            return None
        low, middle, high = statistics.quantiles(self._times, n=4)
        return Measurement(
            steps_per_s=1 / middle,
            spread=(high - low) / middle,
            cpu_s=(time.process_time() - self._cpu_begin) / self._num_steps,
            steps=self._num_steps,
            seconds=seconds,
        )


class Machine(NamedTuple):
    """What a curve depends on beside script, model and batch.

    Attributes:
        device: The GPU's name, or the number of cores.
        cores: Cores of a CPU; None on a GPU.
        threads: Threads of this process; None on a GPU.
    """

    device: str
    cores: int | None = None
    threads: int | None = None


def machine(device: torch.device) -> Machine:
    """Return what a curve depends on beside script, model and batch."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return Machine("-".join(name.lower().split()))
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return Machine(f"{device.type}-{cores}-cores", cores, torch.get_num_threads())


def memory_bytes(device: torch.device) -> int | None:
    """Return a GPU's most used memory since the last call, or what this process holds now."""
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return peak
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


class Reporter:
    """Writes a job's progress from a thread of its own, and looks out for newer generations.

    Args:
        store: The cluster's store.
        job: The job's id.
        snapshot: Returns the progress document of this moment; called on the thread.
        look: Looks for a newer generation; called on the thread, often.
    """

    def __init__(
        self,
        store: SignedStore,
        job: str,
        *,
        snapshot: Callable[[], Progress | None],
        look: Callable[[], None],
    ) -> None:
        self._store = store
        self._job = job
        self._snapshot = snapshot
        self._look = look
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="eflib-reporter", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def post(self, message: Switched | Measured | Finished) -> None:
        """Send a message to the coordinator."""
        self._store.post(keys.INBOX, message)

    def write_progress(self) -> None:
        """Write the progress document now; nothing is written by ranks other than 0."""
        document = self._snapshot()
        if document is not None:
            self._store.put(keys.job_progress(self._job), document)

    def close(self) -> None:
        """End the thread, which takes at most one poll and one write."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _run(self) -> None:
        due = time.monotonic() + timeouts.REPORT
        while not self._stop.wait(timeouts.POLL):
            try:
                self._look()
                if time.monotonic() >= due:
                    due = time.monotonic() + timeouts.REPORT
                    self.write_progress()
            except (StoreError, InvalidMessageError) as error:
                say(f"{error.problem}; training continues")
                self._stop.wait(1.0)


def redirect_output(log_dir: str, generation: int, rank: int) -> None:
    """Let this process's output go on in ``<log_dir>/<generation>/<rank>.log``."""
    file = Path(log_dir) / str(generation) / f"{rank}.log"
    file.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
