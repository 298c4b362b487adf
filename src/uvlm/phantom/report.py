"""Findings and impression of a chest study, saying what was drawn and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uvlm.phantom.chest import ChestStudy
from uvlm.phantom.classes import LOBE_WORDS, Finding
from uvlm.phantom.wording import ABNORMAL, IMPRESSION, LUNG_GROUPS, NORMAL, NORMAL_IMPRESSION

__all__ = ["write_report"]

LUNG = (
    "Consolidation",
    "Lung opacity",
    "Lung nodule",
    "Emphysema",
    "Mosaic attenuation pattern",
    "Interlobular septal thickening",
    "Peribronchial thickening",
    "Bronchiectasis",
    "Pulmonary fibrotic sequela",
    "Atelectasis",
)
"""Abnormalities of the lungs in the order they are described."""

# Section -> statements in their usual order: an abnormality's label, or a part of NORMAL.
MEDIASTINUM = (
    "airways",
    "Medical material",
    "Cardiomegaly",
    "vessels",
    "Arterial wall calcification",
    "Coronary artery wall calcification",
    "Pericardial effusion",
    "Lymphadenopathy",
    "Hiatal hernia",
)
COUNTS = ("no", "one", "two", "three", "four", "five")


def write_report(
    study: ChestStudy, rng: np.random.Generator, drawable: frozenset[str]
) -> tuple[str, str]:
    """Findings and impression; classes outside `drawable` are not mentioned, even as absent."""
    found = {finding.label: finding for finding in study.findings}
    mediastinum = [_statement(rng, part, found, drawable) for part in MEDIASTINUM]
    lungs = [*_lungs(rng, found, drawable), _statement(rng, "Pleural effusion", found, drawable)]
    rest = [_pick(rng, NORMAL["rest"])]
    order = [lungs, mediastinum, rest] if rng.random() < 0.15 else [mediastinum, lungs, rest]
    findings = " ".join(text for part in order for text in part if text)
    return findings, _impression(rng, study.findings)


def _statement(
    rng: np.random.Generator, part: str, found: dict[str, Finding], drawable: frozenset[str]
) -> str:
    if part in found:
        return _fill(rng, ABNORMAL, found[part])
    known = part in drawable or not part[0].isupper()
    return _pick(rng, NORMAL[part]) if known and part in NORMAL else ""


def _lungs(
    rng: np.random.Generator, found: dict[str, Finding], drawable: frozenset[str]
) -> list[str]:
    present = [found[name] for name in LUNG if name in found]
    if len(present) > 1 and rng.random() < 0.25:
        present = present[1:] + present[:1]
    said = [_fill(rng, ABNORMAL, finding) for finding in present]
    for group in LUNG_GROUPS:
        absent = [word for name, word in group.items() if name in drawable and name not in found]
        if absent:
            said.append(_pick(rng, NORMAL["lungs"]).format(absent=_join(absent, "or")))
    return said


def _impression(rng: np.random.Generator, findings: Sequence[Finding]) -> str:
    rank = {name: k for k, name in enumerate((*LUNG[:3], "Pleural effusion"))}
    ordered = sorted(findings, key=lambda f: rank.get(f.label, len(rank)))
    if not ordered:
        return _pick(rng, NORMAL_IMPRESSION)
    return " ".join(_fill(rng, IMPRESSION, finding) for finding in ordered)


def _pick(rng: np.random.Generator, variants: Sequence[str]) -> str:
    """The first variant more often than the others together."""
    if len(variants) == 1 or rng.random() < 0.75:
        return variants[0]
    return variants[1 + int(rng.random() * (len(variants) - 1))]


def _fill(rng: np.random.Generator, table: dict[str, tuple[str, ...]], finding: Finding) -> str:
    key = f"{finding.label} {finding.kind}"
    if finding.label == "Lung nodule" and finding.count == 1:
        key = "Lung nodule one"
    template = _pick(rng, table[key if key in table else finding.label])
    # "left pleural effusion", "bilateral pleural effusion"
    both = f"{finding.side} pleural effusion"
    words = {
        "side": finding.side,
        "both": both,
        "mm": f"{finding.size_mm:.0f}",
        "n": COUNTS[min(finding.count, len(COUNTS) - 1)],
        "grade": finding.severity,
        "kind": finding.kind,
        "place": _place(finding),
        "where": _lobes(finding.lobes),
        "apex": "apices of both lungs"
        if finding.side == "bilateral"
        else f"apex of the {finding.side} lung",
    }
    capitals = {key.capitalize(): value[:1].upper() + value[1:] for key, value in words.items()}
    return template.format(**words, **capitals)


def _lobes(lobes: tuple[int, ...]) -> str:
    unique = tuple(dict.fromkeys(lobes))
    if set(unique) == {2, 5}:
        return "the lower lobes of both lungs"
    if set(unique) == {1, 3}:
        return "the upper lobes of both lungs"
    return "both lungs" if len(unique) > 3 else _join([LOBE_WORDS[k] for k in unique], "and")


def _place(finding: Finding) -> str:
    names = [name for name in finding.place.split(", ") if name]
    suffix = {"Coronary artery wall calcification": " coronary artery"}.get(finding.label, "")
    if suffix and len(names) > 1:
        suffix = " coronary arteries"
    tail = {"Lymphadenopathy": " stations" if len(names) > 1 else " station"}.get(
        finding.label, suffix
    )
    return _join(names, "and") + tail if names else ""


def _join(words: Sequence[str], last: str) -> str:
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"
