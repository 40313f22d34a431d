"""The paper's figures, drawn from the folders that simulations wrote; and scaling curves.

References:
    Gu et al., "ElasticFlow", ASPLOS 2023, figures 7 to 11.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eflib.errors import UsageError
from eflib.profiles import Profile, curves
from eflib.simulator import drawing
from eflib.simulator.efficiency import Steps, cluster_efficiency, used_gpus
from eflib.simulator.results import RunResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LATE, BEST_EFFORT = "xxxx", "...."
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


def draw(kind: str, runs: Sequence[RunResult], out: str | Path) -> tuple[Path, Path]:
    """Draw one figure of a set of runs, as PNG and as SVG.

    Args:
        kind: One of ``KINDS``: ``allocation`` (one run), ``satisfaction`` (by policy and trace),
            ``cluster-size``, ``best-effort`` or ``efficiency`` (one trace on one cluster).
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
    return drawing.save(lambda figure: KINDS[kind](figure, runs), out)


def draw_curves(profiles: Sequence[Profile], out: str | Path) -> tuple[Path, Path]:
    """Draw scaling curves by number of GPUs, as PNG and as SVG; guesses are hollow.

    Args:
        profiles: Curves of any models, devices and batch sizes; at least one.
        out: Path without ending, or with one, which is replaced.

    Raises:
        UsageError: matplotlib is not installed.
    """

    def paint(figure: Figure) -> None:
        figure.set_size_inches(4.8, 3.4)
        axes = figure.subplots()
        for number, profile in enumerate(profiles):
            counts, rates = zip(*profile.points.items(), strict=True)
            batch = profile.global_batch_size
            label = profile.model if batch is None else f"{profile.model}, batch {batch}"
            look = drawing.line_look(number)
            axes.plot(counts, rates, label=label, **look)
            if profile.extrapolated:  # hollow, with how much less it may be
                guessed, pairs = zip(*sorted(profile.extrapolated.items()), strict=True)
                likely = [rate for rate, _ in pairs]
                less = [rate - rate / (1 + margin) for rate, margin in pairs]
                bars = [less, [0.0] * len(less)]
                hollow = {**look, "linestyle": "none", "markerfacecolor": "white"}
                axes.errorbar(guessed, likely, bars, label="extrapolated", capsize=3, **hollow)
        ticks = sorted({n for one in profiles for n in (*one.points, *one.extrapolated)})
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set(xlabel="GPUs", ylabel="steps per second", ylim=(0, None))
        axes.grid(axis="y", linewidth=0.3)
        drawing.legend_above(figure, axes, 3)

    return drawing.save(paint, out)


def _allocation(figure: Figure, runs: Sequence[RunResult]) -> None:
    """Draw who held which GPU when: colour is the model, hatching the fate of the job."""
    if len(runs) != 1:
        raise UsageError(f"the figure 'allocation' shows one run, not {len(runs)}")
    (run,) = runs
    figure.set_size_inches(8, 4.5)
    axes = figure.subplots()
    span = run.horizon - run.start
    unit, unit_name = drawing.time_unit(span)
    models = sorted({job.model for job in run.jobs.values()})
    boxes: defaultdict[tuple[int, str], list[drawing.Box]] = defaultdict(list)
    for holding in run.holdings:
        job = run.jobs[holding.job_id]
        kind = models.index(job.model), BEST_EFFORT if job.best_effort else "" if job.met else LATE
        start, end = (holding.start - run.start) / unit, (holding.end - run.start) / unit
        for low, count in holding.ranges:
            high = low + count
            boxes[kind].append(((start, low), (end, low), (end, high), (start, high)))
        is_wide = holding.end - holding.start > LABELLED_WIDTH * span
        if is_wide and len(run.jobs) <= LABELLED_JOBS:
            low, count = holding.ranges[0]
            middle = ((start + end) / 2, low + count / 2)
            axes.annotate(
                holding.job_id[:8], middle, ha="center", va="center", fontsize=6, clip_on=True
            )
    for (model, hatch), corners in sorted(boxes.items()):
        drawing.add_boxes(axes, corners, drawing.COLOURS[model % len(drawing.COLOURS)], hatch)
    for node in range(1, run.num_gpus // run.gpus_per_node):
        axes.axhline(node * run.gpus_per_node, color="black", linewidth=0.2, alpha=0.5)
    rest = (
        ""
        if run.end <= run.horizon
        else f"; the last job ends at {(run.end - run.start) / unit:.1f}"
    )
    axes.set(xlabel=f"time ({unit_name}{rest})", ylabel="GPU", ylim=(0, run.num_gpus))
    axes.set_xlim(0, max(span / unit, 1e-9))
    axes.set_title(f"{run.policy}: {run.trace} on {run.num_gpus} GPUs")
    _fate_legend(figure, run, models)


def _fate_legend(figure: Figure, run: RunResult, models: Sequence[str]) -> None:
    """Explain the Gantt's colours and hatches, as far as they occur."""
    entries = [
        drawing.patch(model, drawing.COLOURS[number % len(drawing.COLOURS)])
        for number, model in enumerate(models)
    ]
    if any(job.best_effort for job in run.jobs.values()):
        entries.append(drawing.patch("best effort", "#999999", BEST_EFFORT))
    if any(job.admitted and not job.met and not job.best_effort for job in run.jobs.values()):
        entries.append(drawing.patch("late", "#999999", LATE))
    figure.legend(handles=entries, loc="outside right upper", frameon=False)


def _satisfaction(figure: Figure, runs: Sequence[RunResult]) -> None:
    """Draw bars: the share of deadlines met, by policy, in a group for each trace."""
    settings = list(dict.fromkeys((run.trace, run.num_gpus) for run in runs))
    policies = _policies(runs)
    figure.set_size_inches(max(4.5, 1.2 + 0.38 * len(policies) * len(settings)), 3.2)
    axes = figure.subplots()
    width = 0.84 / len(policies)
    for index, policy in enumerate(policies):
        by_setting = {(run.trace, run.num_gpus): run for run in runs if run.policy == policy}
        places = [i for i, setting in enumerate(settings) if setting in by_setting]
        bars = axes.bar(
            [place + (index - (len(policies) - 1) / 2) * width for place in places],
            [100 * by_setting[settings[i]].satisfaction for i in places],
            width,
            label=policy,
            **drawing.bar_look(_look(policy, policies)),
        )
        axes.bar_label(bars, fmt="%.0f", fontsize=7, padding=1)
    axes.set_xticks(range(len(settings)), [f"{trace}\n{gpus} GPUs" for trace, gpus in settings])
    _percent_axis(axes)
    drawing.legend_above(figure, axes, 5)


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
    drawing.legend_above(figure, axes, 3)


def _best_effort(figure: Figure, runs: Sequence[RunResult]) -> None:
    """Draw two panels by share of best-effort jobs: deadlines met, and mean completion time."""
    if not any(run.best_effort_share for run in runs):
        raise UsageError("the figure 'best-effort' needs runs with best-effort jobs")
    figure.set_size_inches(7.5, 3.2)
    left, right = figure.subplots(1, 2)

    def share(run: RunResult) -> float:
        return 100 * run.best_effort_share

    _lines(left, runs, share, lambda run: 100 * run.satisfaction)
    _lines(right, runs, share, lambda run: run.best_effort_completion_time / drawing.HOUR)
    for axes in (left, right):
        axes.set(xlabel="best-effort jobs (%)", xlim=(0, 100))
    _percent_axis(left)
    right.set(ylabel="mean completion time of\nbest-effort jobs (hours)", ylim=(0, None))
    right.grid(axis="y", linewidth=0.3)
    drawing.legend_above(figure, left, 4)


def _efficiency(figure: Figure, runs: Sequence[RunResult]) -> None:
    """Draw two panels over time: cluster efficiency, and the share of GPUs in use."""
    if len({(run.trace, run.num_gpus) for run in runs}) > 1:
        raise UsageError("the figure 'efficiency' shows one trace on one cluster")
    figure.set_size_inches(7.5, 4.2)
    upper, lower = figure.subplots(2, 1, sharex=True)
    span = max(run.horizon - run.start for run in runs)
    unit, unit_name = drawing.time_unit(span)
    times = [(number + 0.5) * span / EFFICIENCY_BINS / unit for number in range(EFFICIENCY_BINS)]
    for index, run in enumerate(sorted(runs, key=_place)):
        look = drawing.line_look(_look(run.policy, _policies(runs)))
        look |= {"linewidth": 1.1, "markersize": 4, "markevery": (7 * index, EFFICIENCY_BINS // 8)}
        efficiency = _means(cluster_efficiency(run, curves(run.profiles)), run, span)
        in_use = _means(used_gpus(run), run, span)
        upper.plot(times, efficiency, label=run.policy, **look)
        lower.plot(times, [100 * value / run.num_gpus for value in in_use], **look)
    upper.set_ylabel("cluster efficiency")
    lower.set(xlabel=f"time ({unit_name})", ylabel="GPUs in use (%)")
    for axes in (upper, lower):
        axes.set_ylim(0, None)
        axes.grid(axis="y", linewidth=0.3)
    drawing.legend_above(figure, upper, 4)


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
    policies = _policies(runs)
    for policy in policies:
        points = sorted((x(run), y(run)) for run in runs if run.policy == policy)
        look: dict[str, Any] = drawing.line_look(_look(policy, policies))
        axes.plot(*zip(*points, strict=True), label=policy, **look)


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


KINDS: dict[str, Callable[[Figure, Sequence[RunResult]], None]] = {
    "allocation": _allocation,
    "satisfaction": _satisfaction,
    "cluster-size": _cluster_size,
    "best-effort": _best_effort,
    "efficiency": _efficiency,
}
