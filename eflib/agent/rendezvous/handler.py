"""torchrun's rendezvous over an eflib store.

``torchrun --rdzv-backend=eflib --rdzv-endpoint=/shared/folder --rdzv-id=job --nnodes=1:4 train.py``
needs no server and no free port: a folder that the nodes share is enough, and ``tcp://host:port``
works as well. Settings, by ``--rdzv-conf name=value,...``:

| name | default | what |
|---|---|---|
| ``key_file`` | ``cluster.key`` in the folder, made where it is missing | the key of the messages |
| ``join_timeout`` | 600 | seconds a node waits for a generation, then torchrun ends |
| ``last_call_timeout`` | 5 | seconds without a newcomer after which a generation is formed |
| ``keep_alive_interval`` | 3 | seconds between two signs of life |
| ``keep_alive_max_attempt`` | 5 | signs of life that a node may miss |
"""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]
from torch.distributed.elastic.rendezvous import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    RendezvousTimeoutError,
)

from eflib.agent.process import default_host
from eflib.agent.rendezvous.gathering import Bounds, Liveness, Quiet, busy, next_members
from eflib.agent.rendezvous.heartbeat import HeartbeatThread
from eflib.agent.rendezvous.meeting import Meeting, NodeGeneration
from eflib.errors import EflibError, StoreError, UsageError
from eflib.store import SignedStore, load_key, load_or_create_key, open_store, wait_for
from eflib.store.patient import PatientStore

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from eflib.messages.rendezvous import Participant

    Nodes = dict[str, Participant]

BACKEND = "eflib"
POLL_SECONDS = 0.1
COUNT_SECONDS = 0.5
"""How old the number of waiting nodes may be: torchrun asks ten times a second."""
CONNECT_SECONDS = 60.0
"""How long rank 0 may take to say where its store is."""

_log = logging.getLogger(__name__)


def create_handler(params: RendezvousParameters) -> RendezvousHandler:
    """Return the handler for torchrun's parameters.

    Raises:
        RendezvousConnectionError: The store or its key cannot be used.
        ValueError: A setting cannot be read.
    """
    if not params.endpoint:
        raise ValueError("give --rdzv-endpoint: a folder that the nodes share, or tcp://host:port")
    bounds = Bounds(params.min_nodes, params.max_nodes, _seconds(params, "last_call_timeout", 5.0))
    interval = _seconds(params, "keep_alive_interval", 3.0)
    attempts = params.get_as_int("keep_alive_max_attempt", 5) or 1
    try:
        # The heartbeat's is not patient: who leaves waits for its last write.
        stores = [_open(params, is_patient=is_patient) for is_patient in (True, False)]
    except EflibError as error:
        raise RendezvousConnectionError(error.render()) from error
    return StoreRendezvous(
        params.run_id,
        bounds,
        [Meeting(store, params.run_id) for store in stores],
        address=params.local_addr or _address(stores[0].store.url),
        liveness=Liveness(interval * attempts),
        interval=interval,
        join_timeout=_seconds(params, "join_timeout", 600.0),
    )


class StoreRendezvous(RendezvousHandler):
    """One node's side of the rendezvous.

    Args:
        run: The job, as torchrun names it.
        bounds: How many nodes a generation has.
        meetings: Two connections to the place where they meet: ours, and our heartbeat's.
        address: Where other nodes reach this one.
        liveness: Who is alive.
        interval: Seconds between two signs of life.
        join_timeout: How long to wait for a generation, in seconds.
    """

    def __init__(  # noqa: PLR0913 - all by name, from create_handler alone
        self,
        run: str,
        bounds: Bounds,
        meetings: list[Meeting],
        *,
        address: str,
        liveness: Liveness,
        interval: float,
        join_timeout: float,
    ) -> None:
        self._run = run
        self._bounds = bounds
        self._meeting = meetings[0]
        self._liveness = liveness
        self._join_timeout = join_timeout
        self._node = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._heartbeat = HeartbeatThread(meetings[1], self._node, address, interval)
        self._generation = NodeGeneration()
        self._served: TCPStore | None = None
        self._words: Nodes = {}
        self._count = 0
        self._count_due = 0.0

    @property
    def use_agent_store(self) -> bool:
        """Workers use the store of rank 0's agent: a new one in each generation."""
        return True

    def get_backend(self) -> str:
        """Return the name under which torchrun finds this."""
        return BACKEND

    def get_run_id(self) -> str:
        """Return the job, as torchrun names it."""
        return self._run

    def is_closed(self) -> bool:
        """Tell whether no further generation will be formed."""
        with _explained():
            return self._meeting.is_closed()

    def set_closed(self) -> None:
        """Say that no further generation will be formed."""
        with _explained():
            self._meeting.close(self._node)

    def num_nodes_waiting(self) -> int:
        """Return how many nodes wait for a place that there is; torchrun then forms anew.

        Also 1 when a later generation was formed without us: we were taken for dead, and must not
        train on beside it.
        """
        now = time.monotonic()
        if now >= self._count_due:
            self._count_due = now + COUNT_SECONDS
            try:
                self._count = self._count_waiting(now)
            except StoreError as error:
                _log.warning("training on without the rendezvous: %s", error.problem)
        return self._count

    def shutdown(self) -> bool:
        """Close the run and leave it; True if the others could be told."""
        try:
            self._meeting.close(self._node)
        except StoreError as error:
            _log.warning("the rendezvous could not be closed: %s", error.problem)
            return False
        finally:
            self._heartbeat.stop()
        return True

    def next_rendezvous(self) -> RendezvousInfo:
        """Wait for the next generation with this node in it.

        Raises:
            RendezvousClosedError: The run has ended.
            RendezvousConnectionError: The store cannot be used.
            RendezvousTimeoutError: No generation was formed in time.
        """
        end = time.monotonic() + self._join_timeout
        with _explained():
            if self._generation.number == 0:
                self._reopen(end)
            self._heartbeat.say(waiting=True)
            generation = self._gather(end)
            self._heartbeat.say(waiting=False)
            self._generation = generation
            self._count = 0
            return self._enter(generation)

    def _reopen(self, end: float) -> None:
        """Open a run that an earlier use of the same name has closed, if nobody is left of it."""
        while self._meeting.is_closed():
            if not self._alive(time.monotonic()) - {self._node}:
                self._meeting.reopen()
                return
            if time.monotonic() >= min(end, self._heartbeat.started + self._liveness.keep_alive):
                raise RendezvousClosedError(f"run {self._run!r} has ended, or is about to")
            time.sleep(POLL_SECONDS)

    def _gather(self, end: float) -> NodeGeneration:
        quiet = Quiet()
        while True:
            now = time.monotonic()
            newest = self._meeting.newest()
            if newest.number > self._generation.number and self._node in newest.members:
                return newest
            if self._meeting.is_closed():
                raise RendezvousClosedError(f"run {self._run!r} has ended")
            living = self._alive(now)
            waiting = {node for node, words in self._words.items() if words.waiting} & living
            training = busy(newest.members, waiting, living)
            members = None
            if not training:
                members = next_members(
                    newest.members, waiting, self._bounds, quiet.seconds(waiting, now)
                )
            if members and members[0] == self._node:
                self._meeting.form(NodeGeneration(newest.number + 1, members))
                continue
            if now >= end:
                raise RendezvousTimeoutError(self._story(waiting, training))
            time.sleep(POLL_SECONDS)

    def _story(self, waiting: Collection[str], training: Collection[str]) -> str:
        least, most = self._bounds.min_nodes, self._bounds.max_nodes
        story = (
            f"run {self._run!r} formed no generation in {self._join_timeout:g} s: "
            f"{len(waiting)} nodes wait of {least} to {most}"
        )
        return f"{story}, and {len(training)} train" if training else story

    def _alive(self, now: float) -> frozenset[str]:
        self._words = self._meeting.nodes()
        beats = {node: words.beat for node, words in self._words.items()}
        return self._liveness.alive(beats, now)

    def _count_waiting(self, now: float) -> int:
        newest = self._meeting.newest()
        if newest.number > self._generation.number:
            return 1
        living = self._alive(now)
        members = living & set(newest.members)
        waiting = [n for n in living - members if self._words[n].waiting]
        return len(waiting) if len(members) < self._bounds.max_nodes else 0

    def _enter(self, generation: NodeGeneration) -> RendezvousInfo:
        """Serve or find the generation's own store: no key of an older one is ever seen in it."""
        rank = generation.members.index(self._node)
        if rank == 0:
            host = self._heartbeat.address
            if len({self._host_of(node) for node in generation.members}) == 1:
                host = "127.0.0.1"
            self._served = TCPStore(host, 0, is_master=True, wait_for_workers=False)
            self._meeting.publish_store(generation.number, host, self._served.port)
            store = self._served
            port = store.port
        else:
            host, port = self._find_store(generation)
            store = _connect(host, port)
        return RendezvousInfo(
            PrefixStore(f"eflib/{generation.number}", store),
            rank,
            len(generation.members),
            RendezvousStoreInfo(host, port),
        )

    def _host_of(self, node: str) -> str:
        return node.rpartition("-")[0].rpartition("-")[0]

    def _find_store(self, generation: NodeGeneration) -> tuple[str, int]:
        try:
            return wait_for(
                lambda: self._meeting.find_store(generation.number),
                timeout=CONNECT_SECONDS,
                what=f"rank 0 of generation {generation.number} of run {self._run!r} "
                f"({generation.members[0]}) to open its store",
                poll=POLL_SECONDS,
                error=_NotInTimeError,
            )
        except _NotInTimeError as error:
            raise RendezvousTimeoutError(error.problem) from error


class _NotInTimeError(EflibError):
    """What was waited for did not come."""


def _connect(host: str, port: int) -> TCPStore:
    bound = timedelta(seconds=CONNECT_SECONDS)
    try:
        return TCPStore(host, port, is_master=False, timeout=bound)
    except RuntimeError as cause:
        raise RendezvousConnectionError(
            f"cannot reach rank 0's store at {host}:{port} in {CONNECT_SECONDS:g} s: "
            "check that no firewall is in the way, or give rank 0 another --local-addr"
        ) from cause


@contextmanager
def _explained() -> Iterator[None]:
    """Turn a store's error into the one that torchrun expects."""
    try:
        yield
    except StoreError as error:
        raise RendezvousConnectionError(error.render()) from error


def _open(params: RendezvousParameters, *, is_patient: bool) -> SignedStore:
    store = open_store(params.endpoint)
    store = PatientStore(store) if is_patient else store
    given = params.get("key_file") or os.environ.get("EFLIB_KEY_FILE")
    if given:
        return SignedStore(store, load_key(given))
    if store.url.startswith("tcp:"):
        raise UsageError(
            "a TCP store needs the cluster's key", hint="give --rdzv-conf key_file=/path/to/key"
        )
    return SignedStore(store, load_or_create_key(Path(store.url) / "cluster.key"))


def _address(store_url: str) -> str:
    """Return where nodes that share a folder reach this one: by its name, if that means anything.

    On one host it does not matter: its nodes use the loopback address among themselves.
    """
    if store_url.startswith("tcp:"):
        return default_host(store_url)
    name = socket.gethostname()
    with suppress(OSError):
        return str(socket.gethostbyname(name))
    return name


def _seconds(params: RendezvousParameters, name: str, default: float) -> float:
    value = params.get(name, default)
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = 0.0
    if seconds <= 0:
        raise ValueError(f"--rdzv-conf {name} must be a number of seconds, not {value!r}")
    return seconds
