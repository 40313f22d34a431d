"""What the documentation says of the code is held against the code."""

import ast
import dataclasses
import importlib
import inspect
import json
import re
from pathlib import Path

import pytest

from eflib import ElasticTrainer, errors
from eflib.coordinator.coordinator import SETTINGS
from eflib.launcher.commands import COMMANDS
from eflib.scheduling import SchedulerSettings

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PARTS = ("eflib", "launcher", "models", "profiles")
# A worker's own copies of an option's variable are made up of its name.
OPTION_VARIABLES = {"EFLIB_DEADLINE"}


def page_id(file):
    return file.relative_to(ROOT).as_posix()


def page(name):
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def sources():
    """Return the Python files of the product; links below eflib/ are left out."""
    linked = {ROOT / "eflib" / part for part in PARTS}
    for part in PARTS:
        for file in sorted((ROOT / part).rglob("*.py")):
            if not linked & set(file.parents):
                yield file


def constants(file):
    """Return the public module-level names of a file that are set to a number."""
    found = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            try:
                value = eval(compile(ast.Expression(node.value), "", "eval"), {})
            except Exception:  # noqa: BLE001 - it is made up of other names
                continue
            if name.isupper() and not name.startswith("_") and isinstance(value, int | float):
                found[name] = float(value)
    return found


def bounds():
    """Return seconds by file and name: all of ``timeouts.py``, and ``..SECONDS`` elsewhere."""
    found = {}
    clocked = (file for file in sources() if "simulator" not in file.parts)  # it never waits
    for file in clocked:
        for name, value in constants(file).items():
            if file.name == "timeouts.py" or "SECONDS" in name:
                found[file.relative_to(ROOT).as_posix(), name] = value
    return found


def test_every_timeout_is_in_the_table_with_its_value():
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| ([0-9.]+) \|", page("timeouts.md"), re.M)

    assert {(file, name): float(value) for file, name, value in rows} == bounds()


def test_every_argument_of_the_trainer_is_described_with_its_default():
    section = page("settings.md").split("## `eflaunch`")[0]
    rows = re.findall(r"^\| `(\w+)` \| (needed|`[^`]*`) \|", section, re.M)
    parameters = list(inspect.signature(ElasticTrainer).parameters.values())

    assert [name for name, _ in rows[:3]] == [one.name for one in parameters[:3]]
    assert dict(rows) == {
        one.name: "needed" if one.default is one.empty else f"`{one.default!r}`".replace("'", '"')
        for one in parameters
    }


def test_every_environment_variable_is_described():
    text = "\n".join(file.read_text(encoding="utf-8") for file in sources())
    known = set(re.findall(r"\bEFLIB_[A-Z][A-Z_]*[A-Z]\b", text))
    described = set(re.findall(r"`(EFLIB_[A-Z_]*[A-Z])`", page("settings.md")))

    assert described == known | OPTION_VARIABLES


def test_every_setting_of_the_scheduler_is_described_with_its_values():
    rows = re.findall(r"^\| `(\w+)` \| ([\w.]+) \| ([\w.]+) \|", page("settings.md"), re.M)
    names = [one.name for one in dataclasses.fields(SchedulerSettings)]

    assert rows == [
        (name, str(getattr(SchedulerSettings(), name)), str(getattr(SETTINGS, name)))
        for name in names
    ]


def error_classes():
    """Return all of eflib's own errors; their modules are found by their text and loaded."""
    for file in sources():
        if re.search(r"^    code = ", file.read_text(encoding="utf-8"), re.M):
            parts = file.relative_to(ROOT).with_suffix("").parts
            names = parts if parts[0] == "eflib" else ("eflib", *parts)
            importlib.import_module(".".join(names).removesuffix(".__init__"))
    found = [errors.EflibError]
    for one in found:
        found += [sub for sub in one.__subclasses__() if sub.__module__.startswith("eflib")]
    return found


def test_every_error_is_described_with_its_exit_code():
    rows = re.findall(r"^\| (\d+) \|[^|]*\| ([^|]*)\|", page("exit-codes.md"), re.M)
    described = {
        code: int(status) for status, codes in rows for code in re.findall("`(.*?)`", codes)
    }
    section = page("exit-codes.md").split("## The errors")[1].split("##")[0]
    explained = {
        code
        for cell in re.findall(r"^\| (`[^|]*`) \|", section, re.M)
        for code in re.findall("`(.*?)`", cell)
    }

    assert described == {one.code: one.exit_status for one in error_classes()}
    assert explained == set(described)


def test_every_command_of_efctl_is_in_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")

    assert [name for name in COMMANDS if f"efctl {name}" not in text] == []


def test_the_readme_says_what_this_is_and_how_to_try_it_in_its_first_lines():
    head = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:20])

    for words in ("deadline", "make demo", "make test", "eflaunch", "ElasticTrainer"):
        assert words in head


def anchors(file):
    """Return the anchors of a page, as GitHub and mkdocs make them of its headings."""
    text = re.sub(r"^```.*?^```", "", file.read_text(encoding="utf-8"), flags=re.M | re.S)
    found = set()
    for heading in re.findall(r"^#+ (.*)$", text, re.M):
        words = re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower()
        found.add(re.sub(r"\s+", "-", words))
    return found


def broken(file):
    """Return the links of a page that lead nowhere: no such file, or no such heading in it."""
    text = re.sub(r"^```.*?^```", "", file.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        other = (file.parent / name).resolve() if name else file
        if not other.exists() or (anchor and anchor not in anchors(other)):
            yield target


@pytest.mark.parametrize("file", PAGES, ids=page_id)
def test_links_lead_somewhere(file):
    assert list(broken(file)) == []


def test_every_page_is_in_the_navigation_of_the_site():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:")[1]
    pages = {file.relative_to(ROOT / "docs").as_posix() for file in PAGES if file.parent != ROOT}

    assert set(re.findall(r": ([\w/-]+\.md)$", navigation, re.M)) == pages | {"changelog.md"}


def test_every_command_has_its_help_on_the_page_of_commands():
    placed = re.findall(r"<!-- help: ([\w ]+) -->", page("commands.md"))

    assert sorted(placed) == sorted(["eflaunch", "efctl", *(f"efctl {name}" for name in COMMANDS)])


@pytest.mark.parametrize("file", PAGES, ids=page_id)
def test_files_that_are_named_exist(file):
    text = re.sub(r"```.*?```", "", file.read_text(encoding="utf-8"), flags=re.S)
    named = re.findall(r"`((?:eflib|launcher|models|profiles|tests|docs|examples)/[\w./-]+)`", text)

    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("file", PAGES, ids=page_id)
def test_python_and_json_in_the_pages_can_be_read(file):
    for kind, code in re.findall(r"^```(python|json)\n(.*?)^```", file.read_text(), re.M | re.S):
        if kind == "python":
            ast.parse(code)
        else:
            json.loads(code)
