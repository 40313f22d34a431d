import pytest

from eflib.errors import UsageError
from eflib.launcher import eflaunch
from eflib.launcher.arguments import UnknownOptionError, add_environment, call, split
from eflib.launcher.interface import interface_of
from eflib.launcher.values import number

# What a person can rely on: a new option is added here on purpose, one that goes is announced.
OPTIONS = {
    "--deadline",
    "--soft",
    "--slots",
    "--nproc-per-node",
    "--max-gpus",
    "--name",
    "--profile",
    "--log-dir",
    "--store",
    "--env",
    "--module",
    "-m",
    "--json",
    "--detach",
    "--dry-run",
    "--version",
    "--help",
    "-h",
}


def parse(text, *more):
    return eflaunch.parse([*text.split(), *more])


def test_the_set_of_options_is_frozen():
    assert set(eflaunch.INTERFACE.spellings()) == OPTIONS


def test_every_option_has_a_text():
    for option in eflaunch.INTERFACE.options.values():
        assert option.text.endswith(".")


@pytest.mark.parametrize(
    "own",
    [
        [],
        ["--deadline", "2h"],
        ["--lr", "0.1", "--", "x", "-h", "--help"],
        ["7", "True", "None", "[1]", "", " ", "-", "--", "a=b", "'\"", "\udcff", "ü\n"],
    ],
)
def test_nothing_behind_the_script_is_touched(own):
    asked = parse("--slots 4 train.py", *own)
    assert asked.script == "train.py"
    assert list(asked.arguments) == own
    assert (asked.slots, asked.deadline) == (4, None)


def test_a_module_s_arguments_are_its_own():
    asked = parse("-m package.train -m --json")
    assert (asked.script, asked.is_module) == ("package.train", True)
    assert asked.arguments == ("-m", "--json")
    assert not asked.as_json


@pytest.mark.parametrize(
    "options",
    [
        "--max-gpus 4 --dry-run --nproc-per-node 2",
        "--max_gpus 4 --dry_run --nproc_per_node 2",
        "--max-gpus=4 --dry-run=true --slots=2",
        "--max_gpus=4 --dry_run=1 --nproc_per_node=2",
    ],
)
def test_spellings_are_alike(options):
    asked = parse(f"{options} train.py")
    assert (asked.max_gpus, asked.dry_run, asked.slots) == (4, True, 2)


@pytest.mark.parametrize(
    "value", ["2", "True", "None", "1e3", "a,b", "[1]", "{'a':1}", "'x'", "-x"]
)
def test_no_type_is_guessed_from_a_value(value):
    asked = parse("--name", value, "--deadline", value, "train.py")
    assert (asked.name, asked.deadline) == (value, value)


def test_two_dashes_end_the_options():
    asked = parse("--slots 2 -- train.py --slots 3")
    assert (asked.script, asked.slots, asked.arguments) == ("train.py", 2, ("--slots", "3"))


def test_a_flag_does_not_take_the_script():
    asked = parse("--dry_run train2.py")
    assert (asked.dry_run, asked.script) == (True, "train2.py")


def test_a_flag_can_be_denied():
    assert not parse("--soft=no --deadline 2h train.py").is_soft


def test_the_last_of_two_values_holds():
    assert parse("--slots 1 --slots 2 train.py").slots == 2


def refused(text, error=UsageError):
    with pytest.raises(error) as caught:
        parse(text)
    return caught.value.problem, caught.value.hint


PLACE = "Options of the script go after its name."


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("--dedline 2h train.py", "--dedline", f"did you mean --deadline? {PLACE}"),
        (
            "--nproc_pernode=2 train.py",
            "--nproc_pernode",
            f"did you mean --nproc-per-node? {PLACE}",
        ),
        ("--lr 0.1 train.py", "--lr", f"see --help. {PLACE}"),
        ("-x train.py", "-x", f"see --help. {PLACE}"),
    ],
)
def test_an_unknown_option_is_refused_with_the_closest_one(text, problem, hint):
    assert refused(text, UnknownOptionError) == (f"there is no option {problem}", hint)
    assert UnknownOptionError.code == "unknown-option"


def test_an_option_without_its_value_is_refused():
    hint = "write --deadline WHEN or --deadline=WHEN"
    assert refused("--deadline") == ("option --deadline needs a value", hint)
    problem = "option --deadline needs a value, but --soft follows"
    assert refused("--deadline --soft train.py") == (problem, hint)


def test_a_flag_with_a_value_that_is_none_is_refused():
    assert refused("--soft=perhaps train.py") == (
        "--soft must be true or false, got 'perhaps'",
        "write 1 or 0",
    )


@pytest.mark.parametrize("text", ["0", "-1", "four", "1.5", "1025", "9" * 5000])
def test_a_number_out_of_bounds_or_none_is_refused(text):
    with pytest.raises(UsageError) as caught:
        parse(f"--slots={text} train.py")
    if len(text) < 100:
        expected = f"--slots must be an integer from 1 to 1024, got {text!r}"
        assert caught.value.problem == expected
        assert caught.value.hint == "for example: --slots 4"


def test_an_empty_value_is_refused():
    hint = "write --slots N or --slots=N"
    assert refused("--slots= train.py") == ("--slots is empty", hint)


def test_a_command_line_without_a_script_is_refused():
    problem, hint = refused("--slots 4")
    assert problem == "no script was given"
    assert hint.startswith("usage: eflaunch [options] SCRIPT")


def test_every_option_can_come_from_the_environment(monkeypatch):
    given = {"DEADLINE": "2h", "SOFT": "1", "MAX_GPUS": "8", "JSON": "off", "MODULE": "yes"}
    for name, value in given.items():
        monkeypatch.setenv(f"EFLIB_{name}", value)
    asked = parse("--max-gpus 4 train")
    assert (asked.deadline, asked.is_soft, asked.max_gpus) == ("2h", True, 4)
    assert (asked.as_json, asked.is_module) == (False, True)


def test_the_environment_of_every_option_is_named_after_it():
    words = split([], eflaunch.INTERFACE)
    names = {f"EFLIB_{name.upper()}": "1" for name in eflaunch.INTERFACE.options}
    filled = add_environment(words, eflaunch.INTERFACE, names)
    assert {option.name for option in filled} == set(eflaunch.INTERFACE.options)


def test_an_empty_variable_is_as_good_as_none(monkeypatch):
    monkeypatch.setenv("EFLIB_DEADLINE", "")
    monkeypatch.setenv("EFLIB_SOFT", "")
    asked = parse("train.py")
    assert (asked.deadline, asked.is_soft) == (None, False)


def test_a_variable_that_is_neither_true_nor_false_is_named(monkeypatch):
    monkeypatch.setenv("EFLIB_SOFT", "maybe")
    problem, _ = refused("train.py")
    assert problem == "EFLIB_SOFT must be true or false, got 'maybe'"


def example(job: str, size: str = "1", *, wait: bool = False, timeout: str = "2m"):
    """Do something.

    Args:
        job: A job.
        size: How many, or
            auto.
        wait: Wait for it.
        timeout: How long.
    """
    return job, size, wait, timeout


EXAMPLE = interface_of(example)


def run(text):
    return call("do", EXAMPLE, split(text.split(), EXAMPLE))


def test_without_a_script_options_may_stand_anywhere():
    assert run("j --timeout 5s 7 --wait") == ("j", "7", True, "5s")


def test_arguments_stay_text_too():
    assert run("7 True") == ("7", "True", False, "2m")


def test_the_text_of_an_argument_may_have_several_lines():
    assert [argument.text for argument in EXAMPLE.arguments] == ["A job.", "How many, or auto."]
    assert [argument.is_required for argument in EXAMPLE.arguments] == [True, False]


def test_too_few_and_too_many_arguments_are_refused():
    with pytest.raises(UsageError) as few:
        run("")
    assert (few.value.problem, few.value.hint) == ("do needs JOB", "usage: do [options] JOB [SIZE]")
    with pytest.raises(UsageError) as many:
        run("a b c")
    assert many.value.problem == "do does not take 'c'"


def test_no_number_is_none():
    assert number(None, "--slots") is None
    assert number("0", "SIZE", least=0) == 0
