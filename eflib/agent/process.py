"""The agent as a process: everything put together in the order that starts fastest."""

from __future__ import annotations

import os
import re
import socket
import uuid
from pathlib import Path
from urllib.parse import urlsplit

from eflib import home as places
from eflib.agent import process_tree, temporary
from eflib.agent.guardian import Guardian
from eflib.agent.ledger import Ledger
from eflib.agent.order import Node
from eflib.agent.pool import WarmPool
from eflib.agent.timeouts import GRACE_SECONDS, LINGER_SECONDS, SWEEP_SECONDS
from eflib.errors import UsageError
from eflib.messages.fields import MAX_SLOTS
from eflib.store import SignedStore, load_key, open_store, quiet
from eflib.store.aside import Aside
from eflib.store.base import LOOPBACK

_NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def run_agent(  # noqa: PLR0913 - the agent's whole configuration, all by name
    *,
    store_url: str,
    key_file: str | Path,
    node: str,
    slots: int | None,
    home: str | Path,
    managed: bool = False,
    host: str | None = None,
    grace: float = GRACE_SECONDS,
    linger: float = LINGER_SECONDS,
) -> None:
    """Be a node's agent until a signal, or, where managed, until the coordinator has gone.

    SIGTERM, SIGINT and SIGHUP drain: workers are asked to leave, and killed after the grace; a
    second signal cuts the grace short. To be called in the main thread.

    Args:
        store_url: Where the store is, as ``open_store`` takes it.
        key_file: The cluster's key.
        node: This node's name.
        slots: So many CPU slots; None for the GPUs that there are, or else a slot per CPU.
        home: The folder of eflib's state.
        managed: End with the coordinator.
        host: Where other nodes reach this one, and where the store of process groups is served; by
            default 127.0.0.1 with a store in a folder, and with a TCP store the address from which
            this node reaches it.
        grace: How long a worker may take to leave, in seconds.
        linger: How long to wait without workers for a silent coordinator, in seconds.

    Raises:
        UsageError: A bad value, or the node has an agent already.
        StoreError: The store, the key or the state folder cannot be used.
    """
    check_node(node, slots)
    home = places.make_home(Path(home).expanduser().absolute())
    aside = Aside(places.aside_folder(home))
    store = SignedStore(open_store(store_url), load_key(key_file), aside=aside)
    temporary.shorten()
    tag = f"{node}-{uuid.uuid4().hex}"
    ledger = Ledger(home, node)
    guardian = Guardian(tag)
    lost = ledger.open(tag)
    try:
        guardian.ensure()
        process_tree.adopt_orphans()
        if ledger.previous_tag:
            process_tree.end_tagged(ledger.previous_tag, seconds=SWEEP_SECONDS)
        pool = WarmPool(ledger.folder / "warm", tag)
        pool.ensure()
        # Loading torch takes seconds, in which the pool loads its own.
        quiet.import_torch()
        from eflib.agent import assemble  # noqa: PLC0415

        ground = assemble.Ground(
            store=store,
            node=_node(node, store.store.url, key_file, tag),
            pool=pool,
            guardian=guardian,
            ledger=ledger,
            lost=lost,
            host=host or default_host(store.store.url),
            tag=tag,
        )
        assemble.serve(ground, slots=slots, managed=managed, grace=grace, linger=linger)
    finally:
        guardian.close()
        guardian.wait(SWEEP_SECONDS)
        ledger.close()
        store.close()


def check_node(name: str, slots: int | None) -> None:
    """Refuse a node that cannot be: its name becomes a part of keys and of paths.

    Args:
        name: The node's name.
        slots: How many slots it offers; None for as many as it has.

    Raises:
        UsageError: A value is out of its bounds.
    """
    if not _NODE_NAME.fullmatch(name):
        raise UsageError(
            f"a node cannot be called {name[:80]!r}",
            hint="give --node up to 200 letters, digits, '.', '_' and '-', a letter or digit first",
        )
    if slots is not None and not 1 <= slots <= MAX_SLOTS:
        raise UsageError(
            f"a node has 1 to {MAX_SLOTS} slots, not {slots}", hint="a slot is a GPU or a CPU core"
        )


def default_host(store_url: str) -> str:
    """Return the address of this machine that other nodes can be expected to reach.

    Args:
        store_url: The store, as it names itself. Who shares a folder is taken to be on this
            machine; a TCP store is asked by which address it is reached. No packet is sent.

    Examples:
        >>> default_host("/home/someone/.local/state/eflib/store")
        '127.0.0.1'
    """
    parts = urlsplit(store_url)
    if parts.scheme != "tcp" or not parts.hostname:
        return LOOPBACK
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            parts.hostname, parts.port, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()


def _node(name: str, store_url: str, key_file: str | Path, tag: str) -> Node:
    environment = {**os.environ, process_tree.TAG: tag}
    return Node(name, store_url, str(Path(key_file).absolute()), environment=environment)
