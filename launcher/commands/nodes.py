"""``efctl nodes``."""

from __future__ import annotations

from eflib.launcher import tables
from eflib.launcher.commands.reading import cluster_to_read


def command(*, store: str | None = None, json: bool = False) -> None:
    """List the machines of the cluster, their GPUs or CPU slots, and who uses them.

    Args:
        store: Where the cluster is: a folder or tcp://host:port.
        json: Print one JSON object.
    """
    nodes = cluster_to_read(store).nodes()
    if json:
        tables.print_json({"nodes": nodes})
    elif nodes:
        tables.print_nodes(nodes)
    else:
        print("no agent runs; start this machine's with: efctl agent")
