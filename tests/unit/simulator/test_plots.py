import builtins

import pytest
from matplotlib.figure import Figure

from eflib.errors import UsageError
from eflib.profiles import available
from eflib.simulator import drawing
from eflib.simulator.drawing import COLOURS, HATCHES, MARKERS
from eflib.simulator.plots import KINDS, ORDER, draw, draw_curves
from eflib.simulator.results import load
from tests.unit.simulator.runs import write_run

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    home = tmp_path_factory.mktemp("runs")
    return [
        load(
            write_run(
                home / f"{policy}-{nodes}", policy=policy, nodes=nodes, num_jobs=12, best_effort=0.4
            )
        )
        for policy in ("edf", "elasticflow", "mine")
        for nodes in (1, 2)
    ]


def enough(kind, runs):
    """As many runs as a figure can show."""
    if kind == "allocation":
        return runs[:1]
    return [run for run in runs if run.num_gpus == 8] if kind == "efficiency" else runs


def svg_texts(path):
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_figure_is_written_as_png_and_svg(runs, tmp_path, kind):
    png, svg = draw(kind, enough(kind, runs), tmp_path / "new" / "figure.pdf")

    assert (png.name, svg.name) == ("figure.png", "figure.svg")
    assert png.read_bytes().startswith(PNG)
    assert "</svg>" in svg_texts(svg)


@pytest.mark.parametrize("kind", ["satisfaction", "cluster-size", "best-effort", "efficiency"])
def test_every_policy_is_in_the_legend(runs, tmp_path, kind):
    text = svg_texts(draw(kind, enough(kind, runs), tmp_path / "figure")[1])

    assert all(f">{policy}" in text for policy in ("elasticflow", "edf", "mine"))


def test_a_gantt_names_its_models_and_fates(runs, tmp_path):
    text = svg_texts(draw("allocation", runs[:1], tmp_path / "figure")[1])

    assert f">edf: {runs[0].trace} on 8 GPUs<" in text
    assert ">best effort<" in text
    assert all(f">{job.model}<" in text for job in runs[0].jobs.values())


def test_a_long_tail_of_the_last_jobs_is_cut_and_told(runs, tmp_path):
    run = max(runs, key=lambda run: run.end - run.horizon)
    text = svg_texts(draw("allocation", [run], tmp_path / "figure")[1])

    assert run.end > run.horizon
    assert "; the last job ends at" in text


def test_bars_carry_their_numbers(runs, tmp_path):
    text = svg_texts(draw("satisfaction", runs[:1], tmp_path / "figure")[1])

    assert f">{100 * runs[0].satisfaction:.0f}<" in text


def test_the_same_runs_give_the_same_file(runs, tmp_path):
    first = draw("satisfaction", runs, tmp_path / "a")[1].read_bytes()

    assert draw("satisfaction", runs, tmp_path / "b")[1].read_bytes() == first


def test_every_policy_differs_in_colour_hatch_and_marker():
    for looks in (COLOURS, HATCHES, MARKERS):
        assert len(set(looks[: len(ORDER)])) == len(ORDER)


@pytest.mark.parametrize(
    ("kind", "number", "message"),
    [
        ("pie", 1, "no figure named 'pie'"),
        ("satisfaction", 0, "nothing to draw"),
        ("allocation", 2, "the figure 'allocation' shows one run, not 2"),
        ("efficiency", 2, "the figure 'efficiency' shows one trace on one cluster"),
        ("cluster-size", 1, "needs runs on at least two cluster sizes"),
    ],
)
def test_runs_that_do_not_suffice_are_refused(runs, tmp_path, kind, number, message):
    with pytest.raises(UsageError, match=message):
        draw(kind, runs[:number], tmp_path / "figure")


def test_best_effort_figures_need_best_effort_jobs(tmp_path):
    run = load(write_run(tmp_path / "run", num_jobs=3))

    with pytest.raises(UsageError, match="needs runs with best-effort jobs"):
        draw("best-effort", [run], tmp_path / "figure")


def test_without_matplotlib_the_extra_is_named(runs, tmp_path, monkeypatch):
    real_import = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)

    with pytest.raises(UsageError, match="matplotlib is not installed") as caught:
        draw("satisfaction", runs, tmp_path / "figure")
    assert caught.value.hint == "pip install 'eflib[plot]'"


def test_curves_are_drawn_with_a_name_for_each(tmp_path):
    profiles = [p for p in available() if p.model == "resnet50"]

    text = svg_texts(draw_curves(profiles, tmp_path / "curves")[1])

    assert all(f">resnet50, batch {size}<" in text for size in (64, 128, 256))


def test_a_legend_takes_as_many_columns_as_fit_the_figure():
    figure = Figure(figsize=(4.0, 3.0))
    axes = figure.subplots()
    for number in range(4):
        axes.plot([0, 1], [0, number], label=f"a name of some length, the number {number}")

    drawing.legend_above(figure, axes, 4)

    (legend,) = figure.legends
    assert len(legend.get_texts()) == 4
    assert legend.get_window_extent().width <= figure.bbox.width
