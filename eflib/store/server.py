"""A process that does nothing but hold a TCP store: ``python -m eflib.store.server``.

It is a process of its own so that the store outlives a coordinator that is killed.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import signal
import socket
import sys
from pathlib import Path

from eflib.errors import EflibError
from eflib.files import writing
from eflib.store import atomic, quiet
from eflib.store.base import LOOPBACK


def main(argv: list[str] | None = None) -> int:
    """Serve until a signal; the address is printed, and the port written to ``--port-file``.

    Returns:
        The exit status: 0 after a signal, 2 if the port file cannot be written, 5 if the port
        cannot be had.
    """
    parser = argparse.ArgumentParser(prog="python -m eflib.store.server", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    parser.add_argument("--port-file", help="written whole, with the port's number")
    parser.add_argument(
        "--host",
        default=LOOPBACK,
        help="the address to listen at: 127.0.0.1 (the default) is reached from this machine "
        "alone, 0.0.0.0 is all addresses of this machine",
    )
    options = parser.parse_args(argv)
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    quiet.import_torch()
    from eflib.store.serving import serve  # noqa: PLC0415 - torch, quietly

    try:
        server = serve(options.port, options.host)
        if options.port_file:
            with writing(options.port_file, "the port file"):
                atomic.replace(Path(options.port_file).absolute(), f"{server.port}\n".encode())
    except EflibError as error:
        sys.stderr.write(error.render() + "\n")
        return error.exit_status
    sys.stdout.write(f"store: serving at {describe(options.host, server.port)}\n")
    sys.stdout.flush()
    signal.sigwait(ends)
    server.close()
    return 0


def describe(host: str, port: int) -> str:
    """Return in a line where a store is served, who can reach it there, and by which process."""
    try:
        address = ipaddress.ip_address(host)
        is_loopback, is_any = address.is_loopback, address.is_unspecified
    except ValueError:
        is_loopback, is_any = host == "localhost", False
    name = socket.gethostname() if is_any else host
    url = f"tcp://[{name}]:{port}" if ":" in name else f"tcp://{name}:{port}"
    if is_loopback:
        reach = "for this machine alone"
    elif is_any:
        reach = "at all addresses of this machine, for everybody who reaches one"
    else:
        reach = "for everybody who reaches this address"
    return f"{url}, {reach} (pid {os.getpid()})"


if __name__ == "__main__":
    sys.exit(main())
