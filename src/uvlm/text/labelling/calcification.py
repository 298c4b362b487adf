"""Rules of calcified arteries: of the aorta and its great branches, and of the heart.

Both are often named in one sentence, so each plaque is given to the places of its own item of a
list: "dilatation of the aorta, plaques in the coronary arteries" has no plaque in the aorta.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from uvlm.text.labelling.context import Sentence
from uvlm.text.labelling.protocol import Evidence
from uvlm.text.labelling.rules import Rule

__all__ = ["CALCIFICATION_RULES"]

_NOT_A_WALL = (
    r"(?:lymph|nod[eu]|granulom|lesion|mass|pleura|peri[ck]ard|diaphragm|valv|cusp|leaflet|annul"
    r"|thyroid|goit|ligament|cartilag|trache|bronch|thromb|cyst|papillar|hematom)"
)
_BESIDE = r"(?:adjacent|next to|neighbo|beside|near\b|(?:anterior|posterior|lateral) to)"
_PLAQUE = (
    # Not what else may be calcified: "calcified lymph nodes beside the aorta".
    rf"(?:micro|macro)?cal[cs]i(?:f|um)\w*\b"
    rf"(?! (?:(?!in\b|of\b|at\b|on\b|and\b|are\b|is\b)[\w-]+ ){{0,3}}?{_NOT_A_WALL})"
    rf"(?! (?:\w+ ){{0,4}}?{_BESIDE})",
    r"(?<!pleural )ather\w*",
    r"atrom\w*",
    r"(?:arterio|aorto)-?sclero\w*",
    r"sclero\w+(?= (?:\w+ )?(?:of|in) the (?:\w+ )?aort)",
    rf"(?<!pleural )(?<!pericardial )plaques?\b(?! {_BESIDE})",
    r"plaque-like",
    r"porcelain",
)
_CORONARY = (
    r"coronar\w*",
    r"lad\b",
    r"lmca\b",
    r"rca\b",
    r"lcx\b",
    r"cx\b",
    r"circumflex",
    r"left (?:main|anterior descending)",
    r"anterior descending",
    r"diagonal (?:branch|arter)",
    r"obtuse marginal",
)
_ARTERY = (
    # Not the abdominal aorta alone, the valve, or the nodes' stations beside the aorta.
    r"(?<!\babdominal )(?<!infrarenal )(?<!suprarenal )(?<!juxtarenal )"
    r"aort(?!o-?pulm|a-?pulm|ico-?pulm|ic-?pulm|o-?caval|o-?iliac|o-?bifem)\w*\b"
    r"(?!-(?:pulm|caval))(?! (?:and \w+ )?(?:valv|annul|cusp|leaflet)| window| pulm| bifurc)",
    r"(?:thorac\w+|ascending|descending|arch)(?:,| and| or|-|/) ?abdominal aort",
    r"thoraco-?abdominal",
    r"arch\b",
    r"arcus",
    r"(?:main|major|great|large|mediastinal|thoracic) (?:\w+ ){0,2}?vascular",
    r"(?<!coronary )(?<!abdominal )vascular (?:structure|wall|calcif|plaque)",
    r"(?:main|major|great|large|mediastinal) (?:\w+ )?vessel",
    r"supra-?aort",
    r"carotid",
    r"brachiocephalic",
    r"subclavian",
    r"truncus",
    r"(?<!coronary )(?<!coroner )(?<!descending )(?<!circumflex )(?<!diagonal )(?<!lad )(?<!rca )"
    r"(?<!lcx )(?<!cx )(?<!left main )(?<!iliac )(?<!renal )(?<!splenic )(?<!mesenteric )"
    r"(?<!femoral )(?<!hepatic )(?<!celiac )(?<!pulmonary )(?<!uterine )(?<!bronchial )"
    r"arter(?:y|ies|ial)\b",
)
# What else an item of a list may say of an artery.
_HEADS = (
    r"dilat", r"aneurysm", r"ecta(?:sia|tic)", r"tortuo", r"elongat", r"diameter", r"calib",
    r"width", r"wid(?:e|er|en\w+)\b", r"enlarg", r"increas", r"stent", r"graft", r"valv",
    r"replac", r"repair", r"dissect", r"thromb", r"surg", r"by-?pass", r"sutur", r"operat",
    r"prosthe", r"normal", r"natural", r"open\b", r"patent", r"cardiomegal", r"effusion", r"embol",
    r"herni", r"lymph", r"nodul", r"lesion", r"clips?\b", r"angio",
)  # fmt: skip
_HEAD = re.compile(rf"\b(?:{'|'.join((*_PLAQUE, *_HEADS))})")
_PLACES = re.compile(rf"\b(?:{'|'.join((*_CORONARY, *_ARTERY))})")
_PAUSE = re.compile(r"[,;]|\band\b")
_SAID_BEFORE = re.compile(
    r"\b(?:its|their|the) (?:own )?walls?\b(?! of)|\bat (?:this|these|that) (?:level|place|local)"
    r"|\b(?:these|this|the) (?:vessel|arter(?:y|ies)\b)"
)


@dataclass(frozen=True, kw_only=True)
class _PlaqueRule(Rule):
    """A rule whose `needs` are looked for in the finding's own item of a list.

    An item without any place takes those of the clause; a sentence without any, that speaks of
    "its wall", those of the sentence before.
    """

    def read(self, sentence: Sentence, before: Sentence | None = None) -> list[Evidence]:
        found = super().read(sentence, before)
        if (
            found
            or before is None
            or not self._needs
            or not before.names(self._needs, before.whole)
        ):
            return found
        if not _SAID_BEFORE.search(sentence.low) or _names_place(sentence, sentence.whole):
            return found
        return [self._evidence(sentence, *m.span()) for m in self._terms.finditer(sentence.low)]

    def _near(self, sentence: Sentence, position: int) -> tuple[int, int]:
        clause = sentence.clause_at(position)
        items = _items(sentence.low, clause)
        item = next(i for i in reversed(items) if i[0] <= position)
        return item if _names_place(sentence, item) else clause


@lru_cache(maxsize=8)
def _items(low: str, clause: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """The clause cut at pauses into items of one finding each.

    A piece that holds no finding belongs to the item before it, or to the first.
    """
    start, end = clause
    starts, taken, first = [start], False, start
    for pause in (*_PAUSE.finditer(low, start, end), None):
        last = pause.start() if pause else end
        if _HEAD.search(low, first, last):
            if taken:
                starts.append(first)
            taken = True
        first = last
    return tuple(zip(starts, (*starts[1:], end), strict=True))


def _names_place(sentence: Sentence, area: tuple[int, int]) -> bool:
    return sentence.names(_PLACES, area)


CALCIFICATION_RULES: tuple[Rule, ...] = (
    _PlaqueRule(label="Arterial wall calcification", terms=_PLAQUE, needs=_ARTERY),
    _PlaqueRule(label="Coronary artery wall calcification", terms=_PLAQUE, needs=_CORONARY),
)
"""Arterial and coronary artery wall calcification."""
