"""A real job that a test disturbs: who its workers are just now, and when it trains again."""

import os
import signal
from contextlib import suppress
from pathlib import Path

from eflib.messages.generations import Generation
from eflib.messages.inbox import Rescale, new_request
from eflib.store import keys
from tests.helpers.clusters import LONG
from tests.helpers.processes import wait_until
from tests.helpers.raw import Raw
from tests.helpers.trail import Trail

SCRIPT = Path(__file__).parent / "scripts" / "audited.py"
CURVE = '{"model": "audited", "points": {"1": 15, "2": 28, "4": 48}}'


class WatchedJob:
    """A job that runs ``scripts/audited.py`` on a live cluster.

    Args:
        cluster: A ``LiveCluster`` with a coordinator and agents.
        folder: Where the job's files go.
        name: Its name.
        words: Arguments of the script.
        pace: Seconds per step.
        launch: Options of eflaunch.
    """

    def __init__(self, cluster, folder, name, *words, pace=0.05, launch=()):
        self.cluster, self.name, self.out = cluster, name, Path(folder) / name
        (self.out / "faults").mkdir(parents=True)
        self.set_pace(pace)
        (self.out / "curve.json").write_text(CURVE)
        self.store = cluster.store
        self.launched = cluster.popen(
            "eflaunch", "--name", name, "--profile", self.out / "curve.json", *launch, SCRIPT,
            "--out", self.out, *words,
        )  # fmt: skip
        found = cluster.wait_for(name, lambda status: status["job"], "to be submitted")
        self.job = found["job"]

    def set_pace(self, seconds, limit=0, held=None):
        """Set the seconds per step; from step ``limit`` on they are ``held``."""
        words = f"{seconds} {limit} {seconds if held is None else held}"
        (self.out / "pace.new").write_text(words)
        (self.out / "pace.new").rename(self.out / "pace")

    # Who and where ---------------------------------------------------------------------------

    def generation(self, number):
        """Return a generation's record, or None."""
        return self.store.fetch(keys.generation(self.job, number), Generation)

    def newest(self):
        """Return the newest generation's record; None before there is one."""
        numbers = [int(keys.last_part(key)) for key in self.store.list(keys.generations(self.job))]
        return self.generation(max(numbers)) if numbers else None

    def pid(self, worker):
        """Return a worker's process; None before it has begun to run its script."""
        with suppress(OSError, ValueError):
            return int((self.out / "pids" / worker).read_text())
        return None

    def workers(self):
        """Return all workers that ever began, oldest first."""
        names = [file.name for file in (self.out / "pids").glob("[!.]*")]
        return sorted(names, key=lambda one: int(one.rpartition(".")[2]))

    def members(self):
        """Return (worker, pid) of the newest generation's members, in rank order."""
        newest = self.newest()
        return [(one.worker, self.pid(one.worker)) for one in newest.members] if newest else []

    def progress(self):
        """Return what rank 0 said last, {} before it did."""
        return Raw(self.store).fetch(keys.job_progress(self.job)) or {}

    def committed(self):
        """Return the newest generation that committed a step, and how many steps there are."""
        with suppress(OSError):
            generation, steps = (self.out / "committed").read_text().split()
            return int(generation), int(steps)
        return 0, 0

    def status(self):
        return self.cluster.status(self.job)

    def told(self):
        """Return the job's story as lines."""
        return [one["text"] for one in self.status()["story"]]

    def trail(self):
        return Trail(self.out)

    def logs(self):
        """Return all that the workers wrote, for a message."""
        folder = Path(self.status()["log_dir"])
        return "\n".join(
            f"== {file.relative_to(folder)}\n{file.read_text(errors='replace')}"
            for file in sorted(folder.rglob("*.log"))
        )


class DisturbedJob(WatchedJob):
    """A job to which things happen, and what they lead to; arguments as for ``WatchedJob``."""

    def ask_to_fail(self, pid, word):
        """Let a worker do in its next step what ``fail_if_asked`` in the script has a word for."""
        file = self.out / "faults" / str(pid)
        file.with_suffix(".new").write_text(word)
        file.with_suffix(".new").rename(file)

    def ask_for_size(self, size):
        """Post an operator's request, without waiting for the answer."""
        wish = Rescale(request=new_request(), job=self.job, num_gpus=size)
        self.store.post(keys.INBOX, wish)

    def signal(self, pid, number=signal.SIGKILL):
        """Send a signal; returns False if there is no such process any more."""
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    # Waiting ---------------------------------------------------------------------------------

    def wait_commit(self, after, timeout=LONG):
        """Wait for a step that is committed after a moment; returns when it was."""
        return wait_until(
            lambda: self.trail().first_commit_after(after), "a committed step", timeout, poll=0.02
        )

    def has_size(self, size):
        """Return the newest generation's number once it has a size and has committed a step."""
        assert self.launched.poll() is None, self.cluster.output(self.launched)
        newest = self.newest()
        same = newest and newest.number == self.committed()[0]
        return same and newest.world_size == size and newest.number

    def wait_size(self, size, timeout=LONG):
        """Wait for ``has_size``; returns what it does."""
        what = f"{size} workers of job {self.name}"
        return wait_until(lambda: self.has_size(size), what, timeout, poll=0.02)

    def had_size(self, size, after):
        """Return the first later generation that had a size and was passed on or has committed."""
        assert self.launched.poll() is None, self.cluster.output(self.launched)
        for number in range(after + 1, self.committed()[0] + 1):
            one = self.generation(number)
            if one is not None and one.world_size == size:
                return number
        return None

    def wait_had_size(self, size, after, timeout=LONG):
        """Wait for ``had_size``: whoever was lost may be replaced before anybody looks."""
        what = f"{size} workers of job {self.name} after generation {after}"
        return wait_until(lambda: self.had_size(size, after), what, timeout, poll=0.02)

    def wait_end(self, timeout=LONG):
        """Wait for the end of eflaunch; returns its exit status and its last line."""
        status = self.launched.wait(timeout=timeout)
        lines = self.cluster.output(self.launched).strip().splitlines()
        return status, lines[-1] if lines else ""

    def finish(self, timeout=LONG):
        """Let the job end after its current step; returns what ``wait_end`` does."""
        (self.out / "finish").touch()
        self.set_pace(0.01)
        return self.wait_end(timeout)
