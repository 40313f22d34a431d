"""The processes behind a command: starting a coordinator and an agent, asking and releasing them.

The coordinator's code is loaded when it is needed: commands that only read, or that refuse what
they were given, do without it.
"""

from __future__ import annotations

import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

import psutil
from filelock import FileLock, Timeout

from eflib.agent.process_tree import is_alive
from eflib.errors import CoordinatorUnreachableError, EflibError
from eflib.messages.codec import facts_of
from eflib.messages.inbox import make_request
from eflib.store import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eflib.coordinator.client import Client
    from eflib.launcher.documents import Cluster

TURN_SECONDS = 120.0
"""How long other commands may take to start a coordinator and submit, or to let one go."""
RELEASE_SECONDS = 15.0
"""How long an idle coordinator and agent may take to end: the agent looks once a second."""


class RequestSender(Protocol):
    """Asks the coordinator; see ``eflib.coordinator.client.Client``."""

    def request(self, kind: str, *, timeout: float = 20.0, **fields: object) -> dict[str, object]:
        """Ask, and return the answer, waiting within a bound."""


@contextmanager
def turn(cluster: Cluster) -> Iterator[None]:
    """Hold the right to submit to, or let go of, the coordinator of a home.

    Without it a coordinator that is let go could end between another command's look at it and that
    command's job.

    Raises:
        CoordinatorUnreachableError: Another command has held it for too long.
    """
    path = cluster.home / "launching.lock"
    lock = FileLock(path, timeout=TURN_SECONDS)
    try:
        lock.acquire()
    except Timeout as cause:
        raise CoordinatorUnreachableError(
            f"waited {TURN_SECONDS:g} s for another eflaunch to submit its job",
            hint=f"a stopped process may hold it; find it with: fuser {path}",
        ) from cause
    try:
        yield
    finally:
        lock.release()


def start(cluster: Cluster, *, slots: int | None = None) -> None:
    """See that a coordinator and an agent run, starting them in the background where none does.

    Raises:
        CoordinatorUnreachableError: It did not come up.
        StoreError: The store cannot be used.
    """
    from eflib.coordinator.process import ensure_running  # noqa: PLC0415 - see above

    ensure_running(cluster.home, store_url=cluster.store_url, slots=slots)


def need_coordinator(cluster: Cluster) -> None:
    """See that a coordinator is running before something is asked of it.

    Raises:
        CoordinatorUnreachableError: None is, as far as can be seen from here.
    """
    if cluster.coordinator() is None:
        raise CoordinatorUnreachableError(
            f"no coordinator is running for the store {cluster.store_url}",
            hint="start one with: efctl coordinator",
        )


def client(cluster: Cluster) -> RequestSender:
    """Return who asks the coordinator."""
    from eflib.coordinator.client import Client  # noqa: PLC0415 - see above

    return _CoordinatorRequests(Client(cluster.home, cluster.store_url))


class _CoordinatorRequests:
    """Makes requests of a command's words, and facts of the answers."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def request(self, kind: str, *, timeout: float = 20.0, **fields: object) -> dict[str, object]:
        """Ask, and return the answer."""
        reply = self._client.request(make_request(kind, **fields), timeout=timeout)
        return facts_of(reply)


def release(cluster: Cluster) -> None:
    """Let the coordinator and the agent that an eflaunch started end, if nobody else needs them.

    Returns once they have ended, so that a command leaves nothing running behind it; a coordinator
    that was started by hand, or has other jobs, stays. What goes wrong here is nobody's concern:
    idle, they end by themselves a little later.
    """
    record = cluster.coordinator()
    if record is None or not record.get("managed"):
        return
    here = socket.gethostname()
    local = [record, *cluster.nodes()]
    processes = [int(one["pid"]) for one in local if one.get("host") == here and one.get("pid")]
    with suppress(EflibError), turn(cluster):
        if client(cluster).request("release", timeout=RELEASE_SECONDS).get("stops"):
            wait_for(
                lambda: not any(_ends_by_itself(pid) for pid in processes),
                timeout=RELEASE_SECONDS,
                what="coordinator and agent to end",
            )


def _ends_by_itself(pid: int) -> bool:
    """Tell whether a process runs that was started to end when there is nothing to do."""
    try:
        process = psutil.Process(pid)
        is_managed = "--managed" in process.cmdline()
        return is_managed and is_alive(process)
    except psutil.Error:
        return False
