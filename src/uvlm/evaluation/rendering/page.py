"""A result as one HTML file: no script, no network, nothing beside it."""

from __future__ import annotations

from collections.abc import Sequence

from uvlm.evaluation.rendering.plots import class_plot, curve_plot, score_plot
from uvlm.evaluation.rendering.words import (
    Grid,
    about_lines,
    class_word,
    general_notes,
    grids,
    unit_of,
)
from uvlm.evaluation.results import Chart, Result, Score, split_name
from uvlm.preprocessing.quality_page import Html, folded, join, page, paragraph, table

__all__ = ["grid_html", "html", "picture"]

WIDE = "<style>figure.plot{max-width:46rem;margin:.8rem 0}svg rect{fill:none}</style>"
"""The page draws its own histograms with filled rectangles; these plots bring their colours."""


def html(result: Result) -> str:
    """What was scored, plots, tables by protocol, and what was skipped."""
    by_title = {grid.title: grid for grid in grids(result)}
    parts = [("about", "What was scored", _about(result))]
    for i, protocol in enumerate(dict.fromkeys(score.protocol for score in result.scores)):
        own = [score for score in result.scores if score.protocol == protocol]
        parts.append((f"p{i}", protocol, _protocol(own, by_title, class_word(result.task))))
    parts += [(f"c{i}", chart.title, _chart(chart)) for i, chart in enumerate(result.charts)]
    if result.skipped:
        rows = list(result.skipped.items())
        parts.append(("skipped", "Skipped", table(("protocol", "why"), rows)))
    return page(f"Evaluation: {result.task}", parts, Html(WIDE))


def _about(result: Result) -> Html:
    notes = [paragraph(note) for note in general_notes(result)]
    return join([table(("", ""), about_lines(result.about)), *notes])


def _protocol(scores: Sequence[Score], by_title: dict[str, Grid], word: str) -> Html:
    """Everything of one protocol; `word` is what its parts are, such as class."""
    protocol, unit = scores[0].protocol, unit_of(scores[0].protocol)
    whole, divided = by_title.get(protocol), by_title.get(f"{protocol}, by {word}")
    about = next((grid.about for grid in (whole, divided) if grid and grid.about), "")
    parts = [paragraph(about)] if about else []
    parts.append(picture(score_plot(protocol, [s for s in scores if not s.per_class], unit)))
    if whole:
        parts.append(_table_and_notes(whole))
    kinds: dict[str, dict[str, Score]] = {}
    for score in scores:
        kind, name = split_name(score.name)
        if name:
            kinds.setdefault(kind, {})[name] = score
    # One plot, of what the protocol names first; the table has the rest.
    for kind, rows in list(kinds.items())[:1]:
        title = f"{kind} by {word}"
        parts.append(picture(class_plot(f"{protocol}: {title}", rows, unit), title))
    if divided:
        parts.append(folded(f"Table by {word}", _table_and_notes(divided)))
    return join(parts)


def _chart(chart: Chart) -> Html:
    return join([picture(curve_plot(chart)), *([paragraph(chart.note)] if chart.note else [])])


def grid_html(grid: Grid) -> Html:
    about = [paragraph(grid.about)] if grid.about else []
    return join([*about, _table_and_notes(grid)])


def _table_and_notes(grid: Grid) -> Html:
    return join([table(grid.header, grid.rows), *(paragraph(n, "soft") for n in grid.notes)])


def picture(svg: str, caption: str = "") -> Html:
    """A drawing with its caption; nothing if there is none."""
    if not svg:
        return Html("")
    below = f"<figcaption>{join([caption])}</figcaption>" if caption else ""
    return Html(f'<figure class="plot">{svg}{below}</figure>')
