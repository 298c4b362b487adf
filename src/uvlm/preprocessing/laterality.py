"""Where a mask lies on one side and a text, or the mask's own name, says the other.

Mirrored volumes and swapped labels are silent errors: nothing fails, and a model learns the wrong
side. Five comparisons find them:

- "report": a finding's mask lies at least 90 % on one side, and the report names only the other;
- "statement": the same for a text that belongs to one finding's mask;
- "name": `kidney_left` lies on the right of the midline, or right of `kidney_right`;
- "organ": liver, spleen and stomach all lie on the wrong side, a hint that the study is mirrored;
- "image": organs stand out from one another more clearly in their masks' mirror image, so that one
  of image and mask is mirrored and the other is not.

Patients with situs inversus exist and reports err, so these are flags for a person to look at,
never a reason to refuse a study.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from uvlm.preprocessing.study import Statement
from uvlm.text.sides import finding_sides, mentions

__all__ = ["Disagreement", "Kind", "disagreements", "side_of_name"]

Kind = Literal["report", "statement", "name", "organ", "image"]

ONE_SIDED = 0.9
"""Share of a mask's voxels that must lie on one side of the midline to speak of a side."""

ORGAN_SHARE = 0.7
"""The same for organs that reach across the midline."""

CLEARER = 1.1
"""Times the variance between organs: 0.15 to 0.93 where image and mask agree, 1.08 to 6.5 where one
of them is mirrored (129 synthetic studies and two real ones)."""

FEWEST_ORGANS = 3
_NO_ORGAN = {"lesion", "lesions", "cyst", "tumor", "tumour", "mass", "effusion", "calcification"}
_NO_ORGAN |= {"hernia", "lymphadenopathy", "nodes", "vessel", "vessels", "material"}

_NOT_LUNG = (
    r"thyroid", r"adrenal", r"surrenal", r"renal", r"kidney", r"liver", r"hepatic", r"breast",
    r"axilla\w*", r"parotid", r"vertebra\w*", r"ribs?\b", r"muscle", r"skin", r"subcutaneous",
    r"spleen", r"pancrea\w*", r"lymph", r"clavic\w*", r"scapula", r"ovar\w*", r"adnex\w*",
)  # fmt: skip
_LESION = r"(?:lesion|cyst|mass|tumou?r|carcinoma|neoplasm)"
_KIDNEY = (
    rf"(?:kidney|renal)\w*\b.*?\b{_LESION}",
    rf"{_LESION}\w*\b.*?\b(?:kidney|renal)",
)

_FINDINGS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    (r"micronodul", (r"micro-?nodul", r"centrilobular", r"tree-?in-?bud", r"nodul"), _NOT_LUNG),
    (r"nodul|lung_(?:mass|tumou?r|cancer)", (r"nodul", r"mass\b", r"masses"), _NOT_LUNG),
    (r"pneumothora", (r"(?:hydro)?pneumothora",), ()),
    (
        r"^pleura|hydrothora|hemothora",
        (r"effusion", r"pleural (?:thick|fluid)", r"h(?:ydr|a?em)othora", r"empyema"),
        (r"pericardi",),
    ),
    (
        r"atelecta\w*_and_consol",
        (r"(?:fibro)?atelecta", r"consolid", r"pneumonic", r"infiltrat"),
        (),
    ),
    (r"atelecta", (r"(?:fibro)?atelecta", r"collaps"), ()),
    (r"consolid", (r"consolid", r"pneumonic", r"infiltrat"), ()),
    (r"gro?und_?glass|lung_opacity", (r"ground", r"opaci", r"densit"), _NOT_LUNG),
    (r"fibrotic|linear|scar", (r"fibr", r"sequel", r"scar", r"linear", r"band"), _NOT_LUNG),
    (r"honeycomb", (r"honeycomb",), ()),
    (r"bronchiecta", (r"(?:\w+ )?bronchiecta",), ()),
    (r"(?:peri)?bronch\w*_(?:wall_)?thick", (r"(?:peri)?bronch\w*",), ()),
    (r"emphysem", (r"(?:\w+ )?emphysem", r"bull"), (r"subcutaneous",)),
    (r"septal", (r"(?:interlobular|septal|interstitial|septa)\b",), ()),
    (r"mosaic", (r"mosaic", r"air trapping"), ()),
    (r"medical_material", (r"pacemaker", r"port\b", r"tube"), ()),
    (r"(?:kidney|renal)_(?:lesion|cyst|mass|tumou?r)", _KIDNEY, ()),
)  # fmt: skip
"""Pattern of the class name, words of the report for it, words of other places."""


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """One flag."""

    kind: Kind
    subject: str
    """Class of the mask, "finding 1" for the first statement, or "organs" together. Never a word of
    the report."""

    said: str
    """ "left" or "right": what the text, the name or anatomy says. "mirrored": the image does."""

    found_left_share: float | None
    """Share of the mask on the patient's left, 0 to 1; None of organs together."""


def disagreements(
    report: str, masks: Mapping[str, Mapping[str, Any]], statements: Sequence[Statement] = ()
) -> list[Disagreement]:
    """All flags of one study.

    Args:
        report: any text, "" if there is none
        masks: class -> facts, as from `facts.mask_facts`
        statements: texts that belong to single findings
    """
    return [
        *_of_report(report, masks),
        *_of_statements(statements),
        *_of_names(masks),
        *_of_organs(masks),
        *_of_image(masks),
    ]


@lru_cache(maxsize=1024)
def side_of_name(name: str) -> str | None:
    """ "left" or "right" if the class name says on which side the structure lies, else None.

    `kidney_left`, "Kidney L", "left lung upper lobe", `rib_left_4`; not `heart_ventricle_left`.
    """
    words = _words(name)
    if words & {"heart", "atrium", "atrial", "ventricle", "coronary", "liver", "hepatic"}:
        return None
    left, right = bool(words & {"left", "l"}), bool(words & {"right", "r"})
    return None if left == right else "left" if left else "right"


def _of_report(report: str, masks: Mapping[str, Mapping[str, Any]]) -> Iterator[Disagreement]:
    for name, facts in masks.items() if report else ():
        words = None if _lies(facts) is None else _words_for(name)
        if words is None:
            continue
        said = finding_sides(report, *words)
        if len(said) == 1 and _lies(facts) not in said:
            yield _flag("report", name, next(iter(said)), facts["left_share"])


@lru_cache(maxsize=1024)
def _words_for(name: str) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """What a report calls a finding and what it must not stand beside; None if it is no finding."""
    plain = "_".join(re.findall(r"[a-z0-9]+", name.lower()))
    if side_of_name(name) is not None:
        return None
    found = (row for row in _FINDINGS if re.search(row[0], plain))
    return next(((terms, unless) for _, terms, unless in found), None)


def _of_statements(statements: Sequence[Statement]) -> Iterator[Disagreement]:
    for number, statement in enumerate(statements, start=1):
        lies = _lies({"left_share": statement.left_share})
        if lies is None:
            continue
        stated = [mention.sides for mention in mentions(statement.text) if not mention.negated]
        said = frozenset().union(*stated)
        if len(said) == 1 and lies not in said:
            yield _flag("statement", f"finding {number}", next(iter(said)), statement.left_share)


def _of_names(masks: Mapping[str, Mapping[str, Any]]) -> Iterator[Disagreement]:
    """Classes on the wrong side of the midline, and pairs in the wrong order."""
    partners = {(_stem(name), side_of_name(name)): facts for name, facts in masks.items()}
    for name, facts in masks.items():
        said = side_of_name(name)
        if said is None:
            continue
        other = "right" if said == "left" else "left"
        partner = partners.get((_stem(name), other))
        if _lies(facts) == other or (partner and _beyond(facts, partner, other)):
            yield _flag("name", name, said, facts["left_share"])


def _beyond(facts: Mapping[str, Any], partner: Mapping[str, Any], side: str) -> bool:
    """Whether a structure lies farther to `side` than its partner does."""
    apart = facts["centroid_mm"][0] - partner["centroid_mm"][0]
    return bool(apart > 0 if side == "left" else apart < 0)


def _of_organs(masks: Mapping[str, Mapping[str, Any]]) -> Iterator[Disagreement]:
    """Only if every organ that is there agrees that the study is mirrored."""
    found = []
    for organ, usual in (("liver", "right"), ("spleen", "left"), ("stomach", "left")):
        parts = [
            facts
            for name, facts in masks.items()
            if organ in _words(name) and not _words(name) & _NO_ORGAN
        ]
        voxels = sum(facts["voxels"] for facts in parts)
        if voxels:
            share = sum(facts["left_share"] * facts["voxels"] for facts in parts) / voxels
            found.append((organ, usual, round(share, 4)))
    wrong = [
        _flag("organ", organ, usual, share)
        for organ, usual, share in found
        if (share if usual == "right" else 1 - share) >= ORGAN_SHARE
    ]
    if wrong and len(wrong) == len(found):
        yield from wrong


def _of_image(masks: Mapping[str, Mapping[str, Any]]) -> Iterator[Disagreement]:
    organs = [
        facts
        for name, facts in masks.items()
        if "hu" in facts and _words_for(name) is None and not _words(name) & _NO_ORGAN
    ]
    if len(organs) < FEWEST_ORGANS:
        return
    voxels = np.array([facts["voxels"] for facts in organs], np.float64)
    hu = np.array([facts["hu"] for facts in organs])  # (organs, 2): as it is, mirrored
    apart = hu - np.average(hu, axis=0, weights=voxels)
    between = np.average(apart**2, axis=0, weights=voxels)
    if between[1] > CLEARER * between[0]:
        yield Disagreement(kind="image", subject="organs", said="mirrored", found_left_share=None)


def _lies(facts: Mapping[str, Any]) -> str | None:
    """The side on which a mask lies, None if it lies on both."""
    share = facts["left_share"]
    return "left" if share >= ONE_SIDED else "right" if share <= 1 - ONE_SIDED else None


@lru_cache(maxsize=1024)
def _words(name: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9]+", name.lower()))


@lru_cache(maxsize=1024)
def _stem(name: str) -> str:
    """The name without its side."""
    return re.sub(r"(?<![a-z0-9])(?:left|right|l|r)(?![a-z0-9])", "", name.lower())


def _flag(kind: Kind, subject: str, said: str, share: float) -> Disagreement:
    return Disagreement(kind=kind, subject=subject, said=said, found_left_share=float(share))
