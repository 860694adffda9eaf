"""Plots of an assessment by matplotlib: precision-recall curves and the confusion matrix.

Figures are built without pyplot, which has global state and looks for a display.
"""

import warnings
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.evaluation.assessment import Assessment, ClassReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
MOST_CURVES = 10  # classes with a colour and a name; of more classes the best and worst four have them
INK, PALE = "#333333", "#b8bec8"
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#997700", "#222255", "#ee99aa")

FONTS_OF_OTHER_SCRIPTS = (
    *(
        "Noto Sans CJK JP",
        "Noto Sans CJK SC",
        "WenQuanYi Zen Hei",
        "Hiragino Sans",
        "Yu Gothic",
        "Malgun Gothic",
    ),
    *("Microsoft YaHei", "PingFang SC", "Noto Sans Arabic", "Noto Sans Devanagari", "Arial Unicode MS"),
)


def draw_pictures(assessment: Assessment, folder: Path, title: str) -> list[Path]:
    """Write the plots as PNG into `folder`, which is created; returns the paths. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "precision_recall.png": draw_curves(assessment, title),
        "confusion_matrix.png": draw_confusion(assessment, title),
    }
    for name, figure in pictures.items():
        save_figure(figure, folder / name)
    return [folder / name for name in pictures]


def draw_curves(assessment: Assessment, title: str) -> "Figure":
    """Precision against recall at IoU 0.5: a line per class, with a dot at the score threshold."""
    figure = new_figure(8.0, 5.6)
    axes = figure.add_subplot()
    with_objects = [report for report in assessment.classes if report.objects]
    ranked = sorted(with_objects, key=lambda report: -report.AP50)
    named = ranked if len(ranked) <= MOST_CURVES else [*ranked[:4], *ranked[-4:]]
    for report in ranked:
        if report not in named:
            _plot(axes, report, PALE, 0.8, raw=False)
    lines: list[tuple[Any, str]] = []
    for colour, report in zip(cycle(COLOURS), named):  # the colours repeat
        line = _plot(axes, report, colour, 2.0, raw=True)
        lines.append((line, f"{_short(report.name)}  {report.AP50:.3f}"))
        if report.recall:
            axes.plot(
                report.recall, report.precision, "o", color=colour, markersize=6, markeredgecolor="white"
            )
    _finish_curves(axes, assessment, title)
    if len(ranked) > 1:
        mean = np.mean([report.precision_at_recall for report in ranked], axis=0)
        [line] = axes.plot(np.linspace(0, 1, len(mean)), mean, color=INK, linestyle=(0, (4, 2)))
        lines.append((line, f"all classes  {assessment.numbers['AP50']:.3f}"))
    heading = "AP50" if len(named) == len(ranked) else f"AP50, best and worst of {len(ranked)}"
    _name_lines(axes, lines, heading)
    return figure


def _plot(axes: "Axes", report: ClassReport, colour: str, width: float, raw: bool) -> Any:
    """The curve as AP counts it: the best precision at that recall or more; if `raw`, also as measured."""
    recall, precision = report.curve.recall, report.curve.precision
    if raw:
        axes.plot(recall, precision, color=colour, linewidth=0.8, alpha=0.4)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    start = np.zeros(min(1, len(recall)))
    steps = np.concatenate([start, recall]), np.concatenate([best[:1], best])
    return axes.plot(*steps, color=colour, linewidth=width, drawstyle="steps-pre")[0]


def _finish_curves(axes: "Axes", assessment: Assessment, title: str) -> None:
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02), xlabel="recall: share of the objects that are found")
    axes.set(ylabel="precision: share of the detections that are right")
    axes.grid(color="#e6e8ec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    write_heading(
        axes,
        title,
        f"Precision and recall at IoU 0.5 (pale: as measured); dots: at score {assessment.threshold:g}",
    )


def _name_lines(axes: "Axes", lines: Sequence[tuple[Any, str]], heading: str) -> None:
    legend = axes.legend(
        [line for line, _ in lines],
        [label for _, label in lines],
        title=heading,
        loc="upper left",
        bbox_to_anchor=(1.02, 1.0),
        frameon=False,
        alignment="left",
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def draw_confusion(assessment: Assessment, title: str) -> "Figure":
    """The confusion matrix: colours are shares of the row's objects, numbers are counts."""
    order = [*range(1, len(assessment.labels)), 0]
    counts = assessment.confusion[np.ix_(order, order)]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(2.8 + 0.55 * len(order), 5.2, 16.0))
    figure = new_figure(side + 0.8, side)
    axes = figure.add_subplot()
    # The last row has no objects.
    shares[-1] = np.nan
    image = axes.imshow(shares, cmap=_shades(), vmin=0, vmax=1, aspect="equal")
    names = [_short(assessment.labels[label]) for label in order[:-1]]
    _name_ticks(axes, [*names, "not detected"], [*names, "no object"])
    _write_counts(axes, counts, shares)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label("share of the class's objects")
    bar.outline.set_visible(False)
    about = f"Confusion at IoU 0.5, scores from {assessment.threshold:g}"
    write_heading(axes, title, about)
    return figure


def _shades() -> Any:
    from matplotlib import colormaps

    return colormaps["Blues"].with_extremes(bad="#f0f0f0")


def _name_ticks(axes: "Axes", columns: Sequence[str], rows: Sequence[str]) -> None:
    size = float(np.clip(300 / len(rows), 4.5, 9))
    axes.set_xticks(
        range(len(columns)), columns, fontsize=size, rotation=45, ha="right", rotation_mode="anchor"
    )
    axes.set_yticks(range(len(rows)), rows, fontsize=size)
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        text.set_parse_math(False)
    axes.set(xlabel="detected as", ylabel="object")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    line = len(rows) - 1.5
    axes.axhline(line, color="white", linewidth=3)
    axes.axvline(line, color="white", linewidth=3)


def _write_counts(axes: "Axes", counts: Any, shares: Any) -> None:
    size = float(np.clip(300 / len(counts), 4, 10))
    for (row, column), count in np.ndenumerate(counts):
        if count:
            ink = "white" if shares[row, column] > 0.55 else INK
            axes.text(column, row, f"{count}", ha="center", va="center", color=ink, fontsize=size)


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure; width and height in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: "Figure", file: Path) -> None:
    """Write the figure as PNG, with names in any script that the machine has a font for."""
    from matplotlib.text import Text

    families = _font_families()
    for text in figure.findobj(Text):
        text.set_fontfamily(families)
    with warnings.catch_warnings():  # a letter without a font is drawn as a box; the report has the name
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(file, dpi=DPI)


def _font_families() -> list[str]:
    """matplotlib's own font, then those of other scripts that are installed."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in FONTS_OF_OTHER_SCRIPTS if name in installed)]


def write_heading(axes: "Axes", title: str, about: str) -> None:
    """Two lines above a plot: the model, and what the plot shows."""
    axes.set_title(f"{title}\n{about}", loc="left", fontsize=11, color=INK, parse_math=False)


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"
