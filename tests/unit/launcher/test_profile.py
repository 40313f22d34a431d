"""`efctl profile`: a script is measured, and its curve is printed and drawn."""

import json


def test_profile_measures_and_prints_the_curve(run, script, following, a_status):
    following.replies["profile"] = {"job": "train-1"}
    curve = {"1": 10.0, "2": 19.0, "4": 30.0}
    following.statuses = [a_status(state="PROFILING"), a_status(state="SUCCEEDED", curve=curve)]
    ran = run("efctl profile --slots 4 --max-gpus 4 train.py --lr 0.1 --json")
    assert ran.status == 0
    assert [row.split()[:4] for row in ran.out.splitlines()] == [
        ["GPUs", "steps/s", "speed-up", "per"],
        ["1", "10", "1.00", "100%"],
        ["2", "19", "1.90", "95%"],
        ["4", "30", "3.00", "75%"],
    ]
    bars = [row.count("█") for row in ran.out.splitlines()[1:]]
    assert bars == [8, 15, 24]
    ((kind, message),) = following.asked
    assert (kind, message["script"], message["max_gpus"]) == ("profile", str(script), 4)
    assert message["argv"] == ["--lr", "0.1", "--json"]
    following.statuses = [a_status(state="SUCCEEDED", curve=curve)]
    assert json.loads(run("efctl profile --json train.py").out)["curve"] == curve


def test_profile_draws_the_curve_with_its_guesses(run, script, following, a_status, tmp_path):
    following.replies["profile"] = {"job": "train-1"}
    guess = {"4": {"steps_per_s": 30.0, "margin": 0.1}}
    curve = {"1": 10.0, "2": 19.0}
    following.statuses = [a_status(state="SUCCEEDED", curve=curve, curve_guesses=guess)]
    ran = run(f"efctl profile --plot {tmp_path}/curve.png train.py")

    assert ran.out.splitlines()[-2:] == [f"{tmp_path}/curve.png", f"{tmp_path}/curve.svg"]
    assert "extrapolated" in (tmp_path / "curve.svg").read_text()
    assert "░" in ran.out.splitlines()[3]


def test_profile_of_a_script_that_fails_ends_as_it_did(run, script, following, a_status):
    following.replies["profile"] = {"job": "train-1"}
    following.statuses = [a_status(state="FAILED", reason="no ElasticTrainer")]
    ran = run("efctl profile train.py")
    assert ran.status == 1
    assert ran.last_line == "error[worker-failed]: job 'digits' failed: no ElasticTrainer"
