"""``efctl plot``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from eflib.errors import UsageError
from eflib.simulator.plots import KINDS, draw
from eflib.simulator.results import RunResult, load


def command(kind: str, folder: str, *, policies: str | None = None, out: str | None = None) -> None:
    """Plot the results of simulations, as PNG and SVG.

    allocation: which job held which GPU when, a figure for each run. satisfaction: deadlines met by
    policy and trace. cluster-size, best-effort: the same by size of the cluster, by share of
    best-effort jobs. efficiency: of the cluster over time, a figure for each trace and cluster.

    Args:
        kind: allocation, satisfaction, cluster-size, best-effort or efficiency.
        folder: A run written by efctl simulate --out, or any folder above several.
        policies: Only runs of these policies, as in elasticflow,edf.
        out: Path of the figure without its ending; named after its kind by default.
    """
    if kind not in KINDS:
        raise UsageError(f"no figure named {kind!r}", hint=f"there are {', '.join(KINDS)}")
    runs = _runs(Path(folder), set(policies.split(",")) if policies else None)
    place = Path(out or kind)
    groups: dict[str, list[RunResult]] = {}
    for run in runs:
        groups.setdefault(APART.get(kind, _together)(run), []).append(run)
    for name, drawn in groups.items():
        path = place.with_name(f"{place.stem}-{name}") if len(groups) > 1 else place
        for file in draw(kind, drawn, path):
            print(file)


def _runs(folder: Path, policies: set[str] | None) -> list[RunResult]:
    """Return the runs in and below a folder."""
    places = sorted(place for place, _, files in os.walk(folder) if "summary.json" in files)
    found = [load(place) for place in places]
    runs = [run for run in found if policies is None or run.policy in policies]
    if not runs:
        known = ", ".join(sorted({run.policy for run in found}))
        raise UsageError(
            f"no simulated run in {folder}" + (" of these policies" if known else ""),
            hint=f"there are {known}" if known else "efctl simulate --out DIR writes one",
        )
    return runs


def _together(run: RunResult) -> str:
    del run
    return ""


def _setting(run: RunResult) -> str:
    return f"{run.trace}-{run.num_gpus}"


def _run(run: RunResult) -> str:
    return f"{run.policy}-{_setting(run)}".replace("+", "-")


APART: dict[str, Callable[[RunResult], str]] = {"allocation": _run, "efficiency": _setting}
"""Figures that cannot show everything at once: runs that this names alike are drawn together."""
