"""``efctl profiles``, ``trace``, ``simulate`` and ``plot``: commands that need no cluster."""

import json

import pytest

from eflib import profiles
from eflib.launcher import efctl

TABLE = "global_batch_size,1,2\n8,1.0,1.5\n16,0.5,0.9\n"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def run(capsys, *words):
    """Run efctl and return (exit status, standard output, standard error)."""
    status = efctl.main(list(words))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_profiles_lists_what_ships(capsys):
    status, out, _ = run(capsys, "profiles")

    assert status == 0
    assert len(out.splitlines()) == 27
    assert "resnet50" in out


def test_profiles_lists_one_device_as_json(capsys):
    _, out, _ = run(capsys, "profiles", "list", "--device", "T4", "--json")

    found = json.loads(out)["profiles"]
    assert {profile["device"] for profile in found} == {"t4"}
    assert len(found) == 9


def test_profiles_shows_a_curve_point_by_point(capsys):
    _, out, _ = run(capsys, "profiles", "show", "resnet50", "--global-batch-size", "256")

    assert out.startswith("resnet50 on a100, global batch size 256\nsource: ElasticFlow artifact")
    (row,) = [line.split() for line in out.splitlines() if line.split()[:1] == ["8"]]
    assert row[:4] == ["8", "10.38", "5.63", "70%"]
    assert "how" not in out  # all was measured


def test_profiles_shows_what_was_measured_here_and_marks_what_was_not(capsys, tmp_path):
    kept = profiles.Profile(
        "Net",
        "cpu-2-cores",
        {1: 10.0, 2: 18.0},
        global_batch_size=64,
        spread={1: 0.02, 2: 0.1},
        memory_bytes={1: 2**28},
        extrapolated={4: (30.0, 0.2)},
    )
    profiles.write(kept, tmp_path / "home" / "profiles")
    (tmp_path / "home" / "profiles" / "torn.json").write_text("{", encoding="utf-8")

    _, out, _ = run(capsys, "profiles", "show", "Net")
    rows = [line.split() for line in out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["GPUs", "1", "2", "4"]
    assert rows[1][:5] == ["1", "10", "1.00", "100%", "2%"]
    assert rows[1][-1] == "measured"
    assert rows[3][:4] == ["4", "30", "3.00", "75%"]
    assert out.splitlines()[-1].endswith("extrapolated, up to 20% less")

    _, out, _ = run(capsys, "profiles", "list", "--device", "cpu-2-cores")
    assert out.splitlines()[1].split()[:3] == ["cpu-2-cores", "Net", "64"]


def test_profiles_imports_a_table_and_shows_a_file_of_it(capsys, tmp_path):
    (tmp_path / "net.csv").write_text(TABLE, encoding="utf-8")

    _, out, _ = run(capsys, "profiles", "import", "net.csv", "--device", "X", "--source", "us")
    assert out.split() == ["X/net-8.json", "X/net-16.json"]

    _, out, _ = run(capsys, "profiles", "show", "X/net-16.json", "--json")
    (profile,) = json.loads(out)["profiles"]
    assert (profile["model"], profile["device"], profile["source"]) == ("net", "x", "us")


def test_profiles_shows_a_folder(capsys, tmp_path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "net.csv").write_text(TABLE, encoding="utf-8")

    _, out, _ = run(capsys, "profiles", "show", "tables")

    assert out.count("net on ?, global batch size") == 2


def test_profiles_plots_a_model(capsys, tmp_path):
    _, out, _ = run(capsys, "profiles", "plot", "bert", "--device", "a100")

    assert out.split() == ["bert.png", "bert.svg"]
    assert (tmp_path / "bert.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "problem", "hint"),
    [
        ("profiles shwo", "there is no action 'shwo' of efctl profiles", "did you mean show?"),
        ("profiles show", "name a model, or a file with a curve", "efctl profiles list"),
        ("profiles show bertt", "no curve is known for 'bertt'", "did you mean bert?"),
        ("profiles show none.json", "cannot read the profile none.json (no such file)", ""),
        ("profiles show bert --device k80", "no such curve of 'bert'", "a100 with 64"),
        ("profiles import", "efctl profiles import needs a table", ""),
        ("profiles import x.csv", "efctl profiles import needs --device", ""),
        ("profiles show bert --global-batch-size big", "must be an integer", ""),
        (
            "trace t.csv --mean-gap soon",
            "--mean-gap must be a number from 0 to 1e+09, got 'soon'",
            "",
        ),
        ("trace t.csv --deadline-factors 1", "--deadline-factors must be two numbers", ""),
        (
            "trace t.csv --best-effort-share 2",
            "--best-effort-share must be a number from 0 to 1",
            "",
        ),
        ("trace t.csv --log none.csv", "cannot read the log none.csv", ""),
        ("trace t.csv --profiles a10", "no profiles named 'a10'", "did you mean 'a100'?"),
        ("simulate --nodes 2", "efctl simulate needs --trace FILE", ""),
        ("simulate --trace t.csv", "efctl simulate needs --nodes N", ""),
        ("simulate --trace t.csv --nodes 1", "cannot read the trace t.csv", ""),
        ("simulate --trace t --nodes 1 --rescale-cost -1", "--rescale-cost must be a number", ""),
        ("plot pie runs", "no figure named 'pie'", "there are allocation"),
        ("plot satisfaction runs", "no simulated run in runs", "efctl simulate --out DIR"),
    ],
)
def test_a_mistake_ends_with_status_2_and_a_way_out(capsys, words, problem, hint):
    status, _, err = run(capsys, *words.split())

    assert status == 2
    assert problem in err.splitlines()[-1]
    assert hint in err


def test_a_trace_is_made_simulated_and_drawn(capsys, tmp_path):
    _, out, _ = run(
        capsys, "trace", "t.csv", "--jobs", "12", "--mean-gap", "300", "--best-effort-share", "0.3"
    )
    assert out == "t.csv: 12 jobs\n"

    for policy in ("edf", "elasticflow"):
        words = f"simulate --trace t.csv --nodes 1 --policy {policy} --out runs/{policy} --json"
        _, out, _ = run(capsys, *words.split())
        assert json.loads(out)["jobs"] == 12

    _, out, _ = run(capsys, "plot", "allocation", "runs", "--out", "f/gantt")
    assert "f/gantt-elasticflow-t-8.png" in out.split()
    _, out, _ = run(capsys, "plot", "best-effort", "runs", "--policies", "edf")
    assert out.split() == ["best-effort.png", "best-effort.svg"]
    assert (tmp_path / "f" / "gantt-edf-t-8.svg").exists()


def test_simulate_says_what_became_of_the_jobs(capsys):
    run(capsys, "trace", "t.csv", "--jobs", "3")

    _, out, _ = run(capsys, "simulate", "--trace", "t.csv", "--nodes", "1")

    assert "policy" in out.splitlines()[0]
    assert "elasticflow" in out.splitlines()[0]
    assert any(line.split() == ["rescale", "cost", "0"] for line in out.splitlines())


def test_a_raw_log_is_converted(capsys, tmp_path):
    log = "job_id,submission_time,duration,num_gpu\na,5,700,2\nb,9,30,1\n"
    (tmp_path / "raw.csv").write_text(log, encoding="utf-8")

    _, out, _ = run(capsys, "trace", "t.csv", "--log", "raw.csv", "--min-duration", "600")

    assert out == "t.csv: 1 jobs\n"
