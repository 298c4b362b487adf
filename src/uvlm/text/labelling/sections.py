"""What of a report describes this examination, and where its lines end a sentence.

A question ("Indication: effusion?"), a past or a technique is no finding. Lists and tables are
written without full stops, so a line that begins a point, a heading or a paragraph ends the
sentence before it.
"""

from __future__ import annotations

import re
from bisect import bisect_left

__all__ = ["LINE", "described"]

LINE = "¶"
"""Stands in `described` where a line ends a sentence."""

# At the start of a sentence or line: "with regard to the history: ..." is none.
_ASKED = re.compile(
    r"(?:\A|(?<=[\n.!?\"]))[ \t]{0,3}"
    r"(?:clinical (?:information|history|indication|details|data|question|diagnosis)"
    r"|indications?(?: for \w+)?|reason for (?:the )?\w+|(?:patient |medical )?history"
    r"|(?P<line>comparisons?(?: with)?)|techniques?|protocol|procedure)[ \t]*:",
    re.I,
)
_DESCRIBED = re.compile(
    r"\b(?:findings|report|results?|chest|thorax|abdomen|lungs?|airways?|heart|mediastinum|pleura"
    r"|lungs? and \w+|heart and \w+|lines|devices|support devices|lymph nodes)[ \t]*:",
    re.I,
)
_LINE_END = re.compile(
    r"\n(?=[ \t]*(?:\n|[-•*]|\(?\d{1,2}[.)]|[A-Z][A-Za-z ,/&-]{2,40}\d?[ \t]*:))"
)
_END = re.compile(r"(?<=[.!?])\s|\n|\bimpressions?[ \t]*:", re.I)


def described(report: str) -> str:
    """The report without question, past and technique, and with `LINE` where a line ends it all.

    Such a section lasts to the next header of findings; without one it is a sentence or line.
    """
    report = report.replace("\r\n", "\n").replace("\r", "\n")
    asked = list(_ASKED.finditer(report))
    if asked:
        report = _without(report, asked)
    return _LINE_END.sub(f" {LINE} ", report)


def _without(report: str, asked: list[re.Match[str]]) -> str:
    headers = [header.start() for header in _DESCRIBED.finditer(report)]
    kept, start = [], 0
    for section in asked:
        if section.start() < start:
            continue
        kept.append(report[start : section.start()])
        following = bisect_left(headers, section.end())
        if following < len(headers) and not section["line"]:
            start = headers[following]
        else:
            end = _END.search(report, section.end())
            start = end.start() if end else len(report)
    return "\n".join([*kept, report[start:]])
