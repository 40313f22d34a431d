"""A process that does nothing but hold a TCP store: ``python -m eflib.store.server``.

It is a process of its own so that the store outlives a coordinator that is killed.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from eflib.errors import EflibError
from eflib.store import atomic, quiet


def main(argv: list[str] | None = None) -> int:
    """Serve until a signal; the port is printed, and written to ``--port-file`` once it is open.

    Returns:
        The exit status: 0 after a signal, 5 if the port cannot be had.
    """
    parser = argparse.ArgumentParser(prog="python -m eflib.store.server", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    parser.add_argument("--port-file", help="written whole, with the port's number")
    options = parser.parse_args(argv)
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    quiet.import_torch()
    from eflib.store.tcp import serve  # noqa: PLC0415 - torch, quietly

    try:
        server = serve(options.port)
    except EflibError as error:
        sys.stderr.write(error.render() + "\n")
        return error.exit_status
    if options.port_file:
        atomic.replace(Path(options.port_file).absolute(), f"{server.port}\n".encode())
    sys.stdout.write(f"serving on port {server.port}\n")
    sys.stdout.flush()
    signal.sigwait(ends)
    server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
