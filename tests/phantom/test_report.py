"""Reports say what was drawn, in varied words, and nothing about what cannot be drawn."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np

from uvlm.phantom.chest import ChestStudy, draw_chest
from uvlm.phantom.classes import LOBE_WORDS, stream
from uvlm.phantom.plan import plan_chest
from uvlm.phantom.report import write_report
from uvlm.phantom.resolution import size_ranges
from uvlm.phantom.wording import ABNORMAL, IMPRESSION
from uvlm.registry import CT_RATE_LABELS

SHAPE = (32, 64, 64)
SIZES = size_ranges(SHAPE)
ALL = frozenset(SIZES)

WORDS = {
    "Medical material": r"pacemaker|port |sternotomy",
    "Arterial wall calcification": r"plaques.*aort",
    "Cardiomegaly": r"heart is enlarged|heart size is increased|cardiomegaly",
    "Pericardial effusion": r"pericardial effusion",
    "Coronary artery wall calcification": r"coronary arter(y|ies)",
    "Hiatal hernia": r"hiatal hernia",
    "Lymphadenopathy": r"enlarged lymph nodes",
    "Emphysema": r"emphysema",
    "Atelectasis": r"atelecta",
    "Lung nodule": r"nodules?\b",
    "Lung opacity": r"ground-glass",
    "Pulmonary fibrotic sequela": r"sequela",
    "Pleural effusion": r"pleural effusion",
    "Mosaic attenuation pattern": r"mosaic",
    "Peribronchial thickening": r"peribronchial|bronchial wall",
    "Consolidation": r"consolidation",
    "Bronchiectasis": r"bronchiecta",
    "Interlobular septal thickening": r"septal?\b",
}
"""How a reader recognises each positive statement."""


@lru_cache(maxsize=1)
def reports() -> list[tuple[ChestStudy, str, str]]:
    plans = plan_chest(60, 6, ALL, 0.15)
    made = []
    for i, plan in enumerate(plans):
        study = draw_chest(6, i, SHAPE, plan.labels, SIZES)
        made.append((study, *write_report(study, stream(6, i, "report"), ALL)))
    return made


def test_every_label_has_words():
    for table in (ABNORMAL, IMPRESSION):
        described = {key for label in CT_RATE_LABELS for key in table if key.startswith(label)}
        assert described == set(table)


def test_findings_mention_each_abnormality_and_only_those():
    for study, findings, _ in reports():
        present = {f.label for f in study.findings}
        for label, pattern in WORDS.items():
            said = [s for s in re.split(r"(?<=\.)\s", findings.lower()) if re.search(pattern, s)]
            said = [s for s in said if not re.search(r"\b(no|without)\b", s)]
            assert bool(said) == (label in present), (label, said, findings)


def test_stated_millimetres_are_those_drawn():
    for study, findings, impression in reports():
        drawn = {f"{f.size_mm:.0f}" for f in study.findings}
        stated = set(re.findall(r"(\d+) mm", findings + impression))
        assert stated <= drawn


def test_stated_sides_are_those_drawn():
    for study, findings, _ in reports():
        for finding in study.findings:
            if finding.label == "Consolidation":
                assert LOBE_WORDS[finding.lobes[0]] in findings
            if finding.label == "Pleural effusion":
                assert f"{finding.side} pleural effusion" in findings.lower()


def test_normal_studies_are_reported_as_normal():
    normal = [impression for study, _, impression in reports() if not study.findings]
    assert normal
    assert all("No pathological" in text or "within normal limits" in text for text in normal)


def test_undrawable_classes_are_not_mentioned():
    coarse = size_ranges((16, 32, 32))
    study = draw_chest(1, 0, (16, 32, 32), (), coarse)
    texts = [
        " ".join(write_report(study, np.random.default_rng(k), frozenset(coarse)))
        for k in range(80)
    ]
    assert not any(
        "coronary" in text.lower() or "bronchi" in text.replace("main bronchi", "")
        for text in texts
    )


def test_reports_are_of_a_radiologists_length_and_vary():
    lengths = [len(f.split()) + len(i.split()) for _, f, i in reports()]
    assert 80 <= np.median(lengths) <= 180
    assert len({f for _, f, _ in reports()}) == len(reports())


def test_no_blank_is_left_unfilled():
    for _, findings, impression in reports():
        assert not re.search(r"[{}]|\s{2}|\s\.| of the and|\bNone\b", findings + impression)
        assert all(s[0].isupper() or s[0].isdigit() for s in re.split(r"(?<=\.) ", findings))
