"""Probabilities in files: joined, scored, beside floors; nothing is chosen on what is scored."""

import numpy as np
import pytest

from uvlm.errors import InputError
from uvlm.evaluation.tasks.cls import ClassifierInputs, evaluate_classifier
from uvlm.registry import CT_RATE_LABELS

NAMES = ("Nodule", "Effusion")
RNG = np.random.default_rng(0)
TRUTH = (RNG.random((30, 2)) < 0.4).astype(int)
GUESS = np.clip(0.4 * TRUTH + 0.6 * RNG.random((30, 2)), 0, 1).round(4)


@pytest.fixture
def files(write):
    def make(prefix="s", truth=TRUTH, guess=GUESS, header=("series_id", *NAMES)):
        ids = [f"{prefix}{i:02d}" for i in range(len(truth))]
        return {
            "references": write(
                f"{prefix}_t.csv", header, [[k, *row] for k, row in zip(ids, truth, strict=True)]
            ),
            "predictions": write(
                f"{prefix}_p.csv",
                header,
                [[f"{k}.nii.gz", *row] for k, row in zip(ids, guess, strict=True)],
            ),
        }

    return make


def evaluate(files, **options):
    return evaluate_classifier(ClassifierInputs(**files, resamples=50, **options))


def test_perfect_probabilities_score_one_and_calibration_is_drawn(files, scores):
    result = evaluate(files(guess=TRUTH))
    found = scores(result)
    assert found["auroc", "AUROC"] == found["f1@0.5", "F1"] == 1
    assert found["ece@15", "ECE"] == 0
    assert result.charts[0].lines["all classes"] == ([0.0, 1.0], [0.0, 1.0])


def test_every_score_has_the_floors_of_looking_at_nothing(files):
    for score in evaluate(files(), protocols=("auroc", "f1@0.5", "brier")).scores:
        assert [floor.name for floor in score.floors] == ["all present", "share of positives"]
        if score.protocol == "auroc":
            assert score.floors[0].value == 0.5


def test_leaving_a_prediction_out_never_pays(files, write, scores):
    whole = files()
    best = scores(evaluate(whole))
    for left_out in range(30):
        kept = [[f"s{i:02d}", *row] for i, row in enumerate(GUESS) if i != left_out]
        part = write("part.csv", ("series_id", *NAMES), kept)
        found = evaluate({**whole, "predictions": part}, protocols=("auroc", "f1@0.5", "brier"))
        less = scores(found)
        for key in (("auroc", "AUROC"), ("f1@0.5", "F1")):
            assert less[key] <= best[key] + 1e-12
        assert less["brier", "Brier score"] >= best["brier", "Brier score"]
        assert found.about["missing_predictions"] == 1
    assert "counts as the opposite of its labels" in " ".join(found.notes[""])


def test_what_needs_validation_is_skipped_without_and_computed_with_it(files):
    reason = evaluate(files()).skipped
    assert set(reason) == {"f1@validation", "ece@temperature"}
    other = files("v", TRUTH[::-1], GUESS[::-1])
    options = {f"validation_{side}": path for side, path in other.items()}
    found = evaluate(files(), **options)
    assert found.skipped == {}
    assert {"f1@validation", "ece@temperature"} <= {score.protocol for score in found.scores}


def test_validation_on_the_scored_studies_is_refused(files):
    same = files()
    with pytest.raises(InputError, match="30 of the validation studies are also scored"):
        evaluate(
            same,
            validation_references=same["references"],
            validation_predictions=same["predictions"],
        )


def test_half_of_a_validation_is_refused(files):
    with pytest.raises(InputError, match="both"):
        evaluate(files(), validation_references=files()["references"])


def test_logits_are_refused_or_taken_as_such(files, scores):
    logits = np.log(np.clip(GUESS, 1e-6, 1 - 1e-6) / (1 - np.clip(GUESS, 1e-6, 1 - 1e-6)))
    with pytest.raises(InputError, match="--logits"):
        evaluate(files(guess=logits))
    same = scores(evaluate(files(guess=logits), logits=True))
    np.testing.assert_allclose(
        list(same.values()), list(scores(evaluate(files())).values()), atol=1e-5
    )


def test_text_in_a_label_column_names_row_and_column(files):
    truth = TRUTH.astype(object)
    truth[3, 1] = "see report"
    with pytest.raises(InputError, match="row 5, column 'Effusion'"):
        evaluate(files(truth=truth))


def test_a_single_study_has_values_but_no_intervals(files):
    found = evaluate(files(truth=TRUTH[:1], guess=GUESS[:1]), protocols=("brier",))
    assert np.isfinite(found.scores[0].value)
    assert np.isnan(found.scores[0].low)


def test_one_class_only_and_one_kind_only_are_scored_where_they_can_be(files, scores):
    one = files(truth=TRUTH[:, :1], guess=GUESS[:, :1], header=("series_id", "Nodule"))
    assert np.isfinite(scores(evaluate(one))["auroc", "AUROC"])
    none = evaluate(files(truth=np.zeros_like(TRUTH)))
    assert np.isnan(scores(none)["auroc", "AUROC"])
    assert "Not scored, positive or negative studies only" in none.notes["auroc"][0]


def test_labels_given_as_predictions_are_told(files):
    told = "predictions are their own reference"
    assert told in " ".join(evaluate(files(guess=TRUTH)).notes[""])
    assert told not in " ".join(evaluate(files()).notes[""])


def test_probabilities_given_as_logits_are_told_and_options_are_kept(files):
    found = evaluate(files(), logits=True)
    assert "Every logit is from 0 to 1" in " ".join(found.notes[""])
    assert found.about["logits"] is True
    assert found.about["missing"] == "wrong"
    assert found.about["class_names"] == "Nodule, Effusion"
    assert "Every logit" not in " ".join(
        evaluate(files(guess=8 * GUESS - 4), logits=True).notes[""]
    )


def test_calibration_error_has_no_interval_and_no_floor(files):
    found = evaluate(files(), protocols=("ece@15", "brier"))
    for score in found.scores:
        assert np.isnan(score.low) == (score.protocol == "ece@15")
        assert bool(score.floors) == (score.protocol == "brier")
    assert "No interval" in " ".join(found.notes["ece@15"])


def test_a_class_of_a_known_set_that_is_missing_is_named(write):
    names = [name for name in CT_RATE_LABELS if name != "Hiatal hernia"]
    rows = [[f"s{i}", *((np.arange(17) + i) % 2)] for i in range(4)]
    table = write("t.csv", ("series_id", *names), rows)
    both = {"references": table, "predictions": table, "protocols": ("brier",)}
    note = "17 of CT-RATE's 18 classes are scored; not in both tables: Hiatal hernia."
    assert note in " ".join(evaluate(both).notes[""])
    named = evaluate({**both, "label_columns": tuple(names[:10])})
    assert "classes are scored" not in " ".join(named.notes[""])


def test_a_validation_study_without_prediction_is_refused_with_a_remedy(files, write):
    other = files("v")
    rows = [[f"v{i:02d}", *row] for i, row in enumerate(GUESS[:-1])]
    short = write("short.csv", ("series_id", *NAMES), rows)
    with pytest.raises(InputError, match="leave them out of --validation-references"):
        evaluate(files(), validation_references=other["references"], validation_predictions=short)


def test_each_study_has_its_labels_and_probabilities(files, write):
    part = write("part.csv", ("series_id", *NAMES), [["s00", 0.25, 0.5]])
    columns = evaluate({**files(), "predictions": part}, protocols=("brier",)).per_study
    assert columns["true Effusion"] == TRUTH[:, 1].tolist()
    assert columns["probability Nodule"][0] == 0.25
    assert np.isnan(columns["probability Nodule"][1:]).all()
