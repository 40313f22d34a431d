"""Starts and ends of workers as events of torch elastic, for whoever collects those already.

They go to the handler that torchrun's own variable names (``PET_EVENT_LOG_HANDLER``; by default to
none), so a handler that a site has registered with torch sees eflib's workers too.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

from torch.distributed.elastic.events import record
from torch.distributed.elastic.events.api import Event, EventSource

if TYPE_CHECKING:
    from eflib.agent.exits import Exit
    from eflib.messages.records import WorkerAssignment

STARTED = "eflib.worker.started"
ENDED = "eflib.worker.ended"

_VARIABLE = "PET_EVENT_LOG_HANDLER"
_log = logging.getLogger(__name__)


def worker_started(worker: WorkerAssignment, node: str, pid: int) -> None:
    """Record that a worker of an assignment runs."""
    _record(STARTED, worker, node, pid=pid)


def worker_ended(worker: WorkerAssignment, node: str, end: Exit) -> None:
    """Record how a worker ended."""
    _record(
        ENDED,
        worker,
        node,
        pid=end.pid,
        exitcode=end.exitcode,
        signal=end.signal,
        error=end.message,
    )


def _record(name: str, worker: WorkerAssignment, node: str, **facts: str | int | None) -> None:
    about: dict[str, str | int | float | None] = {
        "job": worker.job,
        "job_name": worker.job_name,
        "worker": worker.worker,
        "generation": worker.generation,
        "rank": worker.rank,
    }
    event = Event(
        name=name,
        source=EventSource.AGENT,
        timestamp=int(time.time() * 1000),
        metadata={**about, "node": node, **facts},
    )
    try:
        record(event, os.environ.get(_VARIABLE) or "null")
    except KeyError:  # as torch says that no handler has this name
        os.environ.pop(_VARIABLE)
        _log.warning("%s names no handler of events that torch knows", _VARIABLE)
