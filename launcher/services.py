"""The processes behind a command: starting a coordinator and an agent, asking the coordinator.

The coordinator's code is loaded when it is needed: commands that only read, or that refuse what
they were given, do without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path


class Asker(Protocol):
    """Asks the coordinator; see ``eflib.coordinator.client.Client``."""

    def request(self, type: str, **fields: Any) -> dict[str, Any]:  # noqa: A002, ANN401
        """Ask, and return the answer, waiting within a bound."""


def start(home: Path, store_url: str, *, slots: int | None = None) -> None:
    """See that a coordinator and an agent run, starting them in the background where none does.

    Raises:
        CoordinatorUnreachableError: It did not come up.
        StoreError: The store cannot be used.
    """
    from eflib.coordinator.process import ensure_running  # noqa: PLC0415 - see above

    ensure_running(home, store_url=store_url, slots=slots)


def client(home: Path, store_url: str) -> Asker:
    """Return who asks the coordinator."""
    from eflib.coordinator.client import Client  # noqa: PLC0415 - see above

    asker: Asker = Client(home, store_url)
    return asker
