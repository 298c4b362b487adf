"""Duplicate reports are one group, ties are misses, chance is as stated, order means nothing."""

import tracemalloc
from math import comb

import numpy as np
import pytest

from uvlm.errors import InputError
from uvlm.evaluation import retrieval
from uvlm.evaluation.retrieval import (
    PROTOCOLS,
    RECALL_AT,
    chance_of_misses,
    group_of_reports,
    ranks,
    retrieval_floors,
    retrieval_measures,
)

RNG = np.random.default_rng(0)


def unit(*shape, rng=RNG):
    rows = rng.normal(size=shape)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def scores(measures):
    """{protocol: {name: value}}"""
    return {
        m.protocol: dict(zip(m.names, m.values(m.per_study.shape[0]).tolist(), strict=True))
        for m in measures
    }


def slow_ranks(queries, gallery, groups):
    """The obvious version: sort all, hits last among equals, look for the first hit."""
    found = []
    for query, group in zip(queries, groups, strict=True):
        order = sorted(
            range(len(gallery)), key=lambda j, q=query, g=group: (-(q @ gallery[j]), groups[j] == g)
        )
        found.append(1 + next(i for i, j in enumerate(order) if groups[j] == group))
    return found


def test_ranks_are_those_of_a_sort():
    queries, gallery = unit(60, 5), unit(60, 5)
    groups = RNG.integers(0, 25, 60)
    assert ranks(queries, gallery, groups).tolist() == slow_ranks(queries, gallery, groups)


def test_ranks_do_not_depend_on_the_size_of_the_blocks(monkeypatch):
    queries, gallery, groups = unit(50, 6), unit(50, 6), RNG.integers(0, 20, 50)
    whole = ranks(queries, gallery, groups)
    monkeypatch.setattr(retrieval, "BLOCK", 120)
    np.testing.assert_array_equal(ranks(queries, gallery, groups), whole)


def test_perfect_embeddings_score_one_and_rank_first():
    rows = unit(120, 8)
    found = scores(retrieval_measures(rows, 3 * rows, range(120)))
    assert set(found["retrieval@groups"].values()) == {1.0}
    assert set(found["retrieval@groups-rank"].values()) == {1.0}


def test_random_embeddings_score_about_chance():
    total = 2000
    values = scores(retrieval_measures(unit(total, 16), unit(total, 16), range(total)))
    for direction in ("i2t", "t2i"):
        for k in (50, 100):
            # Five standard deviations of a share of 2,000 searches.
            chance = k / total
            room = 5 * (chance * (1 - chance) / total) ** 0.5
            assert values["retrieval@groups"][f"{direction} R@{k}"] == pytest.approx(
                chance, abs=room
            )
        assert values["retrieval@groups-rank"][f"{direction} median rank"] == pytest.approx(
            total / 2, rel=0.1
        )


def test_the_floor_is_k_of_n_without_duplicates():
    (recall, rank) = retrieval_floors(range(200))["chance"]
    values = dict(zip(recall.names, recall.values(200), strict=True))
    for k in RECALL_AT:
        assert values[f"i2t R@{k}"] == pytest.approx(k / 200)
    assert values["t2i MRR"] == pytest.approx(sum(1 / r for r in range(1, 201)) / 200)
    assert rank.values(200).tolist() == [100, 100]


def test_the_floor_counts_duplicates_as_further_hits():
    missed = chance_of_misses(3, 20)
    for k in range(21):
        assert missed[k] == pytest.approx(comb(17, k) / comb(20, k))


def test_the_floor_is_what_random_orders_give():
    groups = np.repeat(np.arange(30), [1] * 10 + [2] * 10 + [5] * 10)
    floors = retrieval_floors(groups)["chance"]
    rng = np.random.default_rng(1)
    runs = []
    for _ in range(60):
        run = retrieval_measures(unit(80, 6, rng=rng), unit(80, 6, rng=rng), groups)
        runs.append(np.concatenate([measure.values(80) for measure in run]))
    expected = np.concatenate([measure.values(80) for measure in floors])
    np.testing.assert_allclose(np.mean(runs, axis=0)[:12], expected[:12], atol=0.03)
    np.testing.assert_allclose(np.mean(runs, axis=0)[12:], expected[12:], atol=2)


def test_order_changes_nothing():
    image, text, groups = unit(70, 4), unit(70, 4), RNG.integers(0, 30, 70)
    turn = RNG.permutation(70)
    before = scores(retrieval_measures(image, text, groups.tolist()))
    after = scores(retrieval_measures(image[turn], text[turn], groups[turn].tolist()))
    for protocol, values in before.items():
        assert after[protocol] == pytest.approx(values, nan_ok=True)


def test_any_study_with_the_same_report_is_a_hit():
    # Images of the first two are exchanged; their report is the same.
    text = np.eye(4)
    text[1] = text[0]
    image = np.array([[1, 0.1, 0, 0], [1, 0, 0.1, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    groups = group_of_reports(["Lungs are clear.", " Lungs  are clear.", "Nodule.", "Effusion."])
    assert groups.tolist() == [0, 0, 1, 2]
    found = scores(retrieval_measures(image, text, groups.tolist()))
    assert found["retrieval@groups"]["i2t R@1"] == 1
    assert found["retrieval@groups"]["t2i R@1"] == 1


def test_paired_counts_duplicates_as_misses_and_is_not_default():
    text = np.eye(4)[[0, 0, 1, 2]]
    image = text.copy()
    (paired,) = retrieval_measures(image, text, [0, 0, 1, 2], ["retrieval@paired"])
    assert paired.per_study[:, 0].tolist() == [1, 0, 1, 1]
    assert "count as misses" in paired.notes[0]
    assert "retrieval@paired" not in scores(retrieval_measures(image, text, [0, 0, 1, 2]))


def test_paired_ranks_are_those_of_a_stable_sort():
    image, text = unit(40, 3), unit(40, 3)
    text[20:] = text[:20]
    (paired,) = retrieval_measures(image, text, range(40), ["retrieval@paired"])
    for i in range(40):
        order = sorted(range(40), key=lambda j, i=i: (-round(float(image[i] @ text[j]), 9), j))
        assert paired.per_study[i, paired.names.index("i2t MRR")] == 1 / (1 + order.index(i))


def test_a_model_that_gives_all_the_same_finds_nothing():
    same = np.ones((30, 4))
    found = scores(retrieval_measures(same, same, range(30)))
    assert found["retrieval@groups"]["i2t R@10"] == 0
    assert found["retrieval@groups-rank"]["t2i median rank"] == 30


def test_weights_are_those_of_the_queries_and_the_gallery_stays_whole():
    image, text = unit(25, 4), unit(25, 4)
    weights = RNG.integers(0, 3, (6, 25)).astype(float)
    recall, rank = retrieval_measures(image, text, range(25))
    both = np.stack([ranks(image, text, np.arange(25)), ranks(text, image, np.arange(25))])
    for row, weight in enumerate(weights.astype(int)):
        drawn = np.repeat(both, weight, axis=1)
        expected = [
            v for r in drawn for v in [*((r <= k).mean() for k in (1, 5, 10)), *[np.nan] * 2]
        ]
        got = recall.score(weights)[row]
        np.testing.assert_allclose(got[[0, 1, 2, 3, 4, 6, 7, 8, 9, 10]], expected)
        np.testing.assert_allclose(got[[5, 11]], (1 / drawn).mean(axis=1))
        np.testing.assert_allclose(rank.score(weights)[row], np.median(drawn, axis=1))


def test_a_resample_without_weight_has_no_median():
    names = ["retrieval@groups-rank"]
    (rank,) = retrieval_measures(unit(9, 3), unit(9, 3), range(9), names)
    assert np.isnan(rank.score(np.zeros((1, 9)))).all()
    (floor,) = retrieval_floors(range(9), names)["chance"]
    assert np.isnan(floor.score(np.zeros((1, 9)))).all()


def test_recall_at_the_size_of_the_gallery_or_more_is_not_given_and_said():
    recall, _ = retrieval_measures(unit(10, 4), unit(10, 4), range(10))
    values = dict(zip(recall.names, recall.values(10), strict=True))
    assert np.isnan([values["i2t R@10"], values["i2t R@50"], values["t2i R@100"]]).all()
    assert np.isfinite(values["i2t R@5"])
    assert any("Recall at 10, 50, 100 is not given" in note for note in recall.notes)


def test_a_single_study_has_no_recall_and_no_reciprocal_rank():
    recall, rank = retrieval_measures(np.ones((1, 2)), np.ones((1, 2)), ["a"])
    assert np.isnan(recall.values(1)).all()
    assert np.isnan(retrieval_floors(["a"])["chance"][0].values(1)).all()
    assert not any(": ." in note for note in recall.notes)
    assert rank.values(1).tolist() == [1, 1]


def test_size_and_chance_are_stated():
    recall, _ = retrieval_measures(unit(20, 4), unit(20, 4), [0, 0, *range(1, 19)])
    assert "Gallery of 20 studies with 19 different reports" in recall.notes[0]
    assert "a gallery in random order" in recall.notes[0]


def test_memory_is_bounded_by_blocks(monkeypatch):
    monkeypatch.setattr(retrieval, "BLOCK", 1 << 16)
    queries, gallery = unit(3000, 4), unit(3000, 4)
    tracemalloc.start()
    ranks(queries, gallery, np.arange(3000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All cosines together would take 72 MB.
    assert peak < 4e6


@pytest.mark.parametrize("wrong", ["image", "text"])
@pytest.mark.parametrize(("value", "kind"), [(np.nan, "not finite"), (0.0, "zero")])
def test_rows_without_direction_are_refused_by_study(wrong, value, kind):
    rows = {"image": unit(3, 4), "text": unit(3, 4)}
    rows[wrong][1] = value
    with pytest.raises(InputError, match=f"{wrong} embeddings: 1 of 3 .* 's2' is {kind}"):
        retrieval_measures(rows["image"], rows["text"], range(3), ids=["s1", "s2", "s3"])


def test_numbers_that_do_not_match_are_refused():
    with pytest.raises(InputError, match=r"\(3, 4\), text embeddings \(2, 4\)"):
        retrieval_measures(unit(3, 4), unit(2, 4), range(3))
    with pytest.raises(InputError, match="there are 2 groups"):
        retrieval_measures(unit(3, 4), unit(3, 4), range(2))


def test_an_empty_report_is_refused_by_study_and_without_text():
    with pytest.raises(InputError, match=r"1 of 2 reports are empty; .* study 'b'"):
        group_of_reports(["Clear.", "Findings: Not given."], ["a", "b"])


def test_protocols_are_described_and_the_naive_one_is_not_default():
    assert {info.name: info.default for info in PROTOCOLS} == {
        "retrieval@groups": True,
        "retrieval@groups-rank": True,
        "retrieval@paired": False,
    }
    assert {info.task for info in PROTOCOLS} == {"retrieval"}
