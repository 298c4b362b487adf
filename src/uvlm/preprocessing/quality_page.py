"""Building blocks of a self-contained HTML page: sections, tables, small histograms, pictures.

Everything that is text is escaped here; only `Html` passes as it is. The page needs no script, no
network and no file beside it, follows the reader's light or dark mode, and prints.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

__all__ = ["Html", "bar", "folded", "histogram", "join", "page", "paragraph", "picture", "section"]
__all__ += ["table"]

BINS = 28
WIDTH, HEIGHT, BASE = 300, 92, 70
"""Of a histogram, in pixels; the bars stand on BASE."""

STYLE = """
:root{color-scheme:light dark;--ink:#1d2430;--soft:#667085;--line:#d9dee7;--paper:#fff;
--panel:#f6f8fb;--bar:#3b72b8;--red:#b42318;--redpaper:#fdecea}
@media (prefers-color-scheme:dark){:root{--ink:#e4e8ef;--soft:#9aa5b5;--line:#343d4b;
--paper:#14181f;--panel:#1c222c;--bar:#6ea8ec;--red:#ff9b90;--redpaper:#3a1d1b}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:66rem;padding:1.5rem 1.2rem 4rem;background:var(--paper);
color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.6rem;margin:0 0 .3rem}
h2{font-size:1.15rem;margin:2.4rem 0 .5rem;padding-top:.7rem;border-top:1px solid var(--line)}
p{margin:.4rem 0;max-width:48rem}
.soft{color:var(--soft)}
nav{margin:.8rem 0;line-height:1.9}
nav a{margin-right:.9rem;color:var(--bar);text-decoration:none;white-space:nowrap}
.wide{overflow-x:auto}
table{border-collapse:collapse;margin:.6rem 0;font-size:.92em;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .8rem .25rem 0;text-align:left;vertical-align:top;
border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:600}
td.n,th.n{text-align:right}
td{overflow-wrap:anywhere}
.red{color:var(--red);font-weight:600}
.look,.good{padding:.5rem .9rem;margin:.8rem 0;border-left:4px solid}
.look{background:var(--redpaper);border-color:var(--red)}
.good{background:var(--panel);border-color:var(--bar)}
.look a{color:inherit}
.look ul{margin:.2rem 0;padding-left:1.2rem}
.charts{display:flex;flex-wrap:wrap;gap:1rem 1.6rem;margin:.6rem 0}
figure{margin:0;break-inside:avoid}
figcaption{font-size:.9em}
.charts figure{width:300px;max-width:100%}
svg{display:block;width:100%;height:auto}
svg rect{fill:var(--bar)}
svg text{fill:var(--soft);font-size:11px}
svg line{stroke:var(--line)}
svg .mark{stroke:var(--red);stroke-dasharray:3 2}
.share{display:inline-block;height:.62em;background:var(--bar);margin-right:.5em;border-radius:1px}
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(21rem,1fr));gap:1.2rem}
.pictures img{width:100%;display:block;border-radius:3px}
.none{background:var(--panel);color:var(--soft);padding:2rem 1rem;border-radius:3px}
details{margin:.5rem 0}
summary{cursor:pointer;color:var(--bar)}
@media print{:root{color-scheme:light;--ink:#000;--soft:#444;--line:#bbb;--paper:#fff;--panel:#fff;
--bar:#3b72b8;--red:#b42318;--redpaper:#fff}body{max-width:none;padding:0;font-size:11px}nav{display:none}
tr,figure,h2+*{break-inside:avoid}h2{break-after:avoid}
svg rect,.share{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""


class Html(str):
    """Text that is HTML already."""


def _text(value: object) -> str:
    return value if isinstance(value, Html) else escape(str(value))


def join(parts: Iterable[str]) -> Html:
    """Parts one after the other; those that are no `Html` are escaped."""
    return Html("\n".join(_text(part) for part in parts))


def page(title: str, parts: Iterable[tuple[str, str, Html]], head: Html) -> str:
    """A whole document: `head`, links, then one section per (anchor, heading, content)."""
    parts = list(parts)
    links = " ".join(f'<a href="#{anchor}">{escape(name)}</a>' for anchor, name, _ in parts)
    body = "\n".join(section(*part) for part in parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n{head}\n<nav>{links}</nav>\n{body}\n</body>\n</html>\n"
    )


def section(anchor: str, heading: str, content: Html) -> Html:
    return Html(f'<section id="{anchor}">\n<h2>{escape(heading)}</h2>\n{content}\n</section>')


def paragraph(text: str, style: str = "") -> Html:
    return Html(f'<p class="{style}">{_text(text)}</p>' if style else f"<p>{_text(text)}</p>")


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    red: Sequence[bool] = (),
    most: int = 500,
) -> Html:
    """Rows under a header, at most `most` of them; those marked `red` stand out."""
    marks = [*red, *([False] * (len(rows) - len(red)))]
    numbers = [isinstance(cell, int | float) for cell in rows[0]] if rows else ()
    titles = [
        Html(f'<th class="n">{escape(t)}</th>' if n else f"<th>{escape(t)}</th>")
        for t, n in zip_longest(header, numbers)
    ]
    lines = [f"<tr>{''.join(titles)}</tr>"]
    lines += [_row(row, mark) for row, mark in zip(rows[:most], marks, strict=False)]
    more = "" if len(rows) <= most else paragraph(f"... and {len(rows) - most} more.", "soft")
    return Html(f'<div class="wide"><table>{"".join(lines)}</table></div>{more}')


def _row(cells: Sequence[object], red: bool) -> str:
    shown = []
    for cell in cells:
        number = isinstance(cell, int | float)
        value = f"{cell:,}" if isinstance(cell, int) else f"{cell:.4g}" if number else _text(cell)
        shown.append(f'<td class="n">{value}</td>' if number else f"<td>{value}</td>")
    return f"<tr{' class=red' if red else ''}>{''.join(shown)}</tr>"


def bar(share: float) -> Html:
    """A share from 0 to 1 as a bar with its percentage."""
    return Html(f'<span class="share" style="width:{6 * share:.2f}em"></span>{share:.1%}')


def folded(summary: str, content: Html) -> Html:
    """Content that opens on a click."""
    return Html(f"<details><summary>{escape(summary)}</summary>{content}</details>")


def picture(png: bytes | None, caption: Html, instead: str = "") -> Html:
    """A PNG with its caption, or the reason why there is none."""
    if png is None:
        shown = f'<div class="none">{escape(instead)}</div>'
    else:
        data = b64encode(png).decode()
        shown = f'<img alt="three planes of the study" src="data:image/png;base64,{data}">'
    return Html(f"<figure>{shown}<figcaption>{caption}</figcaption></figure>")


def histogram(
    name: str, values: NDArray[np.float64], unit: str, expected: float | None = None
) -> Html:
    """Distribution of `values` as a small picture with median and range in its caption.

    Half a percent at either end is drawn in the outermost bar, so that one odd study does not
    flatten the rest. `expected` is marked by a line.
    """
    if not values.size:
        return Html(f"<figure><figcaption>{escape(name)}: no values</figcaption></figure>")
    low, high = _range(values, expected)
    counts, edges = np.histogram(np.clip(values, low, high), BINS, (low, high))
    bars = "".join(
        f'<rect x="{WIDTH * k / BINS + 0.5:.1f}" y="{BASE - tall:.1f}" '
        f'width="{WIDTH / BINS - 1:.1f}" height="{tall:.1f}">'
        f"<title>{_number(edges[k])} to {_number(edges[k + 1])} {escape(unit)}: {count}</title>"
        "</rect>"
        for k, count in enumerate(counts.tolist())
        if count and (tall := max(1.5, (BASE - 6) * count / counts.max()))
    )
    mark = ""
    if expected is not None:
        x = WIDTH * (expected - low) / (high - low)
        mark = f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{BASE}"/>'
    least, middle, most = (_number(v) for v in (values.min(), np.median(values), values.max()))
    caption = f"<b>{escape(name)}</b>: median {middle}, {least} to {most} {escape(unit)}"
    return Html(
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(name)}: median {middle} {escape(unit)}">{bars}{mark}'
        f'<line x1="0" x2="{WIDTH}" y1="{BASE}" y2="{BASE}"/>'
        f'<text x="0" y="{BASE + 14}">{_number(low)}</text>'
        f'<text x="{WIDTH}" y="{BASE + 14}" text-anchor="end">{_number(high)}</text></svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _range(values: NDArray[np.float64], expected: float | None) -> tuple[float, float]:
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
    if expected is not None:
        low, high = min(low, expected), max(high, expected)
    room = 0.02 * (high - low) or max(abs(low) * 0.05, 0.5)
    return low - room, high + room


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
