"""The paper's figures, drawn from the folders that simulations wrote.

Every figure can be read in print and by the colour-blind: colours are Okabe and Ito's, and hatches
or markers say the same once more. Drawing needs matplotlib, which is an extra.

References:
    Gu et al., "ElasticFlow", ASPLOS 2023, figures 7 to 11.
    Okabe and Ito, "Color Universal Design", 2008, https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eflib.errors import UsageError
from eflib.profiles import curves
from eflib.simulator.efficiency import Steps, cluster_efficiency, used_gpus
from eflib.simulator.results import RunResult

Corner = tuple[float, float]
Box = tuple[Corner, Corner, Corner, Corner]

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#D55E00",
    "#56B4E9",
    "#F0E442",
    "#666666",
    "#000000",
)
HATCHES = ("", "//", "..", "xx", "\\\\", "--", "oo", "++", "**")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<")
DASHES = ("-", "--", "-.", ":")
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.linewidth": 0.6,
    "svg.hashsalt": "eflib",  # the same run gives the same file
    "svg.fonttype": "none",
}
LATE, BEST_EFFORT = "xxxx", "...."
HOUR = 3600.0
LONGEST_IN_HOURS = 96 * HOUR  # longer time axes are in days
LABELLED_JOBS = 30  # with more, names in the Gantt would be unreadable
LABELLED_WIDTH = 0.03  # of the time axis; narrower boxes have no room for a name
EFFICIENCY_BINS = 400  # means over so many stretches; more would be finer than a printed line
ORDER = (  # policies in legends, ours first; others follow by name
    "elasticflow",
    "elasticflow-no-admission",
    "edf+admission",
    "edf",
    "gandiva",
    "tiresias",
    "themis",
    "chronus",
    "pollux",
)


def draw(kind: str, runs: Sequence[RunResult], out: str | Path) -> tuple[Path, ...]:
    """Draw one figure of a set of runs, as PNG and as SVG.

    Args:
        kind: One of ``KINDS``: ``allocation`` (one run), ``satisfaction`` (by policy and trace),
            ``cluster-size``, ``best-effort`` or ``efficiency``.
        runs: What to draw.
        out: Path without ending, or with one, which is replaced.

    Returns:
        The two files written.

    Raises:
        UsageError: There is no such figure, the runs do not suffice for it, or matplotlib is not
            installed.
    """
    if kind not in KINDS:
        raise UsageError(f"no figure named {kind!r}", hint=f"there are {', '.join(KINDS)}")
    if not runs:
        raise UsageError("nothing to draw: no simulated run was named")
    matplotlib = _matplotlib()
    with matplotlib.rc_context(STYLE):
        figure = matplotlib.figure.Figure(layout="constrained")
        KINDS[kind](figure, runs)
        place = Path(out)
        place.parent.mkdir(parents=True, exist_ok=True)
        written = tuple(place.with_suffix(ending) for ending in (".png", ".svg"))
        figure.savefig(written[0], dpi=160, metadata={"Software": None})
        figure.savefig(written[1], metadata={"Date": None})
    return written


def _matplotlib() -> Any:  # noqa: ANN401 - a module that may not be there
    """Return matplotlib, or say how to get it."""
    try:
        import matplotlib as module  # noqa: PLC0415 - optional: only figures need it
        import matplotlib.figure  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            "cannot draw: matplotlib is not installed", hint="pip install 'eflib[plot]'"
        ) from error
    return module


def _allocation(figure: Figure, runs: Sequence[RunResult]) -> None:
    """Draw who held which GPU when: colour is the model, hatching the fate of the job."""
    if len(runs) != 1:
        raise UsageError(f"the figure 'allocation' shows one run, not {len(runs)}")
    (run,) = runs
    figure.set_size_inches(8, 4.5)
    axes = figure.subplots()
    unit, unit_name = _time_unit(run.end - run.start)
    models = sorted({job.model for job in run.jobs.values()})
    boxes: defaultdict[tuple[int, str], list[Box]] = defaultdict(list)
    for holding in run.holdings:
        job = run.jobs[holding.job_id]
        kind = models.index(job.model), BEST_EFFORT if job.best_effort else "" if job.met else LATE
        start, end = (holding.start - run.start) / unit, (holding.end - run.start) / unit
        for low, count in holding.ranges:
            high = low + count
            boxes[kind].append(((start, low), (end, low), (end, high), (start, high)))
        if (
            len(run.jobs) <= LABELLED_JOBS
            and end - start > LABELLED_WIDTH * (run.end - run.start) / unit
        ):
            low, count = holding.ranges[0]
            middle = ((start + end) / 2, low + count / 2)
            axes.annotate(holding.job_id[:8], middle, ha="center", va="center", fontsize=6)
    for (model, hatch), corners in sorted(boxes.items()):
        _add_boxes(axes, corners, COLOURS[model % len(COLOURS)], hatch)
    for node in range(1, run.num_gpus // run.gpus_per_node):
        axes.axhline(node * run.gpus_per_node, color="black", linewidth=0.2, alpha=0.5)
    axes.set(xlabel=f"time ({unit_name})", ylabel="GPU", ylim=(0, run.num_gpus))
    axes.set_xlim(0, max((run.end - run.start) / unit, 1e-9))
    axes.set_title(f"{run.policy}: {run.trace} on {run.num_gpus} GPUs")
    _fate_legend(figure, run, models)


def _add_boxes(axes: Axes, boxes: Sequence[Box], colour: str, hatch: str) -> None:
    """Add rectangles of one look at once; thousands one by one would take minutes."""
    from matplotlib.collections import PolyCollection  # noqa: PLC0415 - optional, see _matplotlib

    width = 0.4 if len(boxes) < 500 else 0.1
    axes.add_collection(
        PolyCollection(boxes, facecolor=colour, edgecolor="white", linewidth=width, hatch=hatch)
    )


def _time_unit(span: float) -> tuple[float, str]:
    """Return the unit that a time axis of so many seconds is labelled in."""
    return (HOUR, "hours") if span <= LONGEST_IN_HOURS else (24 * HOUR, "days")


def _fate_legend(figure: Figure, run: RunResult, models: Sequence[str]) -> None:
    """Explain the Gantt's colours and hatches, as far as they occur."""
    from matplotlib.patches import Patch  # noqa: PLC0415 - optional, see _matplotlib

    patches = [
        Patch(facecolor=COLOURS[i % len(COLOURS)], label=model) for i, model in enumerate(models)
    ]
    if any(job.best_effort for job in run.jobs.values()):
        patches.append(
            Patch(facecolor="#999999", edgecolor="white", hatch=BEST_EFFORT, label="best effort")
        )
    if any(not job.met and not job.best_effort for job in run.jobs.values()):
        patches.append(Patch(facecolor="#999999", edgecolor="white", hatch=LATE, label="late"))
    figure.legend(handles=patches, loc="outside right upper", frameon=False)


def _satisfaction(figure: Figure, runs: Sequence[RunResult]) -> None:
    """Draw bars: the share of deadlines met, by policy, in a group for each trace."""
    settings = list(dict.fromkeys((run.trace, run.num_gpus) for run in runs))
    policies = _policies(runs)
    figure.set_size_inches(max(4.5, 1.2 + 0.38 * len(policies) * len(settings)), 3.2)
    axes = figure.subplots()
    width = 0.84 / len(policies)
    for index, policy in enumerate(policies):
        look = _look(policy, policies)
        by_setting = {(run.trace, run.num_gpus): run for run in runs if run.policy == policy}
        places = [i for i, setting in enumerate(settings) if setting in by_setting]
        heights = [100 * by_setting[settings[i]].satisfaction for i in places]
        bars = axes.bar(
            [place + (index - (len(policies) - 1) / 2) * width for place in places],
            heights,
            width,
            label=policy,
            color=COLOURS[look % len(COLOURS)],
            hatch=HATCHES[look % len(HATCHES)],
            edgecolor="black",
            linewidth=0.6,
        )
        axes.bar_label(bars, fmt="%.0f", fontsize=7, padding=1)
    axes.set_xticks(range(len(settings)), [f"{trace}\n{gpus} GPUs" for trace, gpus in settings])
    _percent_axis(axes)
    figure.legend(loc="outside upper center", ncols=min(5, len(policies)), frameon=False)


def _cluster_size(figure: Figure, runs: Sequence[RunResult]) -> None:
    """Draw lines: the share of deadlines met, by size of the cluster."""
    if len({run.num_gpus for run in runs}) < 2:
        raise UsageError("the figure 'cluster-size' needs runs on at least two cluster sizes")
    figure.set_size_inches(4.5, 3.2)
    axes = figure.subplots()
    _lines(axes, runs, lambda run: run.num_gpus, lambda run: 100 * run.satisfaction)
    sizes = sorted({run.num_gpus for run in runs})
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xlabel("GPUs in the cluster")
    _percent_axis(axes)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False
    )


def _best_effort(figure: Figure, runs: Sequence[RunResult]) -> None:
    """Draw two panels by share of best-effort jobs: deadlines met, and mean completion time."""
    if not any(run.best_effort_share for run in runs):
        raise UsageError("the figure 'best-effort' needs runs with best-effort jobs")
    figure.set_size_inches(7.5, 3.2)
    left, right = figure.subplots(1, 2)
    _lines(left, runs, lambda run: 100 * run.best_effort_share, lambda run: 100 * run.satisfaction)
    _lines(
        right,
        runs,
        lambda run: 100 * run.best_effort_share,
        lambda run: run.best_effort_completion_time / HOUR,
    )
    for axes in (left, right):
        axes.set(xlabel="best-effort jobs (%)", xlim=(0, 100))
    _percent_axis(left)
    right.set(ylabel="mean completion time of\nbest-effort jobs (hours)", ylim=(0, None))
    right.grid(axis="y", linewidth=0.3)
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False
    )


def _efficiency(figure: Figure, runs: Sequence[RunResult]) -> None:
    """Draw two panels over time: cluster efficiency, and the share of GPUs in use."""
    figure.set_size_inches(7.5, 4.2)
    upper, lower = figure.subplots(2, 1, sharex=True)
    span = max(run.end - run.start for run in runs)
    unit, unit_name = _time_unit(span)
    for index, run in enumerate(sorted(runs, key=_place)):
        look = _line_look(run.policy, runs)
        look |= {"linewidth": 1.1, "markersize": 4, "markevery": (7 * index, EFFICIENCY_BINS // 8)}
        efficiency = _means(cluster_efficiency(run, curves(run.profiles)), run, span)
        in_use = _means(used_gpus(run), run, span)
        label = run.policy if len({r.trace for r in runs}) == 1 else f"{run.policy}, {run.trace}"
        times = [(bin_ + 0.5) * span / EFFICIENCY_BINS / unit for bin_ in range(EFFICIENCY_BINS)]
        upper.plot(times, efficiency, label=label, **look)
        lower.plot(times, [100 * value / run.num_gpus for value in in_use], **look)
    upper.set_ylabel("cluster efficiency")
    lower.set(xlabel=f"time ({unit_name})", ylabel="GPUs in use (%)", ylim=(0, 105))
    for axes in (upper, lower):
        axes.set_ylim(0, None)
        axes.grid(axis="y", linewidth=0.3)
    figure.legend(
        *upper.get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False
    )


def _means(steps: Steps, run: RunResult, span: float) -> list[float]:
    """Return the means of a step function over equal stretches of the run's span."""
    width = span / EFFICIENCY_BINS or 1.0
    sums = [0.0] * EFFICIENCY_BINS
    for (start, value), (end, _) in pairwise(steps):
        low, high = (start - run.start) / width, (end - run.start) / width
        for index in range(max(0, int(low)), min(EFFICIENCY_BINS, math.ceil(high))):
            sums[index] += value * (min(high, index + 1) - max(low, index))
    return sums


def _lines(
    axes: Axes,
    runs: Sequence[RunResult],
    x: Callable[[RunResult], float],
    y: Callable[[RunResult], float],
) -> None:
    """Draw one line with markers for each policy."""
    for policy in _policies(runs):
        points = sorted((x(run), y(run)) for run in runs if run.policy == policy)
        axes.plot(*zip(*points, strict=True), label=policy, **_line_look(policy, runs))


def _percent_axis(axes: Axes) -> None:
    """Label the vertical axis as the share of deadlines met."""
    axes.set(ylabel="deadlines met (%)", ylim=(0, 105))
    axes.grid(axis="y", linewidth=0.3)
    axes.set_axisbelow(True)


def _policies(runs: Sequence[RunResult]) -> list[str]:
    """Return the runs' policies in the order of legends."""
    return list(dict.fromkeys(run.policy for run in sorted(runs, key=_place)))


def _place(run: RunResult) -> tuple[int, str]:
    """Return the place of a run among others."""
    return (ORDER.index(run.policy) if run.policy in ORDER else len(ORDER)), run.policy


def _look(policy: str, policies: Sequence[str]) -> int:
    """Return the number of a policy's colour, hatch and marker: its own in every figure."""
    strangers = [name for name in policies if name not in ORDER]
    return ORDER.index(policy) if policy in ORDER else len(ORDER) + strangers.index(policy)


def _line_look(policy: str, runs: Sequence[RunResult]) -> dict[str, Any]:
    """Return how a policy's line is drawn."""
    look = _look(policy, _policies(runs))
    return {
        "color": COLOURS[look % len(COLOURS)],
        "linestyle": DASHES[look % len(DASHES)],
        "marker": MARKERS[look % len(MARKERS)],
        "markersize": 5,
        "markeredgecolor": "black",
        "markeredgewidth": 0.4,
    }


KINDS: dict[str, Callable[[Figure, Sequence[RunResult]], None]] = {
    "allocation": _allocation,
    "satisfaction": _satisfaction,
    "cluster-size": _cluster_size,
    "best-effort": _best_effort,
    "efficiency": _efficiency,
}
