"""The half of the agent's set-up that needs torch: devices, the store of the process groups."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from eflib.agent import devices
from eflib.agent.agent import Agent, Parts
from eflib.agent.cluster import Cluster
from eflib.agent.roster import Roster
from eflib.agent.timeouts import KILL_AGAIN_SECONDS
from eflib.agent.workers import Workers
from eflib.errors import StoreError
from eflib.messages.records import NodeRecord
from eflib.store.serving import listen

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    from eflib.agent.guardian import Guardian
    from eflib.agent.ledger import Ledger
    from eflib.agent.order import Node
    from eflib.agent.pool import WarmPool
    from eflib.store import SignedStore

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ground:
    """What stands before torch is loaded.

    Args:
        store: The cluster's store.
        node: The node, its devices not known yet.
        pool: The warm pool, started.
        guardian: The guardian, started.
        ledger: The node's ledger, open.
        lost: Workers that earlier agents started.
        host: Where other nodes reach this one.
        tag: The agent's tag.
    """

    store: SignedStore
    node: Node
    pool: WarmPool
    guardian: Guardian
    ledger: Ledger
    lost: frozenset[str]
    host: str
    tag: str


def serve(ground: Ground, *, slots: int | None, managed: bool, grace: float, linger: float) -> None:
    """Be the agent until it is told to end; see ``run_agent``."""
    found = devices.find(slots, ground.pool)
    groups = serve_groups(ground.host)
    node = replace(ground.node, device=found.device, gpus=found.gpus)
    record = NodeRecord(
        node=node.name,
        slots=found.slots,
        device=found.device,
        device_name=found.name,
        host=socket.gethostname(),
        pid=os.getpid(),
        agent=ground.tag,
        store_host=ground.host,
        store_port=groups.port,
    )
    parts = Parts(
        cluster=Cluster(ground.store, node.name, ground.tag),
        roster=Roster(grace=grace, kill_again=KILL_AGAIN_SECONDS, lost=ground.lost),
        workers=Workers(ground.pool, lambda: ground.guardian.pid),
        pool=ground.pool,
        guardian=ground.guardian,
        ledger=ground.ledger,
        node=node,
    )
    _log.info(
        "serving %s as node %s with %d %s slots, reached at %s (pid %d)",
        *(node.store_url, node.name, found.slots, found.device, ground.host, os.getpid()),
    )
    Agent(parts, record, managed=managed, linger=linger).run()


def serve_groups(host: str) -> TCPStore:
    """Serve the store through which the process groups of workers find each other.

    It is not signed, so it listens at this address alone: at a loopback address, nobody else can
    reach it.

    Args:
        host: The address by which it will be advertised.
    """
    if _is_own_name(host):
        return listen("0.0.0.0")
    try:
        return listen(host)
    except StoreError as error:
        # Others may know this machine by an address that it does not have: behind a translation.
        _log.warning("%s: serves process groups at all addresses of this machine", error.problem)
        return listen("0.0.0.0")


def _is_own_name(host: str) -> bool:
    """Tell whether a name, and no address, leads this machine to itself; others reach it else.

    Debian, for one, writes 127.0.1.1 for the machine's name into its list of hosts.
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        try:
            found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0][4][0]
            return host != "localhost" and ipaddress.ip_address(found).is_loopback
        except (OSError, ValueError):
            return False
    return False
