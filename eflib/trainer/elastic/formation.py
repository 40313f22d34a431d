"""The process group of a generation: formed under a prefix of its own, left without waiting."""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch.distributed import HashStore, PrefixStore, TCPStore  # type: ignore[attr-defined]

from eflib import env
from eflib.trainer import timeouts
from eflib.trainer.collectives import PeerLostError, from_peers
from eflib.trainer.elastic.interrupt import interrupted_when, sockets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class SupersededError(Exception):
    """A newer generation appeared while this one was being formed."""


class MissingMembersError(Exception):
    """Not all members came within the bound; ``workers`` are their ids."""

    def __init__(self, problem: str, workers: list[str]) -> None:
        super().__init__(problem)
        self.workers = workers


class EndpointGoneError(Exception):
    """Nobody listens any more where a generation should meet: the agent there is gone."""


@dataclass(frozen=True)
class Endpoint:
    """Where a generation's members meet: a TCP store and a prefix nobody used before."""

    host: str
    port: int
    prefix: str


_LONG_PAUSE = 0.01  # seconds between two looks for those who have not come
_LATE_PAUSE = 0.1  # the same, once they are late
_LATE = 2.0


_NO_WAY = frozenset(
    {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.EADDRNOTAVAIL}
)


def _probe(host: str, port: int) -> None:
    """Find out at once that nobody listens: torch would try again until its bound passes.

    Raises:
        EndpointGoneError: The machine answers, and nobody listens there: the agent has ended.
        PeerLostError: There is no way to it at the moment. Whether the agent is gone is for its
            heartbeat to say.
        OSError: This process cannot make a connection.
    """
    try:
        socket.create_connection((host, port), timeout=timeouts.CONNECT).close()
    except ConnectionRefusedError as cause:
        raise EndpointGoneError(f"nobody listens at {host}:{port} ({cause})") from None
    except OSError as cause:
        is_away = isinstance(cause, (ConnectionError, TimeoutError, socket.gaierror))
        if not is_away and cause.errno not in _NO_WAY:
            raise
        problem = f"no way to {host}:{port} ({cause})"
    else:
        return
    raise PeerLostError(problem)


class GroupKeeper:
    """Owns torch's default process group: one at a time, older ones parked.

    A group that is left is parked, not destroyed: closing a gloo group takes about 10 ms for each
    peer. Parked groups are dropped a few steps later, by ``drop_parked``.

    Args:
        device: Where the model lives; chooses gloo, or gloo and nccl.
    """

    def __init__(self, device: torch.device) -> None:
        self._backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        self._stores: dict[tuple[str, int], TCPStore] = {}
        self._parked: list[object] = []
        self._meeting: PrefixStore | None = None
        self.links: frozenset[int] = frozenset()
        """The sockets of the current group; any thread may hand them to ``end_links``."""

    def form(
        self,
        endpoint: Endpoint,
        members: list[str],
        rank: int,
        *,
        superseded: Callable[[], bool],
        gone: Callable[[list[str]], list[str]],
    ) -> None:
        """Wait until all members are here, then make the group.

        Args:
            endpoint: Where the members meet.
            members: Worker ids in rank order.
            rank: This worker's rank.
            superseded: True once a newer generation exists.
            gone: Returns those of the given workers that have ended.

        Raises:
            SupersededError: A newer generation came meanwhile.
            MissingMembersError: Somebody ended, or did not come within ``timeouts.PRESENT``.
            EndpointGoneError: The agent at the endpoint is gone.
            PeerLostError: torch could not connect the members, or their store is gone.
        """
        store = self._meet(endpoint)
        from_peers(lambda: store.set(f"present/{rank}", "1"))
        everybody = range(len(members))
        begin = time.monotonic()
        pause = 0.0005
        while self._without(store, "present", everybody):
            if superseded():
                raise SupersededError
            waited = time.monotonic() - begin
            if pause >= _LONG_PAUSE:  # not at once: looking at exits takes longer than most waits
                absent = [members[one] for one in self._without(store, "present", everybody)]
                missing = absent if waited > timeouts.PRESENT else gone(absent)
                if missing:
                    raise MissingMembersError(
                        f"{missing} did not come to {endpoint.prefix} in {waited:.1f} s", missing
                    )
            time.sleep(pause)
            pause = _LATE_PAUSE if waited > _LATE else min(pause * 1.5, _LONG_PAUSE)
        if superseded():
            raise SupersededError
        self._connect_members(
            PrefixStore("group", store),
            rank,
            len(members),
            endpoint.port,
            is_lost=lambda: superseded() or bool(gone(members)),
        )

    def _connect_members(
        self,
        store: PrefixStore,
        rank: int,
        world_size: int,
        store_port: int,
        *,
        is_lost: Callable[[], bool],
    ) -> None:
        """Make the group.

        Its timeout is the one of all its operations: gloo takes no other later. So it is too long
        for connecting, which is ended from outside.

        Raises:
            PeerLostError: torch could not connect the members.
        """
        before = set(sockets())
        end = time.monotonic() + timeouts.GROUP
        try:
            with (
                _keep_excepthook(),
                interrupted_when(
                    lambda: is_lost() or time.monotonic() > end,
                    store_port=store_port,
                    world_size=world_size,
                ),
            ):
                from_peers(
                    lambda: dist.init_process_group(
                        self._backend,
                        store=store,
                        rank=rank,
                        world_size=world_size,
                        timeout=timedelta(seconds=timeouts.COLLECTIVE),
                    )
                )
        except PeerLostError:
            _forget_attempt()
            raise
        self.links = frozenset(sockets()) - before

    def _meet(self, endpoint: Endpoint) -> PrefixStore:
        """Return the store of a generation; a connection that has died is made anew."""
        address = (endpoint.host, endpoint.port)
        try:
            store = self.connect(*address)
            from_peers(lambda: store.check([endpoint.prefix]))
        except PeerLostError:
            self._stores.pop(address, None)
            self.connect(*address)
        self._meeting = PrefixStore(endpoint.prefix, self._stores[address])
        return self._meeting

    @staticmethod
    def _without(store: PrefixStore, word: str, ranks: Iterable[int]) -> list[int]:
        """Return the ranks that have not left a word in the generation's store."""
        keys = {rank: f"{word}/{rank}" for rank in ranks}
        if from_peers(lambda: store.check(list(keys.values()))):
            return []
        return [rank for rank, key in keys.items() if not from_peers(partial(store.check, [key]))]

    @property
    def meeting(self) -> PrefixStore | None:
        """The store at which the current generation meets; None where there is none."""
        return self._meeting

    def say_done(self, rank: int) -> None:
        """Leave word that this rank has nothing more to do in the generation."""
        meeting = self._meeting
        if meeting is not None:
            from_peers(lambda: meeting.set(f"done/{rank}", "1"))

    def not_done(self, members: list[str]) -> list[str]:
        """Return the members that have not said so."""
        if self._meeting is None:
            return []
        return [members[one] for one in self._without(self._meeting, "done", range(len(members)))]

    def connect(self, host: str, port: int) -> TCPStore:
        """Return the connection to a node's store, made once and kept.

        Raises:
            EndpointGoneError: Nobody listens there.
            PeerLostError: There is no way to it at the moment, or torch could not connect.
        """
        address = (host, port)
        if address not in self._stores:
            _probe(host, port)
        if address not in self._stores:
            self._stores[address] = from_peers(
                lambda: TCPStore(
                    host,
                    port,
                    is_master=False,
                    wait_for_workers=False,
                    timeout=timedelta(seconds=timeouts.CONNECT),
                )
            )
        return self._stores[address]

    def leave(self) -> None:
        """Leave the group; its connections close when it is dropped."""
        self._meeting = None  # a member alone has nobody to tell, and its store may be gone
        if dist.is_initialized():
            self._parked.append(dist.group.WORLD)
            dist.destroy_process_group()

    def abandon(self) -> None:
        """Close a group that lost a member at once: peers that wait for us see it and follow."""
        self.leave()
        self.drop_parked()

    def drop_parked(self) -> None:
        """Close the connections of groups that were left; off the critical path."""
        self._parked.clear()

    def close(self) -> None:
        """Leave and drop everything."""
        self.abandon()
        self._stores.clear()


def _forget_attempt() -> None:
    """Let the next group have the name that it has on ranks whose last attempt did not fail.

    torch counts attempts, and the number is in the keys under which members meet; it begins anew
    when a group is destroyed.
    """
    with _keep_excepthook():
        dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    dist.destroy_process_group()


@contextmanager
def _keep_excepthook() -> Iterator[None]:
    """Keep torch from writing the rank before each line of a traceback.

    It does so once more with each group that is made, and with the ranks of groups that are gone.
    """
    hook = sys.excepthook
    try:
        yield
    finally:
        sys.excepthook = hook


class EnvironmentGroup(GroupKeeper):
    """The one group of a world of fixed size: torchrun's environment says where it meets."""

    _own = False

    def form(
        self,
        endpoint: Endpoint,
        members: list[str],
        rank: int,
        *,
        superseded: Callable[[], bool],
        gone: Callable[[list[str]], list[str]],
    ) -> None:
        """Make the group from MASTER_ADDR and its kin, unless the script has made it already."""
        del endpoint, members, rank, superseded, gone
        if not dist.is_initialized():
            self._own = True
            dist.init_process_group(
                self._backend, timeout=timedelta(seconds=timeouts.FIXED_COLLECTIVE)
            )

    @property
    def meeting(self) -> PrefixStore | None:
        """The store of torchrun's world; None where a script's group met at no TCP store."""
        if self._meeting is None and dist.is_initialized() and dist.get_world_size() > 1:
            with suppress(EndpointGoneError, PeerLostError):
                store = self.connect(*env.read_master(os.environ))
                self._meeting = PrefixStore("eflib", store)
        return self._meeting

    def leave(self) -> None:
        """Stay: a world of fixed size has no other group to go to."""

    def close(self) -> None:
        """Destroy the group if it is ours."""
        if self._own and dist.is_initialized():
            dist.destroy_process_group()
            self._own = False
