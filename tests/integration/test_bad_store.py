"""A live cluster whose store is written over by somebody without the key."""

import random
import time

import pytest

from eflib.store import keys
from tests.helpers.disturbed import DisturbedJob
from tests.helpers.processes import wait_until
from tests.helpers.raw import Raw

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

GARBAGE = [
    b"",
    b"garbage",
    b"[" * 100_000,
    b'{"schema":1,"mac":"\\ud800"}\n{}',
    b"\xff" * 1000,
    b'{"schema":' * 20_000,
]
BODIES = [b"[" * 100_000, b'{"type":"dance"}', b'{"type":"cancel","request":"r","job":"\\ud800"}']


def write_over_everything(store, chance):
    """Write garbage under every key and into the inbox, but for what the job's account needs."""
    plain = store.store
    for key in [*plain.list(), *plain.list("streams/")]:
        plain.set(key, chance.choice(GARBAGE))
    plain.append(keys.INBOX, chance.choice(GARBAGE))
    plain.append(keys.INBOX, Raw(store).sealed("stream", keys.INBOX, chance.choice(BODIES)))


def test_a_job_trains_on_while_every_key_and_stream_is_written_over(four_slots, tmp_path):
    job = DisturbedJob(four_slots, tmp_path, "job", pace=0.05)
    job.wait_size(4)
    chance = random.Random(7)
    before = job.committed()[1]
    for _ in range(8):
        write_over_everything(job.store, chance)
        time.sleep(0.5)  # the coordinator, the agent and the workers meet it meanwhile
    wait_until(lambda: job.committed()[1] > before + 20, "steps in spite of it")

    assert four_slots.coordinator.poll() is None
    assert four_slots.agent.poll() is None
    wait_until(four_slots.documents.nodes, "the agent's record to stand again")

    write_over_everything(job.store, chance)
    four_slots.coordinator.kill()
    four_slots.coordinator.wait()
    four_slots.coordinator = four_slots.popen("efctl", "coordinator")
    before = job.committed()[1]
    wait_until(lambda: job.committed()[1] > before + 20, "steps beside a new coordinator")
    wait_until(lambda: job.status().get("state") == "RUNNING", "the job's status to be told again")
    assert four_slots.coordinator.poll() is None
    status, last = job.finish()
    assert status == 0, f"{last}\n{job.logs()}"
    job.trail().check()
    kept = list((four_slots.home / "aside").iterdir())
    assert 0 < len(kept) <= 200
