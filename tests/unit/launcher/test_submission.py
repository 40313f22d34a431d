import json
import os
import time
from pathlib import Path

import pytest

from eflib.errors import UsageError
from eflib.launcher.eflaunch import parse
from eflib.launcher.submission import make_log_folder, submission
from eflib.units import DEADLINE_FORMS

NOW = 1_790_000_000.0


def submit(text, now=NOW):
    return submission(parse(text.split()), now=now)


def refused(text):
    with pytest.raises(UsageError) as caught:
        submit(text)
    return caught.value.problem, caught.value.hint


def test_a_submission_holds_what_the_contract_names(script):
    message = submit("--deadline 2h --soft --max-gpus 4 train.py --lr 0.1")
    environment = message.pop("env")
    assert message == {
        "name": "train",
        "script": str(script),
        "argv": ["--lr", "0.1"],
        "cwd": str(script.parent),
        "deadline": NOW + 7200,
        "soft": True,
        "max_gpus": 4,
        "profile": None,
        "log_dir": None,
    }
    assert environment["PATH"] == os.environ["PATH"]


def test_the_environment_goes_along_without_an_outer_torchrun_s(script, monkeypatch):
    monkeypatch.setenv("HF_HOME", "/models")
    monkeypatch.setenv("HF_TOKEN", "x")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "outer")
    environment = submit("train.py")["env"]
    assert environment["HF_HOME"] == "/models"
    assert not {"HF_TOKEN", "TORCHELASTIC_RUN_ID", "PWD"} & set(environment)
    assert submit("--env HF_TOKEN train.py")["env"]["HF_TOKEN"] == "x"


def test_a_module_is_found_from_the_working_folder(script):
    message = submit("-m train")
    assert message["module"] == "train"
    assert "script" not in message
    assert submit("-m json.tool")["name"] == "tool"


@pytest.mark.parametrize("name", ["no_such_module", "1x", "a..b"])
def test_a_module_that_is_not_there_is_refused(script, name):
    assert refused(f"-m {name}") == (
        f"there is no module {name!r}",
        f"searched from {script.parent}",
    )


def test_a_file_given_as_a_module_is_pointed_out(script):
    problem = "there is no module './train.py'"
    assert refused("-m ./train.py") == (problem, "leave out -m to run a file")


def test_a_script_that_is_not_there_is_refused_with_the_closest(script):
    assert refused("trian.py") == ("there is no script trian.py", "did you mean train.py?")
    assert refused("other/x.py") == (
        "there is no script other/x.py",
        f"paths are relative to the folder {script.parent}",
    )


def test_a_folder_is_no_script(script):
    (script.parent / "src").mkdir()
    assert refused("src") == ("the script src is a folder", "give a file in it, or use -m")


def test_a_script_that_may_not_be_read_is_refused(script, monkeypatch):
    def refuse(self, mode):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    assert refused("train.py") == (
        "cannot read the script train.py (permission denied)",
        "see its permissions, or give another path",
    )


def test_bad_deadlines_are_refused(script):
    assert refused("--deadline soon train.py") == (
        "cannot read the deadline 'soon'",
        DEADLINE_FORMS,
    )
    with pytest.raises(UsageError, match=r"the deadline '2020-01-01' is in the past: .* ago"):
        submit("--deadline 2020-01-01 train.py", now=time.time())
    assert refused("--soft train.py") == (
        "--soft needs a deadline",
        "add --deadline, as in --deadline 2h",
    )


def test_a_name_comes_from_the_script_or_is_given(script):
    (script.parent / "my train (2).py").write_text("")
    asked = parse(["my train (2).py"])
    assert submission(asked, now=NOW)["name"] == "my-train-2"
    assert submit("--name run.7_b-c train.py")["name"] == "run.7_b-c"


@pytest.mark.parametrize("name", ["a/b", "-x", ".hidden", "a b", "x" * 61])
def test_a_name_that_would_not_do_as_a_folder_is_refused(script, name):
    with pytest.raises(UsageError) as caught:
        submission(parse(["--name", name, "train.py"]), now=NOW)
    assert caught.value.problem == f"a job cannot be called {name!r}"
    assert caught.value.hint == (
        "use at most 60 letters, digits, '.', '_' and '-', a letter or digit first"
    )


def test_a_profile_is_read_and_sent_along(script):
    points = {"1": 10.0, "2": 18.0}
    (script.parent / "curve.json").write_text(json.dumps({"model": "m", "points": points}))
    sent = submit("--profile curve.json train.py")["profile"]
    assert sent["model"] == "m"
    assert sent["points"] == points


def test_a_profile_that_is_not_there_is_refused(script):
    problem, _ = refused("--profile none.json train.py")
    assert problem == "cannot read the profile none.json (no such file)"


def test_a_package_without_a_module_is_not_run_and_not_imported(script):
    folder = script.parent / "pkg"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise SystemExit('imported')")
    (folder / "good.py").write_text("")
    assert submit("-m pkg.good")["module"] == "pkg.good"
    assert refused("-m pkg.bad") == ("there is no module 'pkg.bad'", f"searched from {Path.cwd()}")
    problem = "there is no module 'train.py'"
    assert refused("-m train.py") == (problem, "leave out -m to run a file")


def test_the_log_folder_is_named_whole_and_made_when_the_job_is_submitted(script):
    folder = script.parent / "logs" / "x"
    message = submit("--log-dir logs/x train.py")
    assert message["log_dir"] == str(folder)
    assert not folder.exists()
    make_log_folder(message["log_dir"])
    make_log_folder(message["log_dir"])
    make_log_folder(None)
    assert folder.is_dir()


def test_a_log_folder_that_cannot_be_made_or_written_is_refused(script, monkeypatch):
    folder = script.parent / "train.py" / "logs"
    assert refused("--log-dir train.py/logs train.py") == (
        f"cannot write the log folder {folder} (not a directory)",
        f"a part of {folder} is a file, not a folder",
    )
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    problem, _ = refused("--log-dir logs train.py")
    folder = script.parent / "logs"
    assert problem == f"cannot write the log folder {folder} (permission denied)"
