"""Plots as SVG text, drawn without a display and the same on every machine.

Text stays text and has no colour of its own, so that the page's light or dark mode decides.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from uvlm.evaluation.results import Chart, Score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["class_plot", "curve_plot", "score_plot", "systems_plot"]

BLUE, RED, GREY = "#3b72b8", "#b42318", "#8a94a6"
COLOURS = (BLUE, "#c2702b", "#2f8f5b", "#8c4fb0", "#a3873a", RED)
MARKS = ("|", "x", "+", "1", "2")
ROW = 0.27
"""Inches per row."""


def score_plot(title: str, scores: Sequence[Score], unit: str = "") -> str:
    """Values with their intervals; floors as marks on the same row. "" without a value to draw."""
    scores = [score for score in scores if math.isfinite(score.value)]
    if not scores:
        return ""
    figure, axes = _figure(len(scores), [score.name for score in scores])
    axes.set_xlabel(unit)
    floors = list(dict.fromkeys(floor.name for score in scores for floor in score.floors))
    _dots(axes, scores, 0.0, BLUE, "system")
    for i, name in enumerate(floors):
        found = [(f.value, y) for y, s in enumerate(scores) for f in s.floors if f.name == name]
        x, y = zip(*found, strict=True)
        mark = MARKS[i % len(MARKS)]
        axes.scatter(x, y, marker=mark, s=55, color=COLOURS[(i + 1) % 6], label=name, zorder=3)
    if floors:
        _legend(axes)
    return _svg(figure, title)


def class_plot(title: str, rows: Mapping[str, Score], unit: str = "") -> str:
    """One bar per class with its interval."""
    rows = {name: score for name, score in rows.items() if math.isfinite(score.value)}
    if not rows:
        return ""
    figure, axes = _figure(len(rows), list(rows))
    axes.set_xlabel(unit)
    places = range(len(rows))
    axes.barh(list(places), [s.value for s in rows.values()], color=BLUE, alpha=0.55, height=0.7)
    _dots(axes, list(rows.values()), 0.0, BLUE, None)
    axes.set_xlim(left=min(0.0, *(s.value for s in rows.values())))
    return _svg(figure, title)


def systems_plot(title: str, names: Sequence[str], systems: Mapping[str, Sequence[Score]]) -> str:
    """The same scores of several systems beside each other; those not re-run have no interval.

    Args:
        names: of the rows
        systems: name -> one score per row, nan where it has none
    """
    figure, axes = _figure(len(names), list(names), room=max(1.0, 0.55 * len(systems)))
    for i, (name, scores) in enumerate(systems.items()):
        shift = 0.7 * ((i + 0.5) / len(systems) - 0.5)
        _dots(axes, scores, shift, COLOURS[i % len(COLOURS)], name)
    _legend(axes)
    return _svg(figure, title)


def curve_plot(chart: Chart) -> str:
    """Lines over two axes, such as a reliability plot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for i, (name, (x, y)) in enumerate(chart.lines.items()):
        axes.plot(x, y, marker="o", markersize=4, color=COLOURS[i % len(COLOURS)], label=name)
    if chart.diagonal:
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    _plain(axes)
    if len(chart.lines) > 1:
        _legend(axes)
    return _svg(figure, chart.title)


def _figure(rows: int, names: Sequence[str], room: float = 1.0) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 1.0 + ROW * room * max(rows, 2)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_yticks(range(rows), list(names))
    axes.set_ylim(rows - 0.4, -0.6)
    axes.grid(axis="x", color=GREY, alpha=0.25)
    _plain(axes)
    return figure, axes


def _dots(axes: Any, scores: Sequence[Score], shift: float, colour: str, label: str | None) -> None:
    values = np.array([score.value for score in scores])
    places = np.arange(len(scores)) + shift
    lines = [(p, s.low, s.high) for p, s in zip(places, scores, strict=True)]
    for place, low, high in lines:
        if math.isfinite(low):
            axes.plot([low, high], [place, place], color=colour, linewidth=1.4, zorder=2)
    known = np.isfinite(values)
    axes.scatter(values[known], places[known], s=22, color=colour, zorder=3, label=label)


def _legend(axes: Any) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize="small")


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(color=GREY)


def _svg(figure: Figure, title: str) -> str:
    """The drawing without the XML header, for use inside a page."""
    import matplotlib

    text = io.StringIO()
    # The salt makes the names inside the file depend on its content only.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        metadata = {"Date": None, "Creator": None, "Title": title}
        figure.savefig(text, format="svg", transparent=True, metadata=metadata)
    drawn = text.getvalue()
    return drawn[drawn.index("<svg") :]
