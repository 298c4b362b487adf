"""A report as HTML, sentence by sentence: each pathology in its colour, contradictions beside."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from itertools import groupby

from uvlm.inference.evidence.types import (
    Contradiction,
    ReportEvidence,
    SentenceEvidence,
    StatedFinding,
)
from uvlm.inference.rendering.colours import STATED, Mark
from uvlm.preprocessing.quality_page import Html, join, paragraph

__all__ = ["badge", "contradiction_list", "report_text"]

HEADINGS = {"findings": "Findings", "impression": "Impression"}


def badge(mark: Mark, unsure: bool = False) -> Html:
    """The number of a pathology in its colour."""
    sign = f"{mark.number}?" if unsure else str(mark.number)
    return Html(f'<span class="b k{mark.number}" title="{escape(mark.label)}">{sign}</span>')


def report_text(evidence: ReportEvidence, marks: Mapping[str, Mark]) -> Html:
    """Every sentence, under the heading of its section."""
    parts: list[str] = []
    numbered = enumerate(evidence.sentences)
    for section, group in groupby(numbered, lambda pair: pair[1].section):
        parts.append(Html(f"<h3>{escape(HEADINGS[section])}</h3>"))
        for index, sentence in group:
            against = [c for c in evidence.contradictions if c.sentence == index]
            parts.append(_sentence(index, sentence, against, marks))
    if not parts:
        parts.append(paragraph("(The model wrote nothing.)"))
    return Html(f'<div class="report">{join(parts)}</div>')


def contradiction_list(contradictions: tuple[Contradiction, ...]) -> Html:
    """All of them, each with a link to its sentence."""
    items = []
    for each in contradictions:
        where = ""
        if each.sentence is not None:
            where = f' <a href="#s{each.sentence}">sentence {each.sentence + 1}</a>'
        items.append(f"<li>{escape(each.message)}{where}</li>")
    return Html(f"<ul>{''.join(items)}</ul>")


def _sentence(
    index: int, sentence: SentenceEvidence, against: list[Contradiction], marks: Mapping[str, Mark]
) -> Html:
    stated = sorted(
        (f for f in sentence.findings if f.status in STATED), key=lambda f: (f.start, -f.end)
    )
    style = f"s stated k{marks[stated[0].label].number}" if stated else "s"
    warnings = "".join(f'<span class="warn">{escape(c.message)}</span>' for c in against)
    text = _coloured(sentence.text, stated, marks)
    return Html(f'<div class="{style}" id="s{index}">{text}{warnings}</div>')


def _coloured(text: str, stated: list[StatedFinding], marks: Mapping[str, Mark]) -> str:
    """The words that decided, in colour. Where words of two findings overlap, the first are
    coloured and both are numbered."""
    pieces, at = [], 0
    while stated:
        first = stated[0]
        together = [f for f in stated if f.start < max(first.end, first.start + 1)]
        stated = stated[len(together) :]
        start, end = max(first.start, at), max(first.end, at)
        labels = dict.fromkeys((f.label, f.status) for f in together)
        signs = "".join(badge(marks[label], status == "uncertain") for label, status in labels)
        unsure = " unsure" if first.status == "uncertain" else ""
        words = escape(text[start:end])
        number = marks[first.label].number
        pieces.append(
            f'{escape(text[at:start])}<mark class="k{number}{unsure}">{words}{signs}</mark>'
        )
        at = end
    return "".join(pieces) + escape(text[at:])
