"""Deadlines on one machine: promises kept, one refused with an offer, the offer kept."""

import json
import time

import pytest

from tests.helpers.clusters import LONG, SCRIPT, Audit
from tests.helpers.processes import is_alive

pytestmark = [pytest.mark.processes, pytest.mark.timeout(400)]

CURVE = '{"model": "paced", "points": {"1": 15, "2": 28, "4": 48}}'


@pytest.mark.alone
def test_two_jobs_share_a_third_is_refused_and_its_offer_is_kept(cluster, tmp_path):
    (tmp_path / "curve.json").write_text(CURVE)
    cluster.start(slots=4)

    def launch(name, deadline, steps, *words):
        return [
            "--name", name, "--deadline", deadline, "--profile", tmp_path / "curve.json", *words,
            SCRIPT, "--out", tmp_path / name, "--steps", steps,
        ]  # fmt: skip

    wide = cluster.popen("eflaunch", *launch("wide", "5m", 900))
    cluster.wait_for("wide", lambda s: s["world_size"] == 4 and s["global_step"] > 10, "4 workers")
    tight = cluster.popen("eflaunch", *launch("tight", "40s", 350))
    cluster.wait_for("tight", lambda s: s["state"] == "RUNNING", "to run beside the first")
    shrunk = cluster.wait_for("wide", lambda s: 0 < s["world_size"] < 4, "to make room")
    assert shrunk["state"] == "RUNNING"

    asked = time.time()
    code, output, error = cluster.run("eflaunch", *launch("third", "20s", 1200, "--json"))
    assert code == 3, error
    assert "error[deadline-unreachable]" in error.splitlines()[-1]
    refused = json.loads(output.splitlines()[-1])
    assert refused["state"] == "REJECTED"
    assert refused["reason"]
    assert refused["earliest_deadline"] > asked + 20
    offer = refused["decision"]["deadline_option"].split()[1]
    third = cluster.popen("eflaunch", *launch("third", offer, 1200))

    for process in (wide, tight, third):
        assert process.wait(timeout=LONG * 2) == 0, cluster.output(process)
    for name, steps in (("wide", 900), ("tight", 350), ("third", 1200)):
        status = cluster.status(name)
        assert status["state"] == "SUCCEEDED"
        assert status["ended"] <= status["deadline"], name
        Audit(tmp_path / name).check(steps)
    sizes = [(one["from"], one["to"]) for one in cluster.status("wide")["rescales"]]
    assert any(to < before for before, to in sizes)


def test_an_unknown_job_is_measured_first_and_its_curve_is_kept(cluster, tmp_path):
    """eflaunch starts what it needs, measures at 1 and 2, trains, and leaves nothing running."""
    words = ["--slots", 2, "--deadline", "5m", "--json", SCRIPT, "--out", tmp_path / "out"]
    code, output, error = cluster.run("eflaunch", *words, "--steps", 60)
    assert code == 0, error
    ended = json.loads(output.splitlines()[-1])
    assert ended["state"] == "SUCCEEDED"
    assert set(ended["curve"]) == {"1", "2"}
    assert ended["curve"]["2"] > ended["curve"]["1"]
    Audit(tmp_path / "out").check(60)
    agents = [
        json.loads(file.read_text())["pid"] for file in cluster.home.glob("agents/*/agent.json")
    ]
    assert agents
    assert not any(is_alive(pid) for pid in agents)

    code, output, error = cluster.run("eflaunch", *words, "--steps", 40)
    assert code == 0, error
    story = [line["text"] for line in json.loads(output.splitlines()[-1])["story"]]
    assert not any("measured" in line for line in story), story
