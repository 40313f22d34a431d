"""Whatever the documents in a store hold, what is read from them can be read by everyone."""

import json
import math

import pytest

from eflib.launcher import documents
from eflib.store import keys
from tests.helpers.raw import Raw

NUMBERS = (math.inf, -math.inf, math.nan, 1e300, -1e300, 2.6e11, 0.0, -1)
MOMENTS = ("submitted", "started", "ended", "deadline", "projected_finish", "earliest_deadline")
OTHERS = ("slack_s", "steps_per_s", "global_step", "max_steps", "loss", "world_size")
READING = ("status", "status digits", "describe digits", "list")


@pytest.fixture(autouse=True)
def untyped(monkeypatch):
    """Let everything through that is JSON: what shows documents must not rely on their bounds."""

    def read(self, key, kind):
        return Raw(self.store).fetch(key)

    monkeypatch.setattr(documents.Cluster, "_read", read)


@pytest.mark.parametrize("state", ["RUNNING", "PENDING", "SUCCEEDED", "REJECTED"])
@pytest.mark.parametrize("number", NUMBERS)
def test_any_moment_and_any_number_of_a_job_can_be_shown(run, coordinator, a_status, state, number):
    record = {"generation": 2, "step": 1, "from": 1, "to": 2, "pause_s": number}
    coordinator.write(
        a_status(
            state=state,
            **dict.fromkeys((*MOMENTS, *OTHERS), number),
            checkpoint_step=number,
            checkpoint_at=number,
            rescales=[record],
            story=[{"time": number, "text": "submitted"}],
        )
    )
    for command in READING:
        shown = run(f"efctl {command}")
        assert (shown.status, shown.err) == (0, "")
        facts = run(f"efctl {command} --json")
        assert (facts.status, facts.err) == (0, "")
        json.loads(facts.out, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_one_odd_moment_leaves_the_others_as_they_are(run, coordinator, a_status):
    coordinator.write(a_status(deadline=2.6e11, slack_s=60.0), a_status(job="b-1", name="b"))
    assert "deadline  beyond year 9999\nslack     1m\n" in run("efctl status digits").out
    assert "b-1" in run("efctl list").out


ODD_TEXT = "a\x1b[2J\x07\x9b b\r\n\udcff\u202e" + "c" * 100_000


def test_the_words_of_a_script_cannot_move_the_reader_s_cursor(run, coordinator, a_status):
    error = dict.fromkeys(("message", "node", "log"), ODD_TEXT)
    coordinator.write(
        a_status(
            name=ODD_TEXT,
            state="PENDING",
            reason=ODD_TEXT,
            log_dir=ODD_TEXT,
            error={**error, "rank": 0, "traceback": f"Traceback\n  line\n{ODD_TEXT}"},
            story=[{"time": 1.0, "text": ODD_TEXT}],
        )
    )
    spec = {"script": ODD_TEXT, "argv": [ODD_TEXT], "cwd": ODD_TEXT}
    Raw(coordinator.signed).put(keys.job_spec("digits-1"), spec)
    record = {"node": "n0", "slots": 1, "device": ODD_TEXT, "host": ODD_TEXT, "pid": 1}
    Raw(coordinator.signed).put(keys.node_record("n0"), record)
    workers = [{"job": "digits-1", "job_name": ODD_TEXT, "slot": 0}]
    Raw(coordinator.signed).put(keys.node_assignment("n0"), {"workers": workers})

    for command in ("status", "status digits-1", "describe digits-1", "list", "nodes"):
        shown = run(f"efctl {command}")
        assert (shown.status, shown.err) == (0, "")
        assert len(shown.out) < 20_000
        assert all(line.isprintable() for line in shown.out.split("\n"))
        json.loads(run(f"efctl {command} --json").out)
