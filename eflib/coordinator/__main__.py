"""``python -m eflib.coordinator``: a coordinator in the foreground, as eflaunch starts it."""

from __future__ import annotations

import argparse
import logging
import sys

from eflib.coordinator.process import run_coordinator
from eflib.errors import EflibError
from eflib.home import default_store_url, home_folder


def main(argv: list[str] | None = None) -> int:
    """Run until a signal; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m eflib.coordinator", description=__doc__)
    parser.add_argument("--store", help="a folder, or tcp://host:port")
    parser.add_argument("--managed", action="store_true", help="end when there is nothing to do")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="coordinator %(levelname)s: %(message)s")
    home = home_folder()
    try:
        run_coordinator(
            home, store_url=options.store or default_store_url(home), managed=options.managed
        )
    except EflibError as error:
        sys.stderr.write(error.render() + "\n")
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
