"""The steps of the tutorial run, train the same, and are what the page shows."""

import difflib
import runpy
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "examples" / "tutorial"
STEPS = sorted(FOLDER.glob("step*.py"))
EPOCHS_FORMS = ("images", "text")  # forms of public scripts: ddp_* and elastic_*
OUTSIDE = (*EPOCHS_FORMS, "steps")
EPOCHS = 2


@pytest.fixture(scope="module")
def tools():
    return runpy.run_path(str(ROOT / "docs" / "tools" / "tutorial_diffs.py"))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Run every step, shortened, and return its output and the weights that it saved."""
    found = {}
    for step in STEPS:
        folder = tmp_path_factory.mktemp(step.stem)
        code = step.read_text(encoding="utf-8")
        script = folder / step.name
        script.write_text(code.replace("EPOCHS = 20", f"EPOCHS = {EPOCHS}"), encoding="utf-8")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setattr(sys, "argv", [step.name])
            runpy.run_path(str(script), run_name="__main__")
        found[step.name] = torch.load(folder / "digits.pt", weights_only=True)
    return found


def far(first, second):
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def test_there_are_five_changes():
    assert len(STEPS) == 6


@pytest.mark.parametrize("step", STEPS, ids=lambda path: path.stem)
def test_a_step_says_how_it_is_run(step):
    assert step.name in step.read_text(encoding="utf-8").splitlines()[0]


def test_changes_two_to_four_change_no_bit_and_five_only_rounding(results):
    one, two, three, four, five = list(results.values())[1:]

    assert far(one, two) == far(one, three) == far(one, four) == 0.0
    assert 0.0 < far(one, five) < 1e-4


def test_the_average_differs_from_an_untrained_model(results):
    torch.manual_seed(0)
    untrained = torch.nn.Linear(64, 128).requires_grad_(requires_grad=False)

    assert all(far({"w": untrained.weight}, {"w": w["0.weight"]}) > 0.01 for w in results.values())


def test_the_pages_show_the_files_as_they_are(tools):
    pages = [page.read_text(encoding="utf-8") for page in tools["PAGES"]]

    assert [tools["filled"](page) for page in pages] == pages
    assert [page.count("```diff\n") for page in pages] == [len(STEPS) - 1, len(OUTSIDE)]


def num_changed(before, after):
    """Return how many lines differ, a replaced one counted once; blank ones do not count."""
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    spans = [(b - a, d - c) for kind, a, b, c, d in matcher.get_opcodes() if kind != "equal"]
    return sum(max(removed, added) for removed, added in spans)


def test_each_change_of_the_tutorial_is_small(tools):
    texts = [[line for line in tools["body"](step.name) if line.strip()] for step in STEPS]
    sizes = [num_changed(one, other) for one, other in pairwise(texts)]

    assert sizes[0] <= 15
    assert max(sizes[1:]) <= 10


@pytest.mark.parametrize("form", EPOCHS_FORMS)
def test_a_ddp_script_becomes_elastic_with_ten_changed_lines(form, tools):
    before, after = (
        [line for line in tools["body"](f"{kind}_{form}.py") if line.strip()]
        for kind in ("ddp", "elastic")
    )

    assert "DistributedDataParallel" in "".join(before)
    assert 0 < num_changed(before, after) <= 10


@pytest.mark.parametrize("form", OUTSIDE)
def test_an_elastic_form_of_a_ddp_script_runs_as_one_process_and_learns(form, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "0")  # as torchrun sets it
    options = {
        "images": ["--epochs", "2"],
        "text": ["--epochs", "2", "--characters", "700"],
        "steps": ["--steps", "41", "--characters", "700"],
    }[form]
    monkeypatch.setattr(sys, "argv", ["train.py", *options])

    runpy.run_path(str(FOLDER / f"elastic_{form}.py"), run_name="__main__")

    numbers = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()]
    if form == "steps":
        assert len(numbers) == 5  # of steps 0, 10, .. 40, though each has four micro-batches
    if form == "images":
        assert numbers[-1] > 0.6  # of ten digits
    else:
        assert numbers[-1] < numbers[0]
