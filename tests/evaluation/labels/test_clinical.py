"""Label protocols: each as its own code computes it, resamples as repeated rows, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import (
    accuracy_score,
    classification_report,
    f1_score,
    precision_score,
    recall_score,
)

from uvlm.errors import InputError
from uvlm.evaluation.labels.clinical import NO_FINDING, PROTOCOLS, label_measures
from uvlm.registry import CT_RATE_LABELS

NAN = float("nan")
ALL = [info.name for info in PROTOCOLS]


def scores(protocol, truth, predicted, names=None, weights=None) -> dict[str, float]:
    names = names or [f"class {i}" for i in range(np.shape(truth)[1])]
    (measure,) = label_measures(truth, predicted, names, [protocol])
    weights = np.ones(len(truth)) if weights is None else weights
    (row,) = measure.score(np.asarray(weights, float)[None])
    return dict(zip(measure.names, row, strict=True))


def notes(protocol, truth, predicted, names) -> str:
    (measure,) = label_measures(truth, predicted, names, [protocol])
    return " ".join(measure.notes)


def random_case(seed: int, studies: int = 40, classes: int = 18):
    """Labels with rare, absent and never predicted classes."""
    rng = np.random.default_rng(seed)
    share = rng.uniform(0, 0.5, classes)
    share[:2] = 0
    truth = (rng.random((studies, classes)) < share).astype(int)
    predicted = np.where(rng.random(truth.shape) < 0.8, truth, 1 - truth)
    predicted[:, [0, 3]] = 0
    return truth, predicted


def with_no_finding(labels):
    return np.column_stack([labels, 1 - labels.max(axis=1)])


def vlm3d(truth, predicted):
    """calc_scores.py: scikit-learn per class, then plain means."""
    kinds = {"F1": f1_score, "precision": precision_score, "recall": recall_score}
    result = {}
    for kind, function in kinds.items():
        each = [function(t, p, zero_division=0) for t, p in zip(truth.T, predicted.T, strict=True)]
        result[kind] = np.mean(each)
        result |= {f"{kind}: class {i}": value for i, value in enumerate(each)}
    each = [accuracy_score(t, p) for t, p in zip(truth.T, predicted.T, strict=True)]
    return {**result, "accuracy": np.mean(each)} | {
        f"accuracy: class {i}": value for i, value in enumerate(each)
    }


def radeval(truth, predicted):
    """f1Radbert_ct.py"""
    truth, predicted = with_no_finding(truth), with_no_finding(predicted)
    report = classification_report(truth, predicted, output_dict=True, zero_division=0)
    result = {"accuracy": accuracy_score(truth, predicted)}
    keys = {"precision": "precision", "recall": "recall", "F1": "f1-score"}
    for kind, key in keys.items():
        result[f"{kind}: {NO_FINDING}"] = report[str(truth.shape[1] - 1)][key]
        for mean in ("macro", "micro", "weighted"):
            result[f"{mean} {kind}"] = report[f"{mean} avg"][key]
    return result


def ctclip(truth, predicted):
    """text_classifier/eval.py, its loop."""
    rows = []
    for true, said in zip(truth.T, predicted.T, strict=True):
        tp, fp, fn = (true & said).sum(), (~true & 1 & said).sum(), (true & (1 - said)).sum()
        precision = tp / (tp + fp) if tp + fp else 0
        recall = tp / (tp + fn) if tp + fn else 0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0
        rows.append((f1, precision, recall, tp + fn))
    table = np.array(rows, float)
    means = (table[:, :3] * table[:, 3:]).sum(axis=0) / table[:, 3].sum()
    return dict(zip(("F1", "precision", "recall"), means, strict=True))


def micro(truth, predicted):
    kinds = {"F1": f1_score, "precision": precision_score, "recall": recall_score}
    result = {k: f(truth, predicted, average="micro", zero_division=0) for k, f in kinds.items()}
    return {**result, "accuracy": (truth == predicted).mean()}


def crg(truth, predicted):
    """crg_score.py, its lines."""
    tp = ((predicted == 1) & (truth == 1)).sum()
    fn = ((predicted == 0) & (truth == 1)).sum()
    fp = ((predicted == 1) & (truth == 0)).sum()
    x, a = truth.size, truth.sum()
    r, u = (x - a) / (2 * a), (x - a) / 2
    s = r * tp - r * fn - fp
    return {"CRG": u / (2 * u - s)}


ORACLES = dict(zip(ALL, (vlm3d, radeval, ctclip, micro, crg), strict=True))


@pytest.mark.parametrize("protocol", ALL)
@pytest.mark.parametrize("seed", range(5))
def test_every_protocol_is_that_of_its_source(protocol, seed):
    truth, predicted = random_case(seed)
    found = scores(protocol, truth, predicted)
    for name, value in ORACLES[protocol](truth, predicted).items():
        assert found[name] == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("protocol", ALL)
def test_weights_are_repeated_studies(protocol):
    truth, predicted = random_case(1)
    times = np.random.default_rng(2).integers(0, 3, len(truth))
    again = np.repeat(np.arange(len(truth)), times)
    weighted = scores(protocol, truth, predicted, weights=times)
    repeated = scores(protocol, truth[again], predicted[again])
    assert weighted == pytest.approx(repeated, nan_ok=True)


@pytest.mark.parametrize("protocol", ALL)
def test_the_order_of_studies_and_classes_does_not_matter(protocol):
    truth, predicted = random_case(3)
    names = [f"class {i}" for i in range(18)]
    rows, columns = np.random.default_rng(0).permutation(40), list(range(18))[::-1]
    turned = scores(
        protocol,
        truth[rows][:, columns],
        predicted[rows][:, columns],
        [names[i] for i in columns],
    )
    assert turned == pytest.approx(scores(protocol, truth, predicted, names))


@pytest.mark.parametrize("protocol", ALL)
def test_perfect_labels_score_one(protocol):
    truth = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]])
    assert set(scores(protocol, truth, truth).values()) == {1.0}


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.int8, (5, 4), elements=st.integers(0, 1)),
    arrays(np.int8, (5, 4), elements=st.integers(0, 1)),
)
def test_crg_is_one_over_three_minus_twice_youdens_index(truth, predicted):
    found = scores("crg@vlm3d", truth, predicted)
    if truth.min() == truth.max():  # J does not exist
        assert np.isnan(found["CRG"]) if truth.max() == 0 else found["CRG"] == 0
        return
    tp_rate = predicted[truth == 1].mean()
    fp_rate = predicted[truth == 0].mean()
    assert found["Youden J"] == pytest.approx(tp_rate - fp_rate)
    assert found["CRG"] == pytest.approx(1 / (3 - 2 * (tp_rate - fp_rate)))


@pytest.mark.parametrize(("constant", "value"), [(0, 1 / 3), (1, 1 / 3)])
def test_crg_of_constant_labels_is_a_third(constant, value):
    truth, _ = random_case(0)
    assert scores("crg@vlm3d", truth, np.full_like(truth, constant))["CRG"] == pytest.approx(value)


def test_crg_of_reversed_labels_is_a_fifth():
    truth, _ = random_case(0)
    assert scores("crg@vlm3d", truth, 1 - truth)["CRG"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("protocol", "name", "value"),
    [
        ("ce_f1@vlm3d-macro18", "F1", 0.5),
        ("ce_f1@radeval-macro19", "macro F1", 2 / 3),
        ("ce_f1@radeval-macro19", "weighted F1", 1.0),
        ("ce_f1@ctclip-weighted", "F1", 1.0),
    ],
)
def test_a_class_without_positives_counts_as_its_protocol_says(protocol, name, value):
    truth = np.array([[1, 0], [0, 0]])
    assert scores(protocol, truth, truth, ["a", "b"])[name] == pytest.approx(value)
    said = notes(protocol, truth, truth, ["a", "b"])
    assert "No positive study" in said
    assert "b." in said


@pytest.mark.parametrize(
    ("protocol", "name", "value"),
    [
        ("ce_f1@vlm3d-macro18", "F1", 0.0),
        ("ce_f1@radeval-macro19", "accuracy", 1.0),
        ("ce_f1@radeval-macro19", f"F1: {NO_FINDING}", 1.0),
        ("ce_f1@ctclip-weighted", "F1", NAN),
        ("ce_f1@micro", "F1", 0.0),
        ("crg@vlm3d", "CRG", NAN),
    ],
)
def test_one_healthy_study_alone_has_a_stated_score(protocol, name, value):
    healthy = np.zeros((1, 18), int)
    found = scores(protocol, healthy, healthy, list(CT_RATE_LABELS))[name]
    assert found == pytest.approx(value, nan_ok=True)


def test_unknown_labels_are_left_out_of_their_class():
    truth = np.array([[1, NAN], [0, 1], [NAN, 0]])
    predicted = np.array([[1, 1], [0, 1], [1, 0]])
    found = scores("ce_f1@vlm3d-macro18", truth, predicted, ["a", "b"])
    assert found["F1"] == found["accuracy"] == 1.0
    assert "2 unknown labels" in notes("ce_f1@micro", truth, predicted, ["a", "b"])


def test_a_class_that_no_study_knows_is_left_out_and_named():
    truth, predicted = np.array([[1, NAN], [0, NAN]]), np.array([[1, 1], [0, 0]])
    found = scores("ce_f1@vlm3d-macro18", truth, predicted, ["a", "b"])
    assert found["F1"] == 1.0
    assert "F1: b" not in found
    assert "known in no study: b" in notes("ce_f1@micro", truth, predicted, ["a", "b"])


def test_no_finding_is_unknown_where_an_unknown_label_could_be_present():
    truth = np.array([[0, NAN], [1, NAN], [0, 0]])
    predicted = np.array([[0, 0], [1, 0], [0, 0]])
    found = scores("ce_f1@radeval-macro19", truth, predicted, ["a", "b"])
    assert found[f"recall: {NO_FINDING}"] == found["accuracy"] == 1.0


def test_no_finding_that_is_already_there_is_not_added():
    truth = np.array([[1, 0], [0, 1]])
    found = scores("ce_f1@radeval-macro19", truth, truth, ["a", NO_FINDING])
    assert found["macro F1"] == 1.0


def test_the_score_of_one_study_exists_where_something_is_said():
    truth, predicted = np.array([[1, 1, 0], [0, 0, 0]]), np.array([[1, 0, 0], [0, 0, 0]])
    (measure,) = label_measures(truth, predicted, "abc", ["ce_f1@micro"])
    assert measure.per_study[0, 0] == pytest.approx(2 / 3)
    assert np.isnan(measure.per_study[1, 0])
    assert measure.per_study[1, 3] == 1.0


@pytest.mark.parametrize("protocol", ["ce_f1@vlm3d-macro18", "ce_f1@radeval-macro19", "crg@vlm3d"])
def test_other_classes_than_the_protocols_are_said(protocol):
    truth, predicted = random_case(0)
    assert "not the 18" not in notes(protocol, truth, predicted, list(CT_RATE_LABELS))
    assert "Over 3 classes" in notes(protocol, truth[:, 2:5], predicted[:, 2:5], "abc")


TWO = np.array([[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        (TWO, TWO * 0.7, "predicted labels: class 'b' has the value 0.7"),
        (TWO - 1, TWO, "true labels: class 'a' has the value -1"),
        (TWO, np.array([[NAN, 1], [1, 0]]), "class 'a' has the value nan"),
        (TWO, TWO[:1], "labels of 2 studies and predictions of 1"),
        (TWO, np.array([["0", "yes"], ["1", "no"]]), "class 'b' holds text"),
        (TWO[:, :1], TWO, r"shape \(2, 1\); give \(studies, 2\)"),
        (TWO[:0], TWO[:0], "at least one study"),
        (TWO * NAN, TWO, "none is known"),
    ],
)
def test_what_is_no_label_is_refused(truth, predicted, message):
    with pytest.raises(InputError, match=message):
        label_measures(truth, predicted, ["a", "b"])


def test_two_classes_of_one_name_are_refused():
    with pytest.raises(InputError, match="class 'a' is named twice"):
        label_measures(TWO, TWO, ["a", "a"])


def test_an_unknown_protocol_is_refused_with_those_that_exist():
    with pytest.raises(InputError, match=r"no protocol 'ce_f1' here\. Choose from: ce_f1@vlm3d"):
        label_measures(TWO, TWO, ["a", "b"], ["ce_f1"])


def test_all_protocols_are_computed_unless_told_otherwise():
    assert [measure.protocol for measure in label_measures(TWO, TWO, ["a", "b"])] == ALL
