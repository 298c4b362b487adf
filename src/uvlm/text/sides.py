"""Which side of the patient a sentence speaks of: left, right, both or neither.

Read from words alone, without a model. "Left" and "right" in the names of structures that do not
tell a side of the body (heart chambers, coronary arteries, lobes of the liver), of directions
(scoliosis facing left, a shift to the right) and of other words ("was left in place", "right
angle") do not count. The lingula is on the left, the middle lobe on the right; "bilateral", "both
lungs" and "each kidney" are both. A plural alone ("the lungs") names no side.

A sentence is read clause by clause where it turns ("..., but ..."), so that what is denied on one
side and seen on the other is kept apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from uvlm.text.cleaning import split_sentences

__all__ = ["BOTH", "Mention", "finding_sides", "mentions", "sides_in"]

LEFT, RIGHT = frozenset({"left"}), frozenset({"right"})
BOTH = LEFT | RIGHT


@dataclass(frozen=True)
class Mention:
    """A sentence, or the part of it before or after its turn."""

    sentence: str
    sides: frozenset[str]
    """Of "left" and "right"."""

    negated: bool
    """It says that something is not there."""


_SIDE = r"(?:left|right)(?:[- ]sided)?"
_CHAMBERS = (
    r"(?:atri\w*|ventric\w*|auric\w*|heart|cardiac|coronar\w*|anterior descending|circumflex"
    r"|diagonal|bundle|dominan\w*|main (?:coronar\w*|stem|artery)|lad\b)"
)
_LIVER = r"(?:liver|hepatic|hepat\w*|portal|caudate)"
_NO_PLACE = re.compile(
    # All start at a word: said once, this is not tried again for each at every letter.
    r"\b(?=\w)(?:"
    + "|".join(
        (
            rf"\b{_SIDE}(?:(?: ?[-/,&] ?| and | or ){_SIDE})?[- ]{_CHAMBERS}",
            r"\b(?:both|bilateral|each) (?:atri|ventric|auric)\w*",
            r"\bheart(?:'s)? (?:left|right)\b|\bmain(?:ly)? left coronar\w*",
            rf"\b{_SIDE}(?: and {_SIDE})? (?:lobes? )?{_LIVER}",
            rf"\b{_SIDE}(?: and {_SIDE})? lobes?(?: [\w-]+){{0,4}} (?:of|in) (?:the )?{_LIVER}",
            rf"\b{_LIVER}(?:'s)? {_SIDE}(?: and {_SIDE})? lobe",
            # Directions: curvatures, shifts, flow.
            r"\b(?:left|right)[- ](?:facing|opening|looking|convex\w*|concav\w*|curv\w*)",
            r"\b(?:left|right)(?:[- ]sided)? (?:\w+ )?scolio\w*",
            r"\bscolio\w*(?: \w+){0,4} (?:left|right)\b",
            r"\b(?:left|right)wards?\b",
            r"\b(?:shift|deviat|displac|push|rotat|deflect|curv|convex|concav)\w*(?: \w+){0,3}"
            r" (?:left|right)\b",
            r"\b(?:left|right)[- ]to[- ](?:left|right)\b",
            r"\b(?:left|right) ?[-/] ?(?:left|right) shunt",
            r"\b(?:left|right)[- ](?:hand|handed)\b",
            # Other words.
            r"(?<!the )(?<!and )\bleft (?:in (?:place|situ)|unchanged|behind|alone|untreated"
            r"|untouched|over|intact|open|out)\b",
            r"\b(?:was|were|is|are|been|being|be|has|have|had|nothing) left"
            r"(?= (?:as|to|by|for|there|at)\b|[.,;]|\s*$)",
            r"\bright (?:angles?|angled|away|next to|before|after|now)\b|\ball right\b",
        )
    )
    + ")",
    re.I,
)
_PAIRED = (
    r"(?:lungs?|pulmonary|hemithora\w*|kidneys?|renal|adrenals?|surrenal\w*|bronch\w*|main"
    r"|hil\w{1,4}|axill\w*|breasts?|pleura\w*|ap(?:ex|ices|ical|exes)\w*|lobes?|fissures?|bas(?:al|e|es|als|is)"
    r"|sides?|thyroid|ovar\w*|adnex\w*|inguinal|supraclavic\w*|iliac|costophrenic|sinuses"
    r"|(?:hemi)?diaphragm\w*|ureter\w*|jugular|shoulders?|hips?|femor\w*|femurs?|clavic\w*|scapul\w*"
    r"|subclavian|carotid\w*|parotid|retroareolar|zones?|fields?|humer\w*|sacroiliac|perirenal|psoas"
    r"|limbs?|arms?|legs?|extremit\w*|collecting|gynecomastia|paracolic|gluteal|chest|thora\w*"
    r"|regions?|areas?|fossas?|fossae|systems?|urinary|(?:ana)?bronchi|paratracheal|peribronch\w*|parahilar|perihilar|ventilation|parenchym\w*)"
)
_BILATERAL = re.compile(
    r"\b(?:bi-?(?:lateral\w*|basal|basilar|basally|apical|apically|hilar)\b|b/l\b"
    r"|(?:both|each)(?: of)?(?: the| these)?(?: (?!left|right|of\b|in\b|at\b|on\b)[\w-]+){0,3}?"
    rf"[ -]{_PAIRED}\b(?! lobes? of (?:the )?(?:left|right|liver))"
    r"(?! (?:of|in) (?:the )?(?:left|right|liver)))",
    re.I,
)
_WORDS = (
    (LEFT, re.compile(r"\bleft\b|\blingula\w*|\bl(?:ul|ll|uq|lq)\b|\b(?-i:[Ll]t)\b", re.I)),
    (RIGHT, re.compile(r"\bright\b|\br(?:ul|ml|ll|uq|lq)\b|\b(?-i:[Rr]t)\b", re.I)),
    (RIGHT, re.compile(r"(?<!left )(?<!left lung )\bmiddle lobes?\b", re.I)),
    # RT is radiotherapy. Single letters only as capitals before an organ, in brackets, or compared.
    (LEFT, re.compile(r"\(L\)|\bL (?=lung|kidney|upper|lower|lobe|pleur|hil)|\bL ?> ?R\b")),
    (RIGHT, re.compile(r"\(R\)|\bR (?=lung|kidney|upper|lower|lobe|pleur|hil)|\bR ?> ?L\b")),
    (BOTH, re.compile(r"\b[LR] ?> ?[LR]\b")),
)
_HINT = re.compile(
    r"(?=[lrbem])(?:left|right|both|each|lingul|middle|\bb(?:i|/l)|\b[lr](?:t|[ulm][lq])?\b)", re.I
)
"""Without any of these no side is named; most sentences are done here."""
_OPPOSITE = re.compile(r"\bcontralateral|\bopposite (?:side|lung|hemithorax)", re.I)


@lru_cache(maxsize=64)
def sides_in(sentence: str) -> frozenset[str]:
    """The sides that `sentence` names: any of "left" and "right"."""
    if not _HINT.search(sentence):
        return frozenset()
    text = _NO_PLACE.sub(" ", sentence)
    if _BILATERAL.search(text):
        return BOTH
    found: frozenset[str] = frozenset()
    for sides, words in _WORDS:
        if words.search(text):
            found |= sides
    return BOTH if found and _OPPOSITE.search(text) else found


_TURN = re.compile(
    r"[;,]? \b(?:but|however|although|though|whereas|while|except|other than|apart from|besides)\b"
    r"|(?:[,;](?: and)?| and) (?=(?:there (?:is|are|was|were) )?no\b)",
    re.I,
)
_PAUSE = re.compile(r";|, (?:and )?(?=there (?:is|are|was|were)\b|an? |\d)", re.I)
_UNCHANGED = (
    r"(?! (?:\w+ ){0,2}(?:change|changes|difference|increase|decrease|growth|progression"
    r"|regression|enlargement)\b)"
)
_NO = re.compile(
    r"\b(?:no|nor|neither|absence of|free (?:of|from)|negative for|lack of|devoid of)\b"
    rf"{_UNCHANGED}|^without\b{_UNCHANGED}|\b(?:is|are|was|were) without\b{_UNCHANGED}",
    re.I,
)
_WITHOUT = re.compile(rf"\bwithout\b{_UNCHANGED}[^,;]*$", re.I)
_NOT = re.compile(
    r"\bnot (?:\w+ ){0,2}?(?:seen|observed|detected|present|identified|visible|noted|evident|found"
    r"|demonstrated|encountered|visualized|visualised|remarkable|available|shown|appreciated"
    r"|discerned|distinguished|enlarged|dilated|selected|monitored|followed|thickened|recognized)\b"
    r"(?! (?:in|on|at) (?:the |his |her )?(?:previous|prior|earlier|old|last)\b)"
    r"|\b(?:absent|ruled out|no longer|(?:has|have) (?:\w+ )?(?:resolved|disappeared))\b",
    re.I,
)


def mentions(text: str) -> list[Mention]:
    """Every clause of a report or sentence, in order, with the sides it names."""
    return [
        Mention(clause, sides_in(clause), _denies(clause))
        for clause in _clauses(split_sentences(text))
    ]


def finding_sides(report: str, terms: Iterable[str], unless: Iterable[str] = ()) -> frozenset[str]:
    """The sides on which the report says that a finding is.

    Args:
        report: any text
        terms: regular expressions of words for the finding, such as "nodul" or "effusion"; each
            must start a word
        unless: the same for words of other places ("thyroid"); clauses with them do not count

    Returns:
        The sides named in clauses that contain one of the terms and do not deny it; empty where
        the finding is not mentioned, denied, or given no side.
    """
    term, elsewhere = _any_of(tuple(terms)), _any_of(tuple(unless))
    if term is None or not report:
        return frozenset()
    found: frozenset[str] = frozenset()
    lines = _sided(report)
    for spot in term.finditer(lines):
        start, stop = lines.rfind("\n", 0, spot.start()) + 1, lines.index("\n", spot.end())
        clause, place = lines[start:stop], slice(spot.start() - start, spot.end() - start)
        if not (elsewhere and elsewhere.search(clause)) and not _denied(clause, place):
            found |= sides_in(clause)
    return found


@lru_cache(maxsize=256)
def _any_of(words: tuple[str, ...]) -> re.Pattern[str] | None:
    return re.compile(rf"\b(?:{'|'.join(words)})", re.I) if words else None


@lru_cache(maxsize=4)
def _sided(text: str) -> str:
    """The clauses that may name a side, one per line; kept for the next finding of the report."""
    sentences = [sentence for sentence in split_sentences(text) if _HINT.search(sentence)]
    return "".join(f"{clause}\n" for clause in _clauses(sentences) if _HINT.search(clause))


def _clauses(sentences: Iterable[str]) -> list[str]:
    parts = [
        clause
        for sentence in sentences
        for part in _TURN.split(sentence)
        for clause in _after_denials(part)
    ]
    return [part.strip() for part in parts if part.strip()]


def _after_denials(part: str) -> list[str]:
    """A pause ends what is denied; otherwise what follows may still belong to the place before."""
    clauses, start = [], 0
    for pause in _PAUSE.finditer(part):
        if _denies(part[start : pause.start()]):
            clauses.append(part[start : pause.start()])
            start = pause.end()
    return [*clauses, part[start:]]


def _denies(clause: str) -> bool:
    return bool(_NO.search(clause) or _NOT.search(clause))


def _denied(clause: str, place: slice) -> bool:
    """Whether what stands at `place` is said not to be there."""
    before, after = clause[: place.stop], clause[place.start :]
    # "No" reaches forward only: "effusion on the left, no pneumothorax" has an effusion.
    return bool(_NO.search(before) or _WITHOUT.search(before) or _NOT.search(after))
