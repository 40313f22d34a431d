"""Each example runs at its smallest size, and says how it went on its last line."""

import json
import os
import re
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "examples"
EXAMPLES = sorted(path.name for path in FOLDER.glob("*.py"))
LOSS = r"loss \d+\.\d{3}"
# How each is run, where {tmp} is a folder of the test's own, and its last line.
RUNS = {
    "char_gpt.py": ("--steps 2 --batch-size 7", rf"char_gpt: 2 steps, {LOSS} per character"),
    "digits.py": (
        "--steps 2 --batch-size 7",
        r"digits: 2 steps, accuracy \d\.\d{3} on held-out images",
    ),
    "fine_tune.py": ("--steps 2 --batch-size 4", rf"fine_tune: 2 steps, {LOSS}"),
    "fsdp.py": (
        "--steps 2 --batch-size 3 --checkpoints {tmp}",
        rf"fsdp: 2 steps, {LOSS} per byte",
    ),
    "image_folder.py": ("{tmp}/images --steps 2 --batch-size 4", rf"image_folder: 2 steps, {LOSS}"),
    "mixed_precision.py": (
        "--steps 2 --batch-size 5 --microbatch 2 --checkpoints {tmp}",
        rf"mixed_precision: 2 steps, {LOSS} per byte",
    ),
    "own_loop.py": ("--steps 2 --batch-size 7", rf"own_loop: 2 steps, {LOSS}"),
    "text_classification.py": (
        "--steps 2 --batch-size 4",
        r"text_classification: 2 steps, accuracy \d\.\d{3}",
    ),
}


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Return a function that runs a script in this process as ``python`` would, and its output."""

    def run_script(script, options=""):
        words = options.replace("{tmp}", str(tmp_path)).split()
        monkeypatch.setattr(sys, "argv", [str(script), *words])
        monkeypatch.syspath_prepend(str(script.parent))
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # as on a command line; libraries have theirs
            runpy.run_path(str(script), run_name="__main__")
        return capsys.readouterr().out

    return run_script


@pytest.fixture
def images(run, tmp_path):
    """Return a folder with a few images, as the script beside the examples makes them."""
    run(FOLDER / "data" / "digit_images.py", "{tmp}/images --per-class 2")
    return tmp_path / "images"


def test_every_example_is_tested():
    assert sorted(RUNS) == EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_short_and_says_how_to_run_it(name):
    text = (FOLDER / name).read_text(encoding="utf-8")

    assert len(text.splitlines()) <= 90
    assert f"python examples/{name}" in text
    assert f"examples/{name} " in re.search(r"eflaunch .*", text)[0] + " "


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_on_the_page_of_examples(name):
    assert f"](../examples/{name})" in (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_and_ends_with_its_result(name, run):
    options, last_line = RUNS[name]

    assert re.fullmatch(last_line, run(FOLDER / name, options).splitlines()[-1])


def test_fine_tuning_starts_from_a_saved_model_and_its_tokenizer(run, tmp_path):
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "import"]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
    config = BertConfig(
        vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    BertForSequenceClassification(config).save_pretrained(tmp_path)

    output = run(FOLDER / "fine_tune.py", "--steps 2 --batch-size 4 --model {tmp}")

    assert output.splitlines()[-1].startswith("fine_tune: 2 steps")


def test_images_of_digits_are_one_folder_for_each(images):
    assert sorted(path.name for path in images.iterdir()) == list("0123456789")
    assert len(list(images.glob("*/*.png"))) == 20


@pytest.mark.parametrize("name", ["char_gpt.py", "digits.py"])
def test_an_example_of_the_demo_keeps_an_audit(name, run, tmp_path):
    run(FOLDER / name, "--steps 2 --batch-size 7 --pace 0.001 --audit {tmp}")

    (audit,) = tmp_path.iterdir()
    lines = [json.loads(line) for line in audit.read_text(encoding="utf-8").splitlines()]
    assert [len(line["samples"]) for line in lines] == [7, 7]


def test_an_example_runs_under_plain_python():
    options, last_line = RUNS["digits.py"]

    done = subprocess.run(
        [sys.executable, "examples/digits.py", *options.split()],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(last_line, done.stdout.splitlines()[-1])
