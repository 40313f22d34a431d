import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import eflib

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(f"eflib.{path.parent.name}" for path in (ROOT / "eflib").glob("*/__init__.py"))
# What a user's script may rely on. Adding a name is a decision; removing one breaks somebody.
PUBLIC = {
    "eflib": ["ElasticLoader", "ElasticSampler", "ElasticTrainer", "__version__"],
    "eflib.models": [
        "GPT2",
        "NAMES",
        "VGG",
        "Bert",
        "BertClassifier",
        "CharGPT",
        "DeepSpeech2",
        "DigitsCNN",
        "Inception",
        "Paced",
        "ResNet",
        "Samples",
        "TaskModel",
        "build",
    ],
    "eflib.profiles": [
        "Profile",
        "available",
        "curves",
        "devices",
        "find",
        "from_json",
        "import_tables",
        "load",
        "read",
        "read_folder",
        "read_table",
        "to_json",
        "write",
    ],
}


@pytest.mark.parametrize("package", sorted(PUBLIC))
def test_the_public_names_are_these(package):
    assert importlib.import_module(package).__all__ == PUBLIC[package]


@pytest.mark.parametrize("package", ["eflib", *PACKAGES])
def test_every_name_that_a_package_offers_exists(package):
    module = importlib.import_module(package)

    assert [name for name in getattr(module, "__all__", []) if not hasattr(module, name)] == []


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'eflib' has no attribute 'Trainer'"):
        _ = eflib.Trainer


def test_the_version_is_that_of_the_distribution():
    assert f'version="{eflib.__version__}"' in (ROOT / "setup.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "package",
    [
        "eflib",
        "eflib.scheduling",
        "eflib.profiles",
        "eflib.simulator",
        "eflib.launcher.eflaunch",
        "eflib.launcher.efctl",
    ],
)
def test_importing_it_does_not_load_torch(package):
    script = f"import sys, {package}; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0
