"""``python -m eflib.agent``: an agent in the foreground."""

from __future__ import annotations

import argparse
import logging
import socket
import sys
from pathlib import Path

from eflib.agent.process import run_agent
from eflib.agent.timeouts import GRACE_SECONDS, LINGER_SECONDS
from eflib.errors import EflibError


def main(argv: list[str] | None = None) -> int:
    """Run an agent until a signal drains it.

    Returns:
        The exit status: 0 after draining.
    """
    options = _parser().parse_args(argv)
    logging.basicConfig(level=options.log_level.upper(), format="agent %(levelname)s: %(message)s")
    try:
        run_agent(
            store_url=options.store,
            key_file=options.key_file,
            node=options.node,
            slots=options.slots,
            home=options.home or Path(options.key_file).parent,
            managed=options.managed,
            host=options.host,
            grace=options.grace,
            linger=options.linger,
        )
    except EflibError as error:
        sys.stderr.write(error.render() + "\n")
        return error.exit_status
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m eflib.agent", description=__doc__)
    add = parser.add_argument
    add("--store", required=True, help="a folder, or tcp://host:port")
    add("--key-file", required=True, help="the cluster's key")
    add("--node", default=socket.gethostname(), help="this node's name")
    add("--slots", type=int, help="CPU slots; without it GPUs, or else a slot per CPU")
    add("--home", help="the folder of eflib's state (default: the key's)")
    add("--host", help="where other nodes reach this one")
    add("--managed", action="store_true", help="end with the coordinator")
    add("--grace", type=float, default=GRACE_SECONDS, help="seconds a worker may take to leave")
    add("--linger", type=float, default=LINGER_SECONDS, help="seconds to wait for a coordinator")
    add("--log-level", default="info", help="debug, info, warning or error")
    return parser


if __name__ == "__main__":
    sys.exit(main())
