"""torchrun's rendezvous over an eflib store: ``torchrun --rdzv-backend=eflib``."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousParameters


def get_handler() -> Callable[[RendezvousParameters], RendezvousHandler]:
    """Return what torch's registry calls for ``--rdzv-backend=eflib``: an entry point."""
    return _create_handler


def _create_handler(params: RendezvousParameters) -> RendezvousHandler:
    """Return the handler for torchrun's parameters.

    Its module is imported here: it needs torch's package, which asks for entry points while it is
    itself being imported.
    """
    handler = importlib.import_module("eflib.agent.rendezvous.handler")
    made: RendezvousHandler = handler.create_handler(params)
    return made
