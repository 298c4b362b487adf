"""Which classes count as large organs."""

import pytest

from uvlm.evaluation.segmentation import segmentation_scores


def test_bones_are_no_large_organs():
    study = {"ribs": 0.4, "vertebrae_L1": 0.5, "hiatal_hernia": 0.1, "liver": 0.9}
    scores = segmentation_scores([study], [dict.fromkeys(study, 900.0)], ["Hiatal hernia"])
    assert [row.kind for row in scores.classes] == ["organ", "bone", "bone", "lesion"]
    assert scores.large_organs == pytest.approx(0.9)
    assert scores.lesions == pytest.approx(0.1)
