import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

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
