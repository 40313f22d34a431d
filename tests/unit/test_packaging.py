import ast
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.helpers.oldest import oldest, requirements

ROOT = Path(__file__).parents[2]
BUILT_FROM = ["README.md", "eflib", "launcher", "models", "profiles", "pyproject.toml", "setup.py"]


def run(*command, cwd=None):
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of the checkout, so that the checkout stays clean."""
    source = tmp_path_factory.mktemp("source")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            skip = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=skip)
        else:
            shutil.copy(ROOT / name, source)
    wheels = tmp_path_factory.mktemp("wheels")
    flags = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    run(sys.executable, "-m", "pip", "wheel", *flags, "--wheel-dir", wheels, source)
    (built,) = wheels.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder that the wheel was unpacked into by pip, with nothing else in it."""
    target = tmp_path_factory.mktemp("installed")
    flags = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    run(sys.executable, "-m", "pip", "install", *flags, "--target", target, wheel)
    return target


def locked():
    """Return what the lock holds: a requirement with one version, and how many hashes it has."""
    text = (ROOT / "requirements" / "lock.txt").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=[a-z0-9])", re.sub(r"(?m)^\s*#.*\n", "", text))
    return [(Requirement(one.split(" \\")[0]), one.count("--hash=")) for one in entries]


def declared():
    """Return every requirement of setup.py, those of its extras included, but for torch."""
    listed = requirements((ROOT / "setup.py").read_text(encoding="utf-8")).values()
    found = [Requirement(line) for lines in listed for line in lines]
    return [one for one in found if one.name != "torch"]


def holds(requirement, python):
    machine = {"python_version": python, "python_full_version": f"{python}.9"}
    return requirement.marker is None or requirement.marker.evaluate(machine)


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13", "3.14"])
def test_the_lock_holds_one_version_of_what_setup_allows(python):
    """It is red where setup.py was changed and the lock was not: run ``make lock``."""
    versions = {}
    for one, _ in locked():
        if holds(one, python):
            assert one.name not in versions
            versions[one.name] = str(one.specifier).removeprefix("==")

    assert [str(one) for one in declared() if one.name not in versions] == []
    assert [
        f"{one}, but {versions[one.name]} is locked"
        for one in declared()
        if holds(one, python) and not one.specifier.contains(versions[one.name])
    ] == []


def test_every_entry_of_the_lock_has_hashes_and_names_no_place_that_it_came_from():
    text = (ROOT / "requirements" / "lock.txt").read_text(encoding="utf-8")

    assert [str(one) for one, hashes in locked() if not hashes] == []
    assert "://" not in text
    assert "--index-url" not in text
    assert "--find-links" not in text


def test_torch_and_what_its_builds_for_gpus_need_stay_outside_the_lock():
    chosen = re.compile("torch|triton|nvidia-.*|cuda-.*")

    assert [one.name for one, _ in locked() if chosen.fullmatch(one.name)] == []


def test_every_requirement_claims_an_oldest_version_or_is_pinned():
    """``make test-oldest`` shows that the claim is true."""
    bounds = oldest((ROOT / "setup.py").read_text(encoding="utf-8"))

    assert [
        str(one)
        for one in declared()
        if one.name not in bounds and not re.fullmatch(r"==[\d.]+", str(one.specifier))
    ] == []


@pytest.mark.parametrize("folder", ["launcher", "models", "profiles"])
def test_a_link_in_the_package_resolves_to_the_folder_at_the_top(folder):
    link = ROOT / "eflib" / folder

    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert link.resolve() == (ROOT / folder).resolve()


def test_every_folder_of_the_package_has_an_init():
    folders = [path for path in (ROOT / "eflib").iterdir() if path.is_dir()]

    assert [
        path.name
        for path in folders
        if path.name != "__pycache__" and not (path / "__init__.py").is_file()
    ] == []


@pytest.mark.slow
def test_the_wheel_claims_the_name_eflib_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (top_level,) = [name for name in names if name.endswith(".dist-info/top_level.txt")]

        assert archive.read(top_level).decode().split() == ["eflib"]
    assert {name.split("/")[0] for name in names} == {"eflib", top_level.split("/")[0]}


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_profile(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    kinds = ("*.py", "*.json", "py.typed")
    parts = [
        ROOT / "eflib",
        *(ROOT / "eflib" / link for link in ("launcher", "models", "profiles")),
    ]
    expected = {
        path.relative_to(ROOT).as_posix()
        for part in parts
        for kind in kinds
        for path in part.rglob(kind)
    }

    assert expected - names == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "module", ["eflib", "eflib.launcher", "eflib.models", "eflib.profiles", "eflib.scheduling"]
)
def test_the_installed_wheel_is_imported_from_another_directory(installed, tmp_path, module):
    script = "import sys; sys.path.insert(0, sys.argv[1]); import {0}; print({0}.__file__)"

    origin = run(sys.executable, "-c", script.format(module), installed, cwd=tmp_path)

    assert Path(origin.strip()).is_relative_to(installed)


def test_no_named_tuple_is_generic():
    """Python 3.10 refuses the class; the Python that the tests run on may allow it."""
    found = [
        f"{file.relative_to(ROOT)}: {node.name}"
        for part in ("eflib", "launcher", "models", "profiles", "tests", "examples")
        for file in (ROOT / part).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        and len(node.bases) > 1
        and any(ast.unparse(base).endswith("NamedTuple") for base in node.bases)
    ]

    assert found == []
