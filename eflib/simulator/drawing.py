"""What figures are drawn with: colours, hatches and markers that can be told apart, and files.

Colours are Okabe and Ito's, which the colour-blind can tell apart, and hatches or markers say the
same once more, for print. Drawing needs matplotlib, which is an extra; it is loaded here alone.

References:
    Okabe and Ito, "Color Universal Design", 2008, https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eflib.errors import UsageError
from eflib.files import writing

if TYPE_CHECKING:
    from types import ModuleType

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

Corner = tuple[float, float]
Box = tuple[Corner, Corner, Corner, Corner]

COLOURS = (
    "#0072B2",  # blue
    "#E69F00",  # orange
    "#009E73",  # green
    "#CC79A7",  # pink
    "#D55E00",  # red
    "#56B4E9",  # sky
    "#F0E442",  # yellow
    "#999999",
    "#882255",  # wine: a ninth, light enough for black hatches
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
DOTS_PER_INCH = 160
MANY_BOXES = 500  # with more, thick edges would hide what they enclose
HOUR = 3600.0
LONGEST_IN_HOURS = 96 * HOUR  # longer time axes are in days


def save(paint: Callable[[Figure], None], out: str | Path) -> tuple[Path, Path]:
    """Paint a figure and write it as PNG and as SVG.

    Args:
        paint: Draws into the figure that it is given.
        out: Path without ending, or with one, which is replaced.

    Returns:
        The two files written.

    Raises:
        UsageError: matplotlib is not installed, or the files cannot be written.
    """
    matplotlib = _matplotlib()
    place = Path(out)
    if not place.name:
        raise UsageError(f"{str(out)!r} is not the name of a figure", hint="as in curves.png")
    png, svg = place.with_suffix(".png"), place.with_suffix(".svg")
    with matplotlib.rc_context(STYLE):
        figure = matplotlib.figure.Figure(layout="constrained")
        paint(figure)
        with writing(png, "the figure"):
            place.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(png, dpi=DOTS_PER_INCH, metadata={"Software": None})
            figure.savefig(svg, metadata={"Date": None})
    return png, svg


def line_look(number: int) -> dict[str, Any]:
    """Return how the line with a number is drawn: colour, dashes and marker of its own."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": DASHES[number % len(DASHES)],
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 5,
        "markeredgecolor": "black",
        "markeredgewidth": 0.4,
    }


def bar_look(number: int) -> dict[str, Any]:
    """Return how the bars with a number are drawn: colour and hatch of their own."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "hatch": HATCHES[number % len(HATCHES)],
        "edgecolor": "black",
        "linewidth": 0.6,
    }


def add_boxes(axes: Axes, boxes: Sequence[Box], colour: str, hatch: str) -> None:
    """Add rectangles of one look at once; thousands one by one would take minutes.

    Args:
        axes: Where to draw.
        boxes: The corners of each rectangle.
        colour: How to fill them.
        hatch: matplotlib's hatching; empty for none.
    """
    width = 0.4 if len(boxes) < MANY_BOXES else 0.1
    collections = _matplotlib().collections
    axes.add_collection(
        collections.PolyCollection(
            boxes, facecolor=colour, edgecolor="white", linewidth=width, hatch=hatch
        )
    )


def patch(label: str, colour: str, hatch: str = "") -> Patch:
    """Return a legend's entry for rectangles of one look.

    Args:
        label: What it says.
        colour: How they are filled.
        hatch: matplotlib's hatching; empty for none.
    """
    made: Patch = _matplotlib().patches.Patch(
        facecolor=colour, edgecolor="white" if hatch else colour, hatch=hatch, label=label
    )
    return made


def legend_above(figure: Figure, axes: Axes, columns: int) -> None:
    """Explain the lines of axes above all panels, in as many columns as fit the figure.

    Args:
        figure: What to draw on.
        axes: Whose lines are explained.
        columns: At most so many.
    """
    handles, labels = axes.get_legend_handles_labels()
    for number in range(min(columns, max(1, len(labels))), 0, -1):
        legend = figure.legend(
            handles, labels, loc="outside upper center", ncols=number, frameon=False
        )
        if number == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def time_unit(span: float) -> tuple[float, str]:
    """Return the unit, in seconds and by name, that a time axis of so many seconds is in."""
    return (HOUR, "hours") if span <= LONGEST_IN_HOURS else (24 * HOUR, "days")


def _matplotlib() -> ModuleType:
    """Return matplotlib with the parts used here, or say how to get it."""
    try:
        import matplotlib as module  # noqa: PLC0415 - optional: only figures need it
        import matplotlib.collections  # noqa: PLC0415
        import matplotlib.figure  # noqa: PLC0415
        import matplotlib.patches  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            "cannot draw: matplotlib is not installed", hint="pip install 'eflib[plot]'"
        ) from error
    return module
