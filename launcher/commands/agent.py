"""``efctl agent``."""

from __future__ import annotations

import socket

from eflib.agent.process import run_agent
from eflib.home import default_store_url, home_folder, key_file, make_home
from eflib.launcher import values
from eflib.launcher.foreground import logged_to_stderr
from eflib.store import load_or_create_key


def command(
    *,
    slots: str | None = None,
    node: str | None = None,
    store: str | None = None,
    host: str | None = None,
) -> None:
    """Run this machine's agent in the foreground until a signal; its workers end with it.

    Args:
        slots: Number of CPU slots to offer; by default the GPUs, or one slot per CPU without GPUs.
        node: Name of this node; its host name by default.
        store: Where the cluster is: a folder or tcp://host:port.
        host: Address by which other nodes reach this one, where process groups meet; by default
            the one from which this machine reaches the store.
    """
    count = values.number(slots, "--slots", most=values.MAX_SLOTS)
    name = values.node_name(node or socket.gethostname())
    home = make_home(home_folder())
    load_or_create_key(key_file(home))
    with logged_to_stderr("agent"):
        run_agent(
            store_url=store or default_store_url(home),
            key_file=key_file(home),
            node=name,
            slots=count,
            home=home,
            host=host,
        )
