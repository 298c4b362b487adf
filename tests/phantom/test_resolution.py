"""Classes too fine for a shape are named with the reason, and no others."""

from __future__ import annotations

import pytest

from uvlm.phantom.body import chest_grid, nominal_chest_spacing, sample_body
from uvlm.phantom.resolution import ABDOMEN_FEATURES, FEATURES, size_ranges, too_fine
from uvlm.registry import ABDOMEN_LABELS, CT_RATE_LABELS

COARSE = (16, 32, 32)


def test_every_label_has_a_criterion():
    assert tuple(FEATURES) == CT_RATE_LABELS
    assert tuple(ABDOMEN_FEATURES) == ABDOMEN_LABELS


def test_all_classes_are_drawable_at_the_demo_shape():
    assert too_fine((32, 64, 64)) == ()
    assert set(size_ranges((32, 64, 64))) == set(CT_RATE_LABELS)


def test_fine_airways_septa_and_coronaries_are_refused_at_a_coarse_shape():
    refused = {lost.label for lost in too_fine(COARSE)}
    assert {
        "Coronary artery wall calcification",
        "Peribronchial thickening",
        "Bronchiectasis",
        "Interlobular septal thickening",
    } <= refused
    assert refused.isdisjoint(size_ranges(COARSE))


@pytest.mark.parametrize("lost", too_fine(COARSE), ids=lambda lost: lost.label)
def test_the_shape_named_as_sufficient_is_sufficient_and_larger(lost):
    assert lost.label in size_ranges(lost.shape)
    assert lost.shape > COARSE


def test_what_is_drawn_keeps_the_contrast_that_is_needed():
    for shape in ((16, 32, 32), (32, 64, 64), (64, 96, 96)):
        for label, (smallest, largest) in size_ranges(shape).items():
            feature = FEATURES[label]
            kept = feature.kept(smallest, nominal_chest_spacing(shape))
            assert kept >= feature.needed
            assert feature.smallest <= smallest <= largest == feature.largest


def test_finer_voxels_never_lose_a_class():
    shown: set[str] = set()
    for n in (8, 16, 24, 32, 48, 64):
        now = set(size_ranges((n, 2 * n, 2 * n)))
        assert shown <= now
        shown = now


def test_no_patient_has_larger_voxels_than_the_decision_assumed():
    nominal = nominal_chest_spacing((32, 64, 64))
    for study in range(60):
        grid = chest_grid(sample_body(3, study, large_heart=False), (32, 64, 64))
        assert all(s <= n for s, n in zip(grid.spacing, nominal, strict=True))
