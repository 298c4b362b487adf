"""Report text as it comes from a CSV, made regular without changing what it says.

Cleaning touches white space, stray double quotes and sections that hold nothing; never a letter,
a number or its decimal point. Every function gives the same result when applied to its own output.
"""

from __future__ import annotations

import re

__all__ = ["clean_report", "join_sections", "split_sections", "split_sentences"]

_HEADER = re.compile(
    r"(?=[ctfi])(?<!\w)(clinical information|technique|findings|impressions?)\s*:\s*", re.I
)
_MISSING = r"(?:not given|nan|none|n/a)?\s*\.?"
_EMPTY_SECTION = re.compile(rf"{_HEADER.pattern}{_MISSING}\s*(?=$|{_HEADER.pattern})", re.I)
_IS_MISSING = re.compile(rf"\s*{_MISSING}\s*", re.I)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f\ufeff]")

# A full stop, its closing brackets, then white space; or a full stop glued to the next sentence,
# as "examination.No lesion" and "vein.2. Mild" in real reports. What a match starts with is looked
# for first, or all of it would be tried at every letter.
_STOP = re.compile(
    r"(?=[.!?。！？•])"
    r"(?:[.!?]+[\"'”’)\]]*(?=\s|$)|(?<=[a-z]{3})[.!?](?=[A-Z][a-z]|\d{1,2}\.\s)|[。！？]|(?=•))"
)
_ABBREVIATION = re.compile(
    r"dr|prof|assist|assoc|mr|mrs|ms|st|vs|e\.g|i\.e|eg|ie|approx|cf|resp|fig|no|nr|al"
)
_LIST_MARK = re.compile(r"[•\-*]?\s*\(?(?:\d{1,2}|[a-hA-H])[.)]+")
_LOOK_BACK = 40
"""Characters before a full stop among which an abbreviation is looked for."""


def clean_report(text: str) -> str:
    """One line of text: single spaces, no stray double quotes, no empty "Not given." sections.

    A sentence that merely contains the words ("contrast material is not given") stays.
    """
    text = " ".join(_CONTROL.sub(" ", text).replace('"', " ").split())
    text = _EMPTY_SECTION.sub("", text).strip()
    return "" if _IS_MISSING.fullmatch(text) else text


def join_sections(findings: object, impression: object) -> str:
    """`Findings: ... Impression: ...`, leaving out a section that is missing.

    Missing is None, a float not-a-number (an empty CSV cell) or "Not given."; both missing: "".
    """
    parts = []
    for name, value in (("Findings", findings), ("Impression", impression)):
        text = clean_report(value) if isinstance(value, str) else ""
        header = _HEADER.match(text)
        if header and header[1].lower().startswith(name.lower()):
            text = text[header.end() :]
        if text:
            parts.append(f"{name}: {text}")
    return clean_report(" ".join(parts))


def split_sections(report: str) -> tuple[str, str]:
    """(findings, impression) of a report; text under no header counts as findings."""
    text = clean_report(report)
    sections = {"findings": "", "impression": ""}
    current, start = "findings", 0
    for header in _HEADER.finditer(text):
        sections[current] = f"{sections[current]} {text[start : header.start()]}".strip()
        current = "impression" if header[1].lower().startswith("impression") else "findings"
        start = header.end()
    sections[current] = f"{sections[current]} {text[start:]}".strip()
    return sections["findings"], sections["impression"]


def split_sentences(text: str) -> list[str]:
    """The sentences of a report, without its section headers.

    Decimal points ("1.5 cm"), abbreviations ("e.g.", "Dr."), ordinals before a small letter
    ("T12. vertebra") and the numbers of a list ("1. Nodule") do not end a sentence.
    """
    sentences: list[str] = []
    for section in _HEADER.sub("\n", clean_report(text)).split("\n"):
        start = int(section.startswith(" "))
        for stop in _STOP.finditer(section):
            if _ends_sentence(section, start, stop.end()):
                sentences.append(section[start : stop.end()].rstrip())
                start = stop.end() + section.startswith(" ", stop.end())
        sentences.append(section[start:].rstrip())
    return [sentence for sentence in sentences if sentence]


def _ends_sentence(text: str, start: int, stop: int) -> bool:
    """Whether a sentence that began at `start` ends at `stop`. Looks only near `stop`, since an
    unending sentence would be copied at every one of its full stops."""
    following = stop + text.startswith(" ", stop)
    if following >= len(text):
        return True
    stop -= text.endswith(" ", start, stop)  # before a bullet
    if start == stop or text[following].islower() or _LIST_MARK.fullmatch(text, start, stop):
        return False
    near = text[max(start, stop - _LOOK_BACK) : stop]
    last = near.rsplit(maxsplit=1)[-1].rstrip(".!?\"'”’)]").lstrip("([").lower()
    if not _ABBREVIATION.fullmatch(last):
        last = last.rsplit(".", 1)[-1]  # "Prof.Dr."
    # "No" ends a sentence unless a number follows ("No. 3").
    if last == "no":
        return not text[following].isdigit()
    return not _ABBREVIATION.fullmatch(last)
