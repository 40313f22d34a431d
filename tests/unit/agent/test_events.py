"""Workers' starts and ends reach whoever listens to torch elastic's events."""

import json
import logging

import pytest
from torch.distributed.elastic import events as torch_events

from eflib.agent import events
from eflib.agent.exits import Exit
from eflib.messages.records import WorkerAssignment

WORKER = WorkerAssignment(
    job="j1",
    job_name="n",
    worker="j1-3",
    generation=2,
    rank=1,
    world_size=2,
    slot=0,
    log_dir="/logs",
)


class Kept(logging.Handler):
    def __init__(self):
        super().__init__()
        self.events = []

    def emit(self, record):
        self.events.append(json.loads(record.getMessage()))


@pytest.fixture
def kept(monkeypatch):
    handler = Kept()
    monkeypatch.setattr(torch_events, "get_logging_handler", lambda _: handler)
    monkeypatch.setenv("PET_EVENT_LOG_HANDLER", "kept")
    yield handler.events
    logging.getLogger("torchelastic-events-kept").removeHandler(handler)


def test_a_start_and_an_end_are_events_of_the_agent(kept):
    events.worker_started(WORKER, "node-a", 77)
    events.worker_ended(WORKER, "node-a", Exit(77, -9, "killed by SIGKILL"))

    started, ended = kept
    assert (started["name"], started["source"]) == ("eflib.worker.started", "AGENT")
    assert started["metadata"]["worker"] == "j1-3"
    assert ended["metadata"]["signal"] == "SIGKILL"
    assert ended["timestamp"] >= started["timestamp"] > 1e12


def test_an_unknown_handler_is_named_once_and_harms_nothing(monkeypatch, caplog):
    monkeypatch.setenv("PET_EVENT_LOG_HANDLER", "nobody")
    events.worker_started(WORKER, "node-a", 77)
    events.worker_started(WORKER, "node-a", 78)

    assert [one.message for one in caplog.records].count(
        "PET_EVENT_LOG_HANDLER names no handler of events that torch knows"
    ) == 1
