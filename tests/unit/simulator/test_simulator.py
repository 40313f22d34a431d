import csv
import json

import pytest

from eflib.errors import UsageError
from eflib.simulator import __main__ as command
from eflib.simulator.policies import ClusterShape, Decision, PolicyError, maker, names
from eflib.simulator.report import spell_gpus
from tests.unit.simulator.small import a_job, counts_of, ends, run


class Scripted:
    """A policy that answers from a list."""

    def __init__(self, *decisions):
        self.decisions = list(decisions)
        self.moments = []

    def decide(self, moment):
        self.moments.append((moment.now, sorted(job.job_id for job in moment.ended)))
        return self.decisions.pop(0) if self.decisions else Decision()


def test_a_rescale_is_charged_at_each_change_and_not_otherwise():
    policy = Scripted(
        Decision({"a": (0,)}, wakeup=20.0),
        Decision({"a": (0,)}, wakeup=30.0),
        Decision({"a": (0, 1)}),
    )
    result = run(lambda _: policy, a_job("a", steps=100.0), rescale_cost=10.0)
    assert ends(result) == {
        "a": 80.0
    }  # 10 of pause, 20 steps by 30, 10 of pause, 40 s for the rest
    assert (result.summary.rescales, result.summary.migrations) == (1, 0)


def test_a_move_at_the_same_count_is_a_migration_and_costs_as_much():
    policy = Scripted(Decision({"a": (0,)}, wakeup=50.0), Decision({"a": (1,)}))
    result = run(lambda _: policy, a_job("a", steps=100.0), rescale_cost=5.0)
    assert ends(result) == {"a": 110.0}
    assert (result.summary.rescales, result.summary.migrations) == (0, 1)


def test_a_job_that_never_gets_gpus_is_admitted_and_never_ends():
    result = run(lambda _: Scripted(), a_job("a", deadline=100.0))
    assert result.outcomes[0].finished_at is None
    assert (result.summary.admitted, result.summary.late) == (1, 1)


def test_ends_of_one_instant_are_one_moment():
    policy = Scripted(Decision({"a": (0,), "b": (1,)}))
    run(lambda _: policy, a_job("a"), a_job("b"))
    assert policy.moments == [(0.0, []), (100.0, ["a", "b"])]


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (Decision({"a": (0,), "b": (0,)}), "GPU 0 is given to"),
        (Decision({"a": (4,)}), "GPU 4 is given to"),
        (Decision({"c": (0,)}), "'c', which is not here"),
        (Decision(refused=("c",)), "refuses job 'c', which is in already"),
    ],
)
def test_a_policy_that_decides_nonsense_is_told(decision, said):
    with pytest.raises(PolicyError, match=said):
        run(lambda _: Scripted(decision), a_job("a"), a_job("b"))


def test_a_policy_that_asks_for_ever_is_stopped():
    class Restless:
        def decide(self, moment):
            return Decision(wakeup=moment.now)

    with pytest.raises(PolicyError, match="changes nothing"):
        run(lambda _: Restless(), a_job("a"))


def test_a_cluster_without_gpus_is_refused():
    with pytest.raises(UsageError, match="0 nodes"):
        ClusterShape(0, 8)


def test_an_unknown_policy_is_refused_with_those_that_there_are():
    with pytest.raises(UsageError, match="no policy 'elastic'") as error:
        maker("elastic")
    assert "elasticflow" in error.value.hint


def test_every_policy_has_a_name_and_a_line_about_it():
    known = names()
    assert {"elasticflow", "edf+admission", "elasticflow-no-admission"} <= set(known)
    assert all(known.values())


def test_without_admission_every_job_runs_and_some_are_late():
    jobs = [a_job(f"j{n}", steps=100.0, deadline=40.0) for n in range(4)]
    free = run("elasticflow-no-admission", *jobs)
    assert (free.summary.admitted, free.summary.refused) == (4, 0)
    assert free.summary.late > 0
    assert run("elasticflow", *jobs).summary.late == 0


def test_edf_with_admission_keeps_what_it_admits():
    jobs = [a_job(f"j{n}", at=float(n), steps=100.0, deadline=60.0 + n) for n in range(5)]
    for cost in (0.0, 5.0):
        result = run("edf+admission", *jobs, rescale_cost=cost)
        assert result.summary.late == 0
        assert 0 < result.summary.refused < 5


def test_elasticflow_grows_a_job_when_another_ends():
    jobs = [a_job("a", steps=300.0, deadline=160.0), a_job("b", steps=50.0, deadline=30.0)]
    result = run("elasticflow", *jobs)
    assert result.summary.met == 2
    assert counts_of(result, "a")[-2] == 4


def test_the_files_are_as_documented(tmp_path):
    run("elasticflow", a_job("a", deadline=100.0), a_job("b", steps=900.0, deadline=90.0)).write(
        tmp_path / "out"
    )
    with (tmp_path / "out" / "jobs.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [(r["job_id"], r["admitted"], r["met"]) for r in rows] == [
        ("a", "1", "1"),
        ("b", "0", "0"),
    ]
    assert (float(rows[0]["finish_time"]), rows[1]["finish_time"]) == (25.0, "")
    lines = (tmp_path / "out" / "schedule.csv").read_text().splitlines()
    assert lines == ["time,job_id,gpus", "0.0,a,0-3", "25.0,a,"]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["policy"], summary["met"], summary["gpu_hours"]) == (
        "elasticflow",
        1,
        100 / 3600,
    )


def test_gpu_ids_are_spelled_as_ranges():
    assert [spell_gpus(g) for g in ((), (3,), (0, 1, 2), (0, 2, 3))] == ["", "3", "0-2", "0;2-3"]


def test_the_command_prints_a_summary_and_refuses_a_bad_trace(tmp_path, capsys):
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "m.csv").write_text("global_batch_size,1,2\n8,1.0,1.8\n")
    trace = tmp_path / "t.csv"
    trace.write_text("job_id,submit_time,iteration,model_name,ddl,batch_size\na,0,90,m,100,8\n")
    words = ["--trace", str(trace), "--nodes", "1", "--gpus-per-node", "2", "--json"]
    words += ["--profiles", str(tables)]
    assert command.main(words) == 0
    assert json.loads(capsys.readouterr().out)["met"] == 1
    trace.write_text(trace.read_text().replace("90", "x"))
    assert command.main(words) == 2
    assert "t.csv:2:3: iteration should be" in capsys.readouterr().err
