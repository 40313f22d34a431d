"""``efctl coordinator``."""

from __future__ import annotations

from eflib.coordinator.process import run_coordinator
from eflib.home import default_store_url, home_folder, make_home
from eflib.launcher.foreground import logged_to_stderr


def command(*, store: str | None = None) -> None:
    """Run the coordinator in the foreground until a signal.

    It resumes from its journal; jobs that are training are not disturbed.

    Args:
        store: Where the cluster is: a folder or tcp://host:port.
    """
    home = make_home(home_folder())
    with logged_to_stderr("coordinator"):
        run_coordinator(home, store_url=store or default_store_url(home), managed=False)
