"""The pointing test rewards maps that point, and says what chance would reach."""

import numpy as np
import pytest

from uvlm.errors import InputError
from uvlm.inference.evidence.pointing import (
    REACH,
    Pointed,
    accuracy,
    is_widespread,
    point,
    truth_class,
)
from uvlm.phantom.classes import CHEST_CLASSES
from uvlm.registry import CT_RATE_LABELS

SHAPE = (12, 16, 20)
BODY = np.ones(SHAPE, bool)


def only(voxel, value=True):
    array = np.zeros(SHAPE, type(value))
    array[voxel] = value
    return array


TRUTH = only((6, 8, 4))


def test_a_map_on_the_lesion_hits_with_all_its_energy():
    scored = point(only((6, 8, 4), 1.0), TRUTH, BODY)
    assert (scored.hit, scored.energy, scored.side) == (True, 1.0, True)
    assert scored.share == 1 / BODY.size


@pytest.mark.parametrize("distance", range(5))
def test_the_peak_may_lie_beside_the_lesion_by_its_reach(distance):
    scored = point(only((6, 8, 4 + distance), 1.0), TRUTH, BODY)
    assert scored.hit == (distance <= REACH)


def test_chance_is_what_random_voxels_of_the_body_reach():
    body = np.zeros(SHAPE, bool)
    body[2:, 3:, 1:] = True
    truth = np.zeros(SHAPE, bool)
    truth[3:6, 4:9, 2:5] = True
    hits = [point(only(tuple(v), 1.0), truth, body).hit for v in np.argwhere(body)]
    assert point(only((0, 0, 0), 1.0), truth, body).chance == pytest.approx(np.mean(hits))


def test_the_other_half_is_the_wrong_side_and_a_finding_on_both_has_none():
    assert point(only((6, 8, 15), 1.0), TRUTH, BODY).side is False
    assert point(only((6, 8, 4), 1.0), TRUTH | only((6, 8, 15)), BODY).side is None


def test_no_heat_points_nowhere():
    scored = point(np.zeros(SHAPE), only((0, 0, 0)), BODY)
    assert (scored.hit, scored.energy, scored.side) == (False, 0.0, False)


def test_nothing_to_point_at_and_other_shapes_are_refused():
    heat = only((1, 1, 1), 1.0)
    with pytest.raises(ValueError, match="nothing to point at"):
        point(heat, ~BODY, BODY)
    with pytest.raises(ValueError, match="shapes differ"):
        point(heat[1:], TRUTH, BODY)


def pointed(hit, side=None):
    return Pointed(hit=hit, chance=0.1, energy=0.2, share=0.05, side=side)


def test_accuracy_counts_and_draws_patients():
    points = [pointed(hit, side) for hit, side in [(True, True), (False, None)] * 20]
    apart = accuracy(points, [str(i) for i in range(40)])
    assert (apart.hits, apart.count, apart.chance, apart.side) == (0.5, 40, pytest.approx(0.1), 1)
    assert 0.3 < apart.low < 0.5 < apart.high < 0.7
    # Twenty sentences on one patient are one observation.
    together = accuracy(points, ["a"] * 20 + ["b"] * 20)
    assert together.low == together.high == 0.5


def test_accuracy_of_nothing_is_refused():
    with pytest.raises(InputError):
        accuracy([], [])


def test_every_label_has_a_mask_class():
    assert {truth_class(label) for label in CT_RATE_LABELS} <= set(CHEST_CLASSES)
    assert is_widespread("Emphysema")
    assert not is_widespread("Lung nodule")
