"""Coordinator and agent as processes: in the foreground, or started beside eflaunch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import psutil
from filelock import FileLock, Timeout

from eflib import home as places
from eflib.coordinator import timeouts
from eflib.coordinator.coordinator import Coordinator, install_signals
from eflib.errors import CoordinatorUnreachableError, EflibError, StoreError, UsageError
from eflib.messages.records import CoordinatorRecord, NodeRecord
from eflib.store import keys, open_store, wait_for
from eflib.store.aside import Aside
from eflib.store.secret import load_or_create_key
from eflib.store.signed import SignedStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def run_coordinator(home: Path, *, store_url: str, managed: bool = False) -> None:
    """Be the coordinator in the foreground until SIGTERM or SIGINT.

    Raises:
        UsageError: Another coordinator runs with this home, or over this store.
        StoreError: Home or store cannot be used.
    """
    places.make_home(home)
    aside = Aside(places.aside_folder(home))
    key = load_or_create_key(places.key_file(home))
    store = SignedStore(open_store(store_url), key, aside=aside)
    coordinator = Coordinator(store, home, managed=managed)
    install_signals(coordinator)
    try:
        refuse_a_second(store)
        coordinator.run()
    finally:
        store.close()


def refuse_a_second(store: SignedStore, *, within: float = timeouts.OTHER) -> None:
    """See that no coordinator of another machine or home serves this store: two would disagree.

    Args:
        store: The cluster's.
        within: Seconds in which one that lives beats.

    Raises:
        UsageError: One beats.
        StoreError: One with another key does.
    """
    other = other_coordinator(store)
    if other is None:
        _refuse_another_key(store, within)
        return

    def beats() -> bool:
        record = other_coordinator(store)
        return record is not None and record.beats != other.beats

    try:
        wait_for(beats, timeout=within, what="a beat", poll=0.1, error=_NoBeatError)
    except _NoBeatError:
        return
    raise UsageError(
        f"a coordinator is already running on {other.host} (pid {other.pid}) for this store",
        hint="use it: efctl status --store ADDRESS",
    )


def _refuse_another_key(store: SignedStore, within: float) -> None:
    """See that nobody who beats without our key serves this store; garbage does not beat."""
    first = store.store.get(keys.COORDINATOR)
    if first is None or store.read(keys.COORDINATOR, first, CoordinatorRecord) is not None:
        return

    def beats() -> bool:
        value = store.store.get(keys.COORDINATOR)
        return value not in (None, first)

    try:
        wait_for(beats, timeout=within, what="a beat", poll=0.1, error=_NoBeatError)
    except _NoBeatError:
        return
    raise StoreError(
        f"a coordinator with another key is running for the store {store.store.url}",
        hint="use one EFLIB_HOME, or the same key file, on every node",
    )


class _NoBeatError(EflibError):
    """The other coordinator is dead."""


def other_coordinator(store: SignedStore) -> CoordinatorRecord | None:
    """Return the record of a coordinator that may run on another machine, or in another home.

    On this machine its process is looked for; one elsewhere is believed until it says goodbye.
    """
    record = store.fetch(keys.COORDINATOR, CoordinatorRecord)
    if record is None or record.stopped:
        return None
    is_here = record.host == socket.gethostname()
    is_gone = record.pid == os.getpid() or not _is_eflib(record.pid)
    return None if is_here and is_gone else record


def is_coordinator_alive(home: Path) -> bool:
    """Tell whether a coordinator holds this home's lock."""
    lock = places.coordinator_lock(home)
    if not lock.exists():
        return False
    try:
        with FileLock(lock).acquire(timeout=timeouts.PROBE, poll_interval=0.01):
            return False
    except Timeout:
        return True


def find_agent(store: SignedStore) -> bool:
    """Tell whether a node of the cluster has an agent: one of this machine is looked for."""
    for key in store.list(keys.NODES):
        if keys.last_part(key) != "record":
            continue
        record = store.fetch(key, NodeRecord)
        if record is None:
            continue
        if record.host != socket.gethostname() or _is_eflib(record.pid):
            return True
    return False


def _is_eflib(pid: int) -> bool:
    try:
        words = psutil.Process(pid).cmdline()
        return any("eflib" in word or "efctl" in word for word in words)
    except psutil.Error:
        return False


def ensure_running(home: Path, *, store_url: str, slots: int | None) -> None:
    """Start a coordinator and an agent in the background where the cluster has none.

    Both end by themselves when there is nothing to do. Several calls at once start one of each.

    Args:
        home: The folder of eflib's state.
        store_url: Where the store is.
        slots: CPU slots for an agent that has to be started; None for GPUs or CPUs as found.

    Raises:
        CoordinatorUnreachableError: One was started and did not come up; names its log.
        StoreError: Home or store cannot be used.
    """
    places.make_home(home)
    store = SignedStore(open_store(store_url), load_or_create_key(places.key_file(home)))
    try:
        with _starting(home):
            waits = []
            if not _is_served(home, store):
                waits.append(_start_coordinator(home, store_url))
            if not find_agent(store):
                waits.append(_start_agent(home, store_url, slots, store))
            for wait in waits:
                wait()
    finally:
        store.close()


def _is_served(home: Path, store: SignedStore) -> bool:
    """Tell whether the cluster has a coordinator, having waited for one that is just leaving."""
    if other_coordinator(store) is not None:
        return True

    def has_come_or_gone() -> bool:
        record = store.fetch(keys.COORDINATOR, CoordinatorRecord)
        return not (record and record.stopped) or not is_coordinator_alive(home)

    wait_for(
        has_come_or_gone,
        timeout=timeouts.START,
        what="the last coordinator to end",
        error=CoordinatorUnreachableError,
    )
    return is_coordinator_alive(home)


@contextmanager
def _starting(home: Path) -> Iterator[None]:
    lock = home / "starting.lock"
    try:
        with FileLock(lock).acquire(timeout=timeouts.START):
            yield
    except Timeout:
        raise StoreError(
            f"another eflaunch has held {lock} for {timeouts.START:g} s", hint="try again"
        ) from None


def _start_coordinator(home: Path, store_url: str) -> Callable[[], None]:
    """Start a coordinator; the returned call waits until it is up."""
    log = places.coordinator_log(home)
    process = _start("eflib.coordinator", ["--store", store_url, "--managed"], home, log)
    return partial(_wait, partial(is_coordinator_alive, home), process, "coordinator", log)


def _start_agent(
    home: Path, store_url: str, slots: int | None, store: SignedStore
) -> Callable[[], None]:
    """Start an agent; the returned call waits until it is registered."""
    node = socket.gethostname()
    log = places.agent_log(home, node)
    words = ["--store", store_url, "--key-file", str(places.key_file(home)), "--node", node]
    words += ["--home", str(home), "--managed"]
    if slots is not None:
        words += ["--slots", str(slots)]
    process = _start("eflib.agent", words, home, log)

    def is_up() -> bool:
        record = store.fetch(keys.node_record(node), NodeRecord)
        return record is not None and record.pid == process.pid

    return partial(_wait, is_up, process, "agent", log)


def _wait(
    is_up: Callable[[], bool], process: subprocess.Popen[bytes], what: str, log: Path
) -> None:
    end = time.monotonic() + timeouts.START
    while not is_up():
        _check(process, what, log, end)
        time.sleep(0.01)


def _start(module: str, words: list[str], home: Path, log: Path) -> subprocess.Popen[bytes]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", module, *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=home,
            env={**os.environ, "EFLIB_HOME": str(home)},
        )


def _check(process: subprocess.Popen[bytes], what: str, log: Path, end: float) -> None:
    if process.poll() is not None:
        raise CoordinatorUnreachableError(
            f"the {what} ended at its start with status {process.returncode}",
            detail="\n".join(_tail(log)),
            hint=f"see {log}",
        )
    if time.monotonic() > end:
        process.terminate()
        raise CoordinatorUnreachableError(
            f"the {what} did not come up in {timeouts.START:g} s",
            detail="\n".join(_tail(log)),
            hint=f"see {log}",
        )


def _tail(log: Path, num_lines: int = 5) -> list[str]:
    return log.read_text(errors="replace").splitlines()[-num_lines:]
