"""Packaging: three top-level folders live inside the one import name ``eflib``.

``launcher/``, ``models/`` and ``profiles/`` are installed as ``eflib.launcher`` and so on, so that
no generic import name is claimed. The relative links ``eflib/{launcher,models,profiles}`` say the
same to a checkout, to mypy and to ``python -m``.
"""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
FOLDERS = {
    "eflib": "eflib",
    "eflib.launcher": "launcher",
    "eflib.models": "models",
    "eflib.profiles": "profiles",
}
MAPPED = tuple(name.removeprefix("eflib.") for name in FOLDERS if name != "eflib")


def packages() -> list[str]:
    """Return every package under its installed name; the links are left out."""
    names = ["eflib"]
    own = find_packages(str(HERE / "eflib"))
    names += [f"eflib.{name}" for name in own if name.split(".")[0] not in MAPPED]
    for name, folder in FOLDERS.items():
        if name != "eflib":
            names += [name, *(f"{name}.{sub}" for sub in find_packages(str(HERE / folder)))]
    return names


setup(
    name="eflib",
    version="0.1.0",
    description="Elastic PyTorch training with deadlines: ElasticFlow (ASPLOS '23) as a library.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=packages(),
    package_dir=FOLDERS,
    package_data={"eflib": ["py.typed"], "eflib.profiles": ["*.json", "*/*.json"]},
    install_requires=[
        "torch>=2.8",
        "numpy>=1.26",
        "filelock>=3.13",
        "msgspec>=0.19",  # typed messages
        "fire>=0.7,<0.8",
        "rich>=13",
        "psutil>=5.9",
    ],
    extras_require={
        "examples": ["scikit-learn>=1.4", "pillow>=10", "transformers>=4.56"],
        "plot": ["matplotlib>=3.8"],
        "simulator": ["scipy>=1.11.1"],
        "test": [
            "pytest>=8",
            "pytest-timeout>=2.3.1",
            "pytest-xdist>=3.6.1",  # the tests on all cores
            "hypothesis>=6.100",
            "scikit-learn>=1.4",
            "pillow>=10",
            "matplotlib>=3.8",
            "scipy>=1.11.1",
            "transformers>=4.56",  # models are held against it
            "setuptools>=77.0.3",  # builds the wheel under test without a network
        ],
        "docs": [
            "mkdocs>=1.6,<2",
            "mkdocs-material>=9.5,<10",
            "mkdocstrings>=0.28,<2",
            "mkdocstrings-python>=1.16,<3",
        ],
        "lint": [
            "ruff==0.17.5",
            "mypy==2.4.1",
            "import-linter==2.16; python_version >= '3.11'",
            "import-linter==2.15; python_version < '3.11'",  # the last one for 3.10
        ],
    },
    entry_points={
        "console_scripts": [
            "eflaunch = eflib.launcher.eflaunch:main",
            "efctl = eflib.launcher.efctl:main",
        ],
        "torchrun.handlers": ["eflib = eflib.agent.rendezvous:get_handler"],
    },
    zip_safe=False,
)
