"""Volume to volume: the query is excluded, order means nothing, the legacy fault is kept."""

import numpy as np
import pytest

from uvlm.errors import InputError
from uvlm.evaluation import retrieval
from uvlm.evaluation.volume_similarity import (
    NEAREST,
    PROTOCOLS,
    volume_floors,
    volume_measures,
)

RNG = np.random.default_rng(0)


def made(total=70, width=6, labels=5):
    truth = (RNG.random((total, labels)) < 0.4).astype(float)
    truth[:3] = 0
    return RNG.normal(size=(total, width)), truth


def index(one, other):
    return (one * other).sum() / np.maximum(one, other).sum()


def cosine(one, other):
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


def slow(image, truth, n, scans=None):
    """One volume after the other; nan for those that do not ask."""
    scans = range(len(image)) if scans is None else scans
    found = []
    for i in range(len(image)):
        gallery = [j for j in range(len(image)) if truth[j].any() and scans[j] != scans[i]]
        if not truth[i].any() or len(gallery) < n:
            found.append(np.nan)
            continue
        gallery.sort(key=lambda j, i=i: -cosine(image[i], image[j]))
        found.append(np.mean([index(truth[i], truth[j]) for j in gallery[:n]]))
    return found


def slow_legacy(image, truth):
    """The published script's loop, list never emptied."""
    gallery = [j for j in range(len(image)) if truth[j].any()]
    external, outs = [], []
    for n in NEAREST:
        for i in range(len(image)):
            order = sorted(gallery, key=lambda j, i=i: cosine(image[i], image[j]), reverse=True)
            external.append(np.mean([index(truth[i], truth[j]) for j in order[:n]]))
        outs.append(np.mean(external))
    return outs


def test_scores_are_those_of_the_obvious_loop():
    image, truth = made()
    (measure,) = volume_measures(image, truth)
    for column, n in enumerate(NEAREST):
        np.testing.assert_allclose(measure.per_study[:, column], slow(image, truth, n))


def test_volumes_of_the_same_scan_are_left_out():
    image, truth = made()
    scans = [i // 2 for i in range(70)]
    (measure,) = volume_measures(image, truth, scans=scans)
    for column, n in enumerate(NEAREST):
        np.testing.assert_allclose(measure.per_study[:, column], slow(image, truth, n, scans))
    assert "volumes of the same scan are left out" in measure.notes[0]


def test_legacy_gives_what_the_script_gives():
    image, truth = made()
    (measure,) = volume_measures(image, truth, ["v2v@ctclip-legacy"])
    np.testing.assert_allclose(measure.values(70), slow_legacy(image, truth))
    assert "Faulty on purpose" in measure.notes[0]


def test_legacy_flatters_a_model_that_knows_nothing():
    image, truth = made(200, 16)
    (legacy,) = volume_measures(image, truth, ["v2v@ctclip-legacy"])
    (ours,) = volume_measures(image, truth)
    # 3 of 200 volumes have no label and score 0; every other finds itself.
    assert legacy.values(200)[0] == pytest.approx(np.mean(truth.any(axis=1)))
    assert ours.values(200)[0] < 0.5


def test_perfect_is_one():
    truth = np.repeat(np.eye(4), 60, axis=0)
    (measure,) = volume_measures(truth + 1e-3 * RNG.random(truth.shape), truth)
    np.testing.assert_allclose(measure.values(240), 1)


def test_n_is_not_cumulative():
    # The nearest is alike, all others are not: the value must fall with n.
    truth = np.array([[1.0, 0]] * 2 + [[0, 1.0]] * 58)
    image = np.array([[1.0, 0.01 * i] for i in range(60)])
    (measure,) = volume_measures(image, truth)
    assert measure.per_study[0].tolist() == pytest.approx([1, 1 / 5, 1 / 10, 1 / 50])


def test_order_changes_nothing_even_where_all_are_equally_near():
    image, truth = made()
    turn = RNG.permutation(70)
    for rows in (image, np.ones_like(image)):
        (before,) = volume_measures(rows, truth)
        (after,) = volume_measures(rows[turn], truth[turn])
        np.testing.assert_allclose(after.values(70), before.values(70))


def test_equal_cosines_give_the_floor():
    _, truth = made()
    (measure,) = volume_measures(np.ones((70, 3)), truth)
    (floor,) = volume_floors(truth)["chance"]
    assert floor.names == measure.names
    np.testing.assert_allclose(measure.values(70), floor.values(70))


def test_the_floor_is_the_mean_over_the_others():
    _, truth = made(12)
    (floor,) = volume_floors(truth)["chance"]
    own = next(j for j in range(4, 12) if truth[j].any())
    others = [j for j in range(12) if j != own and truth[j].any()]
    expected = np.mean([index(truth[own], truth[j]) for j in others])
    assert floor.per_study[own, 0] == pytest.approx(expected)


def test_blocks_change_nothing(monkeypatch):
    image, truth = made()
    (whole,) = volume_measures(image, truth)
    monkeypatch.setattr(retrieval, "BLOCK", 200)
    (parts,) = volume_measures(image, truth)
    np.testing.assert_allclose(parts.per_study, whole.per_study)


def test_weights_are_those_of_the_queries():
    image, truth = made()
    (measure,) = volume_measures(image, truth)
    weights = RNG.integers(0, 3, (1, 70))
    drawn = np.repeat(measure.per_study, weights[0], axis=0)
    np.testing.assert_allclose(measure.score(weights.astype(float))[0], np.nanmean(drawn, axis=0))


def test_a_gallery_that_is_too_small_gives_no_value_and_says_so():
    image, truth = made(9)
    (measure,) = volume_measures(image, truth)
    assert np.isnan(measure.values(9)[2:]).all()
    assert any("Not given for n = 10, 50" in note for note in measure.notes)


def test_nobody_with_a_label_has_no_score():
    (measure,) = volume_measures(np.ones((4, 2)), np.zeros((4, 3)))
    assert np.isnan(measure.values(4)).all()
    with pytest.raises(InputError, match="no volume has a positive label"):
        volume_measures(np.ones((4, 2)), np.zeros((4, 3)), ["v2v@ctclip-legacy"])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.ones((3, 2)), r"labels are \(3, 2\) for 4 image embeddings"),
        (np.ones(4), r"labels are \(4,\)"),
        (np.array([[1, 0], [np.nan, 1], [0, 1], [1, 1]]), "nor 1: 1; .* column 1 of volume 'v2'"),
        (np.array([[1, 0], [0, 1], [0, 2], [1, 1]]), "nor 1: 1; .* column 2 of volume 'v3'"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(labels, message):
    with pytest.raises(InputError, match=message):
        volume_measures(np.ones((4, 2)), labels, ids=["v1", "v2", "v3", "v4"])


def test_scans_of_another_number_are_refused():
    with pytest.raises(InputError, match="2 scans are named for 4 volumes"):
        volume_measures(np.ones((4, 2)), np.ones((4, 2)), scans=["a", "b"])


def test_legacy_is_not_default():
    assert {info.name: info.default for info in PROTOCOLS} == {
        "v2v@jaccard": True,
        "v2v@ctclip-legacy": False,
    }
    assert volume_measures(np.ones((4, 2)), np.ones((4, 2)), ["retrieval@groups"]) == []
