"""``efctl nodes``."""

from __future__ import annotations

from eflib.launcher import tables
from eflib.launcher.commands.reading import cluster_to_read


def command(*, store: str | None = None, json: bool = False) -> None:
    """List the nodes of the cluster, their GPUs or CPU slots, and the jobs that use them.

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
        print("no agent is running; start one on this machine with: efctl agent")
