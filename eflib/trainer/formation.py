"""The process group of a generation: formed under a prefix of its own, left without waiting."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from eflib.trainer import timeouts

if TYPE_CHECKING:
    from collections.abc import Callable


class SupersededError(Exception):
    """A newer generation appeared while this one was being formed."""


class MissingMembersError(Exception):
    """Not all members came within the bound; ``workers`` are their ids."""

    def __init__(self, problem: str, workers: list[str]) -> None:
        super().__init__(problem)
        self.workers = workers


@dataclass(frozen=True)
class Endpoint:
    """Where a generation's members meet: a TCP store and a prefix nobody used before."""

    host: str
    port: int
    prefix: str


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

    def form(
        self, endpoint: Endpoint, members: list[str], rank: int, superseded: Callable[[], bool]
    ) -> None:
        """Wait until all members are here, then make the group.

        Args:
            endpoint: Where the members meet.
            members: Worker ids in rank order.
            rank: This worker's rank.
            superseded: True once a newer generation exists.

        Raises:
            SupersededError: A newer generation came meanwhile.
            MissingMembersError: Somebody did not come within ``timeouts.PRESENT``.
            RuntimeError: torch could not connect the members.
        """
        store = PrefixStore(endpoint.prefix, self.connect(endpoint.host, endpoint.port))
        store.set(f"present/{rank}", "1")
        keys = [f"present/{other}" for other in range(len(members))]
        end = time.monotonic() + timeouts.PRESENT
        pause = 0.0005
        while not store.check(keys):
            if superseded():
                raise SupersededError
            if time.monotonic() > end:
                absent = [
                    one for key, one in zip(keys, members, strict=True) if not store.check([key])
                ]
                raise MissingMembersError(
                    f"{absent} did not come to {endpoint.prefix} in {timeouts.PRESENT:g} s", absent
                )
            time.sleep(pause)
            pause = min(pause * 1.5, 0.01)
        if superseded():
            raise SupersededError
        dist.init_process_group(
            self._backend,
            store=PrefixStore("group", store),
            rank=rank,
            world_size=len(members),
            timeout=timedelta(seconds=timeouts.CONNECT),
        )
        self._set_timeout(timedelta(seconds=timeouts.COLLECTIVE))

    def connect(self, host: str, port: int) -> TCPStore:
        """Return the connection to a node's store, made once and kept."""
        address = (host, port)
        if address not in self._stores:
            self._stores[address] = TCPStore(
                host,
                port,
                is_master=False,
                wait_for_workers=False,
                timeout=timedelta(seconds=timeouts.CONNECT),
            )
        return self._stores[address]

    @staticmethod
    def _set_timeout(bound: timedelta) -> None:
        group = dist.group.WORLD
        for name in ("cpu", "cuda"):
            try:
                backend = group._get_backend(torch.device(name))  # type: ignore[union-attr]
            except RuntimeError:
                continue  # this group has no backend for the device
            backend.options._timeout = bound

    def leave(self) -> None:
        """Leave the group; its connections close when it is dropped."""
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


class EnvironmentGroup(GroupKeeper):
    """The one group of a world of fixed size: torchrun's environment says where it meets."""

    _own = False

    def form(
        self, endpoint: Endpoint, members: list[str], rank: int, superseded: Callable[[], bool]
    ) -> None:
        """Make the group from MASTER_ADDR and its kin, unless the script has made it already."""
        del endpoint, members, rank, superseded
        if not dist.is_initialized():
            self._own = True
            dist.init_process_group(self._backend, timeout=timedelta(seconds=timeouts.COLLECTIVE))

    def leave(self) -> None:
        """Stay: a world of fixed size has no other group to go to."""

    def close(self) -> None:
        """Destroy the group if it is ours."""
        if self._own and dist.is_initialized():
            dist.destroy_process_group()
            self._own = False
