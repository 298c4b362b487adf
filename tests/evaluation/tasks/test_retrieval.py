"""Embeddings meet reports and labels by id, in any order."""

import numpy as np
import pytest

from uvlm.errors import InputError
from uvlm.evaluation.tasks.retrieval import RetrievalInputs, evaluate_retrieval

IDS = [f"valid_{i}_a_1" for i in range(12)]
VECTORS = np.random.default_rng(0).normal(size=(12, 16))


@pytest.fixture
def evaluate(write, tmp_path):
    def run(ids=IDS, image=VECTORS, text=VECTORS, reports=None, labels=False, **options):
        reports = reports or [f"Finding number {i}." for i in range(12)]
        change = options.pop("change", lambda rows: rows)
        column = options.pop("column", "report")
        extra = ("Nodule", "Mass") if labels else ()
        rows = [
            [key, report, *((i % 2, int(i < 6)) if labels else ())]
            for i, (key, report) in enumerate(zip(IDS, reports, strict=True))
        ]
        arrays = {"ids": np.array(ids), "image": image}
        if text is not None:
            arrays["text"] = text
        np.savez(tmp_path / "e.npz", **arrays)
        return evaluate_retrieval(
            RetrievalInputs(
                references=write("r.csv", ("VolumeName", column, *extra), change(rows)),
                predictions=tmp_path / "e.npz",
                label_columns=extra,
                resamples=20,
                **options,
            )
        )

    return run


def test_a_model_that_knows_every_report_finds_it_first(evaluate, scores):
    result = evaluate()
    assert scores(result)["retrieval@groups", "i2t R@1"] == 1
    (floor,) = result.scores[0].floors
    assert floor.name == "chance"
    assert floor.value == pytest.approx(1 / 12)
    assert set(result.skipped) == {"v2v@jaccard"}


def test_the_order_of_embeddings_changes_nothing(evaluate, scores):
    ids, back = [f"{key}.nii.gz" for key in IDS[::-1]], VECTORS[::-1]
    found = scores(evaluate(ids=ids, image=back, text=back))
    assert found == pytest.approx(scores(evaluate()), nan_ok=True)


def test_a_missing_embedding_is_refused_and_an_unknown_one_said(evaluate):
    with pytest.raises(InputError, match="1 study without embedding: valid_9_a_1"):
        evaluate(ids=[*IDS[:-3], "x", *IDS[-2:]])
    with pytest.raises(InputError, match=r"1 study without embedding: .*another reconstruction"):
        evaluate(ids=[*IDS[:-3], "valid_9_a_2", *IDS[-2:]])
    more = np.concatenate([VECTORS, VECTORS[:1]])
    result = evaluate(ids=[*IDS, "other"], image=more, text=more)
    assert any("1 prediction of studies" in note for note in result.notes[""])


def test_labels_make_volumes_comparable_and_missing_text_is_said(evaluate):
    result = evaluate(text=None, labels=True)
    assert {score.protocol for score in result.scores} == {"v2v@jaccard"}
    assert result.skipped["retrieval@groups"] == "the embeddings have no array 'text'"


def test_studies_without_report_are_left_out_and_said(evaluate):
    result = evaluate(reports=["Not given.", *(f"Report {i}." for i in range(11))])
    assert len(result.ids) == 11
    assert "1 study is left out: no reference report." in result.notes[""]


@pytest.mark.parametrize("text", [VECTORS, None])
def test_volumes_are_compared_without_any_report(evaluate, scores, text):
    known = scores(evaluate(text=None, labels=True))
    for result in (
        evaluate(text=text, labels=True, reports=["Not given."] * 12),
        evaluate(text=text, labels=True, column="notes"),
    ):
        assert scores(result) == pytest.approx(known, nan_ok=True)
        assert "retrieval@groups" in result.skipped


def test_a_study_without_report_is_still_compared_by_volume(evaluate, scores):
    whole = scores(evaluate(labels=True))
    result = evaluate(reports=["Not given.", *(f"Report {i}." for i in range(11))], labels=True)
    assert len(result.ids) == 12
    found = scores(result)
    by_volume = [key for key in whole if key[0] == "v2v@jaccard"]
    assert [found[key] for key in by_volume] == pytest.approx(
        [whole[key] for key in by_volume], nan_ok=True
    )
    assert found["retrieval@groups", "i2t R@1"] == 1
    (floor,) = result.scores[0].floors
    assert floor.value == pytest.approx(1 / 11)
    assert "1 study takes no part: no reference report." in result.notes["retrieval@groups"]


def unknown(rows):
    rows[4][-1] = ""
    return rows


def test_a_volume_with_an_unknown_label_is_left_out_of_its_search_only(evaluate, scores):
    result = evaluate(labels=True, change=unknown)
    assert "1 study takes no part: an unknown label." in result.notes["v2v@jaccard"]
    assert scores(result)["retrieval@groups", "t2i R@1"] == 1
    assert len(result.ids) == 12
    assert np.isnan(result.per_study["v2v@jaccard v2v Jaccard@1"][result.ids.index(IDS[4])])
    alone = evaluate(labels=True, change=unknown, text=None)
    assert "1 study is left out: an unknown label." in alone.notes[""]


def test_a_label_with_text_in_it_is_named_by_file_row_and_column(evaluate):
    def change(rows):
        rows[4][-1] = "maybe"
        return rows

    with pytest.raises(InputError, match=r"r\.csv: row 6, column 'Mass': the label 'maybe'"):
        evaluate(labels=True, change=change)
