"""Prevalence, its guarantee, co-occurrence and the held-out patients."""

from __future__ import annotations

from math import ceil

import pytest

from uvlm.phantom.plan import PREVALENCE, is_valid, plan_abdomen, plan_chest
from uvlm.registry import ABDOMEN_LABELS, CT_RATE_LABELS

ALL = frozenset(CT_RATE_LABELS)


@pytest.mark.parametrize("studies", [40, 101, 300])
def test_every_class_reaches_the_asked_share_in_both_splits(studies):
    plans = plan_chest(studies, 0, ALL, 0.15)
    for held_out in (False, True):
        group = [p for i, p in enumerate(plans) if is_valid(i) == held_out]
        for name in CT_RATE_LABELS:
            assert sum(name in p.labels for p in group) >= ceil(0.15 * len(group))


def test_abdominal_lesions_reach_the_asked_share():
    plans = plan_abdomen(40, 0, frozenset(ABDOMEN_LABELS), 0.5)
    assert all(sum(name in labels for labels in plans) >= 20 for name in ABDOMEN_LABELS)


def test_prevalence_is_the_tables_without_a_guarantee():
    plans = plan_chest(2000, 1, ALL)
    for name in CT_RATE_LABELS:
        share = sum(name in p.labels for p in plans) / len(plans)
        assert share == pytest.approx(PREVALENCE[name][0], abs=0.035)


def test_about_one_study_in_six_is_normal():
    plans = plan_chest(400, 1, ALL, 0.15)
    assert 0.10 <= sum(not p.labels for p in plans) / 400 <= 0.22


def test_abnormalities_of_one_cause_come_together():
    plans = plan_chest(2000, 1, ALL)
    heart = [p for p in plans if "Cardiomegaly" in p.labels]
    share = sum("Pleural effusion" in p.labels for p in heart) / len(heart)
    assert share > 2 * PREVALENCE["Pleural effusion"][0]


def test_without_a_guarantee_a_plan_does_not_depend_on_the_others():
    assert plan_chest(5, 4, ALL) == plan_chest(50, 4, ALL)[:5]


def test_plans_repeat_by_seed_and_differ_between_seeds():
    assert plan_chest(30, 4, ALL, 0.15) == plan_chest(30, 4, ALL, 0.15)
    assert plan_chest(30, 4, ALL, 0.15) != plan_chest(30, 5, ALL, 0.15)


def test_undrawable_classes_are_never_planned():
    few = ALL - {"Bronchiectasis"}
    assert all("Bronchiectasis" not in p.labels for p in plan_chest(60, 0, few, 0.3))


def test_fifteen_per_cent_of_patients_are_held_out():
    assert sum(is_valid(i) for i in range(200)) == 30
