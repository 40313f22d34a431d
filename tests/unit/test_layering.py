"""The borders between the parts, as an allow-list over every import statement in the tree.

What a part may import is written here and in docs/architecture.md; anything else is a breach, in
a function body and under ``TYPE_CHECKING`` too. ``lint-imports`` checks the same borders along
chains of imports and explains better; this file is the gate and needs nothing installed.
"""

import ast
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What a pure part may use of the standard library: mathematics, containers and words.
PURE_NAMES = """
    __future__ abc bisect collections contextlib copy dataclasses difflib enum fractions functools
    graphlib heapq itertools math numbers operator statistics string textwrap types typing warnings
"""
PURE = frozenset(PURE_NAMES.split())
BASICS = frozenset({"eflib.errors", "eflib.units", "eflib.env", "eflib.files", "eflib.home"})


@dataclass(frozen=True)
class Border:
    """What one part may import beside itself and the standard library."""

    eflib: frozenset[str] = BASICS
    others: frozenset[str] = frozenset()
    is_pure: bool = False


def border(
    eflib: str = "", others: str = "", *, basics: bool = True, is_pure: bool = False
) -> Border:
    parts = frozenset(f"eflib.{name}" for name in eflib.split())
    return Border(parts | (BASICS if basics else frozenset()), frozenset(others.split()), is_pure)


# The longest name that fits a module holds for it.
BORDERS = {
    "eflib": border("trainer", basics=False),
    "eflib.__main__": border("launcher", basics=False),
    "eflib.errors": border(basics=False),
    "eflib.units": border("errors", basics=False),
    "eflib.env": border("errors units", basics=False),
    "eflib.files": border("errors", basics=False),
    "eflib.home": border("errors units env files", basics=False),
    "eflib.pulse": border(basics=False),
    "eflib.scheduling": border("errors", "numpy", basics=False, is_pure=True),
    "eflib.messages": border("errors", "msgspec", basics=False),
    "eflib.store": border("messages", "filelock"),
    "eflib.store.tcp": border("messages", "torch"),
    "eflib.store.serving": border("messages", "torch"),
    "eflib.store.server": border("messages", "torch filelock"),
    "eflib.coordinator": border("scheduling messages store profiler", "filelock psutil"),
    "eflib.agent": border("messages store pulse", "torch filelock psutil"),
    "eflib.trainer": border("messages store pulse", "torch numpy"),
    "eflib.trainer.state.manifest": border("messages", "torch msgspec"),
    "eflib.profiler": border("scheduling profiles", "numpy"),
    "eflib.profiles": border("scheduling"),
    "eflib.simulator": border("scheduling profiles", "numpy"),
    "eflib.simulator.drawing": border("", "matplotlib"),
    "eflib.simulator.plots": border("scheduling profiles", "numpy matplotlib"),
    "eflib.simulator.policies": border("scheduling profiles", "numpy scipy"),
    "eflib.models": border("", "torch", basics=False),
    "eflib.launcher": border(
        "__version__ agent coordinator messages models profiler profiles scheduling simulator "
        "store trainer",
        "fire rich psutil torch filelock numpy matplotlib",
    ),
}


def border_of(module: str) -> Border:
    """Return what a module may import; one that no part is home to may import nothing of eflib."""
    name = module
    while name not in BORDERS:
        name = name.rpartition(".")[0]
    return BORDERS[name] if name != "eflib" or module == "eflib" else Border(frozenset())


def imported_names(source: str) -> list[tuple[int, str]]:
    """Return (line, dotted name) of everything that a source imports, wherever it does so."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            names.append((node.lineno, "." * node.level))
        elif isinstance(node, ast.ImportFrom) and node.module == "eflib":
            names += [(node.lineno, f"eflib.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append((node.lineno, node.module))
    return names


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def may_import(module: str, name: str) -> bool:
    allowed = border_of(module)
    top, own = name.partition(".")[0], ".".join(module.split(".")[:2])
    if name.startswith("."):
        return False
    if top == "eflib":
        inside = own != "eflib" and is_within(name, own)
        return inside or any(is_within(name, part) for part in allowed.eflib)
    if top in sys.stdlib_module_names:
        return top in PURE or not allowed.is_pure
    return top in allowed.others


def breaches(module: str, source: str) -> list[str]:
    """Return one line for each import in a module's source that its border forbids."""
    return [
        f"{module}:{line} imports {name}"
        for line, name in imported_names(source)
        if not may_import(module, name)
    ]


def modules() -> list[tuple[str, Path]]:
    """Return (dotted name, file) of every module, the three folders under their eflib names."""
    homes = {f"eflib.{path.name}": path for path in (ROOT / "eflib").iterdir() if path.is_dir()}
    found = [(f"eflib.{path.stem}", path) for path in (ROOT / "eflib").glob("*.py")]
    for package, folder in homes.items():
        for path in folder.resolve().rglob("*.py"):
            inner = path.relative_to(folder.resolve()).with_suffix("")
            found.append((".".join([package, *inner.parts]), path))
    return sorted((name.removesuffix(".__init__"), path) for name, path in found)


def test_no_module_imports_across_a_border():
    found = [
        line
        for name, path in modules()
        for line in breaches(name, path.read_text(encoding="utf-8"))
    ]

    assert found == []


def test_the_three_folders_are_looked_at_under_their_installed_names():
    names = {name for name, _ in modules()}

    assert {"eflib", "eflib.launcher", "eflib.models.paced", "eflib.profiles"} <= names
    assert len(names) == len(modules())


PLANTS = [
    ("eflib.scheduling.share", "import time"),
    ("eflib.scheduling.share", "from datetime import datetime"),
    ("eflib.scheduling.share", "def f():\n    import os.path"),
    ("eflib.scheduling.share", "import torch"),
    ("eflib.scheduling.share", "from eflib.store import base"),
    ("eflib.scheduling.share", "from eflib import units"),
    ("eflib.store.file", "import torch"),
    ("eflib.messages.inbox", "from eflib.scheduling import jobs"),
    ("eflib.messages.inbox", "from eflib.store import keys"),
    ("eflib.scheduling.share", "import msgspec"),
    ("eflib.scheduling.share", "from eflib.messages import records"),
    ("eflib.agent.agent", "import msgspec"),
    ("eflib.coordinator.coordinator", "import torch"),
    ("eflib.coordinator.coordinator", "from eflib.agent.agent import Agent"),
    ("eflib.coordinator.coordinator", "from eflib.trainer import trainer"),
    ("eflib.agent.agent", "import eflib.coordinator.journal"),
    ("eflib.agent.agent", "from eflib.trainer.trainer import ElasticTrainer"),
    ("eflib.agent.agent", "from eflib import scheduling"),
    ("eflib.trainer.trainer", "from eflib.agent import agent"),
    ("eflib.trainer.trainer", "from eflib.coordinator import journal"),
    ("eflib.trainer.trainer", "from eflib.scheduling import ScalingCurve"),
    ("eflib.trainer.trainer", "from eflib.models import build"),
    ("eflib.profiler.curves", "import torch"),
    ("eflib.profiler.curves", "from eflib.trainer import trainer"),
    ("eflib.simulator.simulator", "from eflib.store.base import Store"),
    ("eflib.simulator.simulator", "import matplotlib.pyplot"),
    ("eflib.simulator.trace", "import scipy.optimize"),
    ("eflib.simulator.simulator", "from eflib.launcher import cli"),
    ("eflib.models.digits", "from eflib.errors import UsageError"),
    ("eflib.profiles", "import torch"),
    ("eflib.errors", "from eflib.units import seconds"),
    ("eflib.launcher.cli", "import requests"),
    ("eflib", "from eflib.launcher import cli"),
    ("eflib.stray", "from eflib.errors import UsageError"),
    ("eflib.agent.agent", "from . import workers"),
]


@pytest.mark.parametrize(("module", "source"), PLANTS, ids=lambda text: text.replace("\n", " "))
def test_a_planted_breach_is_found(module, source):
    assert len(breaches(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "eflib.scheduling.share",
            "import math\nimport numpy as np\nfrom eflib.scheduling.jobs import Job",
        ),
        ("eflib.store.tcp", "import torch.distributed\nfrom eflib.store.base import Store"),
        (
            "eflib.trainer.trainer",
            "import torch\nfrom eflib.store import keys\nfrom eflib import env",
        ),
        ("eflib.models", "from eflib.models.digits import DigitsCNN"),
        (
            "eflib.simulator.policies.chronus",
            "import scipy.optimize\nfrom eflib.simulator.trace import read",
        ),
        ("eflib.simulator.simulator", "from eflib.simulator.policies import edf\nimport os"),
        ("eflib", "from eflib.trainer.trainer import ElasticTrainer"),
    ],
)
def test_what_the_architecture_allows_passes(module, source):
    assert breaches(module, source) == []
