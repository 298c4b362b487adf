"""Reports in files: words and labels, floors beside them, nothing missing without a word."""

import numpy as np
import pytest

from uvlm.errors import InputError
from uvlm.evaluation.tasks.report import ReportInputs, evaluate_reports
from uvlm.registry import CT_RATE_LABELS

TEXTS = [
    "Findings: Heart size is normal. Lungs are clear. Impression: Normal.",
    "Findings: There is a pleural effusion on the right. Impression: Pleural effusion.",
    "Findings: Emphysema in both upper lobes. Impression: Emphysema.",
    "Findings: A 5 mm nodule in the left lower lobe. Impression: Lung nodule.",
    "Findings: Bronchiectasis in the middle lobe. Impression: Bronchiectasis.",
    "Findings: Consolidation in the right lower lobe. Impression: Consolidation.",
]
IDS = [f"valid_{i}_a_{r}" for i in range(6) for r in (1, 2)]
REFERENCES = [TEXTS[i // 2] for i in range(12)]
FAST = ("bleu@vlm3d", "rouge_l", "ce_f1@vlm3d-macro18", "ce_f1@micro")


@pytest.fixture
def evaluate(write):
    def run(predictions=REFERENCES, references=REFERENCES, ids=IDS, **options):
        said = [row for row in zip(ids, predictions, strict=True) if row[1] is not None]
        return evaluate_reports(
            ReportInputs(
                references=write(
                    "t.csv", ("VolumeName", "report"), zip(ids, references, strict=True)
                ),
                predictions=write("p.csv", ("series_id", "generated_report"), said),
                **{"protocols": FAST, "resamples": 30, **options},
            )
        )

    return run


def test_reports_equal_to_their_references_score_one(evaluate, scores):
    result = evaluate()
    found = scores(result)
    assert found["bleu@vlm3d", "BLEU-4"] == pytest.approx(1)
    assert found["rouge_l", "ROUGE-L"] == pytest.approx(1)
    assert found["ce_f1@micro", "F1"] == 1
    assert result.about["unit"] == "scan"
    assert result.about["studies"] == 6
    assert any("their own reference, word for word" in note for note in result.notes[""])


def test_floors_stand_beside_every_score_and_say_where_they_come_from(evaluate, write):
    result = evaluate()
    for score in result.scores:
        assert [floor.name for floor in score.floors] == ["constant", "random", "retrieved"]
    assert any("references of other patients" in note for note in result.notes[""])
    training = write("train.csv", ("series_id", "report"), [["a", TEXTS[0]], ["b", "Not given."]])
    result = evaluate(training=training)
    assert any("made from 1 training report." in note for note in result.notes[""])


def test_no_patient_lends_its_own_report_to_a_floor(evaluate, scores):
    """Every reference is another: a floor that scores 1 would be the study's own."""
    own = [f"{text} Study {i // 2} of {i // 2 * 'x'}." for i, text in enumerate(REFERENCES)]
    for score in evaluate(predictions=own, references=own).scores:
        if score.name == "ROUGE-L":
            assert all(floor.value < 0.9 for floor in score.floors)


def test_a_missing_prediction_is_the_empty_report(evaluate, scores):
    given = [None if i in (2, 3) else text for i, text in enumerate(REFERENCES)]
    empty = ["" if i in (2, 3) else text for i, text in enumerate(REFERENCES)]
    missing, blank = evaluate(given), evaluate(empty)
    assert scores(missing) == pytest.approx(scores(blank), nan_ok=True)
    assert scores(missing)["ce_f1@vlm3d-macro18", "recall: Pleural effusion"] == 0
    assert missing.per_study["missing"] == [False, True, False, False, False, False]
    assert "1 study is without prediction." in missing.notes[""]
    with pytest.raises(InputError, match="1 study without prediction: valid_1_a_1"):
        evaluate(given, missing="refuse")


def test_studies_without_reference_are_left_out_and_said(evaluate):
    references = ["Not given.", "", *REFERENCES[2:]]
    result = evaluate(references=references)
    assert len(result.ids) == 5
    assert "1 study is left out: no reference report." in result.notes[""]
    with pytest.raises(InputError, match="no report in column report of any study"):
        evaluate(references=["..."] * 12)


def test_labels_of_a_table_take_the_place_of_the_labeller(evaluate, write, scores):
    rows = [[f"{key}.nii.gz", *np.eye(18, dtype=int)[i % 18]] for i, key in enumerate(IDS)]
    table = write("labels.csv", ("VolumeName", *CT_RATE_LABELS), rows)
    both = evaluate(labels=table, predicted_labels=table)
    assert scores(both)["ce_f1@micro", "F1"] == 1
    assert scores(evaluate(labels=table))["ce_f1@micro", "F1"] < 1
    short = write("short.csv", ("VolumeName", *CT_RATE_LABELS), rows[:3])
    with pytest.raises(InputError, match=r"short\.csv: no labels of 4 of 6 studies"):
        evaluate(labels=short)


def test_abdominal_reports_are_read_for_three_lesions(evaluate):
    result = evaluate(region="abdomen", protocols=("ce_f1@vlm3d-macro18",))
    names = {score.name for score in result.scores if score.per_class}
    assert "F1: Liver lesion" in names
    assert len(names) == 12


def test_a_single_study_another_language_and_a_long_report_have_results(evaluate, scores):
    one = evaluate(["Kein Erguss."], ["Kein Nachweis eines Ergusses in der Pleura."], ["s"])
    assert any("not in English" in note for note in one.notes[""])
    assert any("No floors" in note for note in one.notes[""])
    long = evaluate(["nodule " * 50_000], ["A nodule."], ["s"], protocols=("bleu@vlm3d",))
    assert scores(long)["bleu@vlm3d", "BLEU-1"] < 0.01


def test_the_order_of_files_changes_no_number(evaluate):
    predictions = [TEXTS[(i // 2 + i) % 6] for i in range(12)]
    one = evaluate(predictions)
    back = evaluate(predictions[::-1], REFERENCES[::-1], IDS[::-1])
    assert one.resample_key == back.resample_key
    np.testing.assert_array_equal(one.draws, back.draws)


def test_a_classifier_without_weights_is_refused():
    with pytest.raises(InputError, match="--labeller-weights"):
        ReportInputs(references="a", predictions="b", labeller="radbert")


def test_of_a_catalog_one_split_is_scored_and_its_reports_lend_no_floor(write):
    rows = [[key, "valid" if i < 4 else "train", TEXTS[i]] for i, key in enumerate("abcdef")]
    catalog = write("catalog.csv", ("series_id", "split", "report"), rows)
    said = write("p.csv", ("series_id", "generated_report"), [[k, TEXTS[0]] for k in "abcd"])
    inputs = {"references": catalog, "predictions": said, "protocols": FAST, "resamples": 0}
    result = evaluate_reports(ReportInputs(**inputs, training=catalog, split="valid"))
    assert result.ids == ("a", "b", "c", "d")
    assert result.about["missing_predictions"] == 0
    assert any("from 2 training reports" in note for note in result.notes[""])
    with pytest.raises(InputError, match="no row has split 'test'; found: train, valid"):
        evaluate_reports(ReportInputs(**inputs, split="test"))


@pytest.mark.parametrize("wrong", [{"resamples": -1}, {"seed": -1}])
def test_negative_numbers_are_refused(wrong):
    with pytest.raises(InputError, match="must be 0 or more"):
        ReportInputs(references="a", predictions="b", **wrong)


def test_training_reports_of_scored_studies_and_patients_make_no_floor(evaluate, write):
    header = ("VolumeName", "patient_id", "report")
    rows = [
        ["valid_0_a_1.nii.gz", "x", TEXTS[0]],  # a scored study
        ["valid_1_b_1", "y", TEXTS[1]],  # another scan of a scored patient
        ["train_1_a_1", "valid_2", TEXTS[2]],  # a scored patient by name
        ["train_2_a_1", "z", TEXTS[3]],
    ]
    notes = " ".join(evaluate(training=write("train.csv", header, rows)).notes[""])
    assert "Floors are made from 1 training report." in notes
    assert "3 training rows are left out of the floors" in notes
    with pytest.raises(InputError, match="every row is of a study or patient that is scored"):
        evaluate(training=write("own.csv", header, rows[:3]))
    bare = evaluate(training=write("bare.csv", ("report",), [[TEXTS[3]]]))
    assert "no column of ids or patients" in " ".join(bare.notes[""])


def test_tables_of_labels_are_read_by_scan_and_by_the_named_column(evaluate, write, scores):
    rows = [[f"valid_{i}_a", *np.eye(18, dtype=int)[i]] for i in range(6)]
    table = write("scans.csv", ("VolumeName", *CT_RATE_LABELS), rows)
    found = evaluate(labels=table, predicted_labels=table)
    assert scores(found)["ce_f1@micro", "F1"] == 1
    renamed = write("named.csv", ("scan name", *CT_RATE_LABELS), rows)
    ids = [f"valid_{i}_a" for i in range(6)]
    found = evaluate_reports(
        ReportInputs(
            references=write("n.csv", ("scan name", "report"), zip(ids, TEXTS, strict=True)),
            predictions=write("q.csv", ("pred name", "report"), zip(ids, TEXTS, strict=True)),
            id_column="scan name",
            prediction_id_column="pred name",
            labels=renamed,
            predicted_labels=renamed,
            protocols=FAST,
            resamples=0,
        )
    )
    assert scores(found)["ce_f1@micro", "F1"] == 1


def test_what_was_read_and_how_is_kept(evaluate):
    about = evaluate().about
    assert about["report_columns"] == {"references": "report", "predictions": "generated_report"}
    assert about["missing"] == "wrong"


def test_one_report_is_not_called_many(evaluate):
    notes = " ".join(evaluate(["", "", *REFERENCES[2:]]).notes[""])
    assert "1 predicted report without text" in notes


def test_what_decides_a_clinical_score_is_kept(evaluate, write):
    about = evaluate().about
    assert about["class_names"] == ", ".join(CT_RATE_LABELS)
    assert (about["region"], about["labeller"]) == ("chest", "rules@chest18")
    assert (about["truth_from"], about["predictions_from"]) == ("reports", "reports")
    rows = [[f"valid_{i}_a_1", *([0] * len(CT_RATE_LABELS))] for i in range(6)]
    labels = write("labels.csv", ("series_id", *CT_RATE_LABELS), rows)
    assert evaluate(labels=labels).about["truth_from"] == "labels"
    assert "class_names" not in evaluate(protocols=("rouge_l",)).about
