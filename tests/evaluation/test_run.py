"""A bundle is scored on held-out studies only, on arrays prepared as it was trained."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from uvlm.errors import BundleError, CatalogError, MissingExtraError
from uvlm.evaluation import run
from uvlm.evaluation.held_out import held_out
from uvlm.evaluation.run import evaluate
from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.preprocessing.catalog import Catalog, Row

SPEC = PreprocessSpec(shape=(4, 5, 6))
AFFINE = np.diag([10.0, 10.0, 10.0, 1.0])
TEXTS = ("the lungs are clear", "a 4 mm nodule on the left", "a large effusion on the right")


@dataclass
class FakeStored:
    """Stands for a stored array: its voxels and metadata."""

    array: np.ndarray
    meta: SimpleNamespace | None

    def read(self):
        return self.array


class FakeModel:
    """Says the truth about every study, whose number is the first voxel of its image."""

    tasks = ("classification", "report", "segmentation")

    def __init__(self, classes, spec=SPEC):
        self.classes = classes
        parts = {task: SimpleNamespace(spec=spec, our_spec=spec) for task in self.tasks}
        self.bundle = SimpleNamespace(path="bundle", parts=parts, fingerprint="f00d")
        self.seen = []

    def predict_prepared(self, array, *, grid=None, hu=None):
        number = len(self.seen)
        self.seen.append(array)
        labels = np.zeros(array.shape, np.int16)
        labels[:2] = self.classes["heart"]
        probabilities = {"Lung nodule": number / 10, "Effusion": 0.3}
        return SimpleNamespace(text=TEXTS[number % 3], probabilities=probabilities, labels=labels)


def row(number, split, patient=None, **changes):
    fields = {
        "series_id": f"s{number}",
        "case_id": f"c{number}",
        "patient_id": patient or f"p{number}",
        "split": split,
        "image": f"image_{number}",
        "mask": f"mask_{number}",
        "labels": (float(number % 2), None),
        "report": TEXTS[number % 3],
    }
    return Row(**fields | changes)


ROWS = tuple(row(i, "valid") for i in range(3)) + tuple(row(i, "train") for i in range(3, 9))


def catalog(tmp_path, rows=ROWS, **changes):
    fields = {
        "path": tmp_path / "catalog.csv",
        "name": "demo",
        "region": "chest",
        "labels": ("Lung nodule", "Effusion"),
        "segmentation": {"lung_nodule": 1, "heart": 2},
        "spec": SPEC,
        "rows": rows,
    }
    return Catalog(**fields | changes)


@pytest.fixture(autouse=True)
def store(monkeypatch):
    """Images of ones and zeros; masks whose first two slices are heart (2)."""
    image = np.zeros(SPEC.shape, np.int16)
    image[0] = 100
    mask = np.zeros(SPEC.shape, np.uint8)
    mask[:2] = 2
    mean, std = float(image.mean()), float(image.std())
    limits = {"low": 0.0, "high": 100.0}
    meta = SimpleNamespace(spec_hash=SPEC.hash, mean=mean, std=std, grid=GRID, **limits)

    def opened(path):
        return FakeStored(mask if str(path).startswith("mask") else image, meta)

    monkeypatch.setattr(run, "StoredArray", opened)
    return meta


GRID = SimpleNamespace(affine=AFFINE)


def test_only_held_out_studies_are_run_and_scored(tmp_path):
    model = FakeModel({"lung_nodule": 1, "heart": 2})
    card, predictions = evaluate(model, catalog(tmp_path))
    assert [p.row.series_id for p in predictions] == ["s0", "s1", "s2"]
    assert card.about["studies"] == 3
    assert card.about["training_studies"] == 6


def test_the_model_sees_whole_volume_z_scores(tmp_path):
    model = FakeModel({"heart": 2})
    evaluate(model, catalog(tmp_path), limit=1)
    (seen,) = model.seen
    assert seen.shape == SPEC.shape
    assert seen.mean() == pytest.approx(0.0, abs=1e-5)
    assert seen.std() == pytest.approx(1.0, abs=1e-5)


def test_every_part_is_scored(tmp_path):
    card, _ = evaluate(FakeModel({"lung_nodule": 1, "heart": 2}), catalog(tmp_path))
    assert card.segmentation.organs == 1.0
    assert card.reports.model.mean == pytest.approx(1.0)
    assert [label.name for label in card.classification.labels] == ["Lung nodule"]
    assert card.classification.skipped == ("Effusion",)


def test_classes_are_matched_by_name_not_by_number(tmp_path):
    card, _ = evaluate(FakeModel({"heart": 1, "spleen": 2}), catalog(tmp_path))
    assert {c.name: c.dice for c in card.segmentation.classes} == {"heart": 1.0}
    assert card.about["classes_not_compared"] == "lung_nodule, spleen"


def test_true_volumes_are_in_millilitres(tmp_path):
    card, _ = evaluate(FakeModel({"heart": 2}), catalog(tmp_path))
    (heart,) = card.segmentation.classes
    assert heart.volume_ml == pytest.approx(2 * 5 * 6 * 1.0)


def test_a_study_without_mask_or_report_is_left_out_of_that_score_only(tmp_path):
    rows = (replace(ROWS[0], mask=None), replace(ROWS[1], report=None), *ROWS[2:])
    card, predictions = evaluate(FakeModel({"heart": 2}), catalog(tmp_path, rows))
    assert len(predictions) == 3
    assert card.segmentation.classes[0].studies == 2
    assert card.reports.studies == 2


def test_a_part_nothing_can_be_compared_with_has_no_score(tmp_path):
    rows = tuple(replace(r, mask=None, report=None) for r in ROWS)
    card, _ = evaluate(FakeModel({"heart": 2}), catalog(tmp_path, rows, labels=()))
    assert (card.segmentation, card.classification, card.reports) == (None, None, None)


def test_another_preprocessing_is_refused_before_any_study_runs(tmp_path):
    model = FakeModel({"heart": 2}, spec=PreprocessSpec(shape=(8, 8, 8)))
    with pytest.raises(BundleError, match="was trained with preprocessing"):
        evaluate(model, catalog(tmp_path))
    assert model.seen == []


def test_a_model_that_only_nnunet_can_prepare_for_is_refused(tmp_path):
    model = FakeModel({"heart": 2})
    model.tasks = ()
    with pytest.raises(BundleError, match="Apply it with nnUNetv2_predict"):
        evaluate(model, catalog(tmp_path))


def test_a_catalog_without_known_preprocessing_is_refused(tmp_path):
    with pytest.raises(CatalogError, match=r"catalog\.csv: its preprocessing is unknown"):
        evaluate(FakeModel({"heart": 2}), catalog(tmp_path, spec=None))


def test_a_file_prepared_in_another_way_than_its_catalog_says_is_refused(tmp_path, store):
    store.spec_hash = "another"
    with pytest.raises(CatalogError, match="image_0: it was prepared with another"):
        evaluate(FakeModel({"heart": 2}), catalog(tmp_path))


def test_a_patient_on_both_sides_is_refused_without_naming_them(tmp_path):
    rows = (*ROWS, row(9, "train", patient="p0"))
    with pytest.raises(CatalogError, match="1 patients have studies in 'valid'") as caught:
        evaluate(FakeModel({"heart": 2}), catalog(tmp_path, rows))
    assert "p0" not in str(caught.value)


def test_a_catalog_without_the_split_is_refused_with_those_it_has(tmp_path):
    with pytest.raises(CatalogError, match="no row has split 'test'; found: train, valid"):
        held_out(catalog(tmp_path), "test")


def test_no_held_out_report_reaches_the_floors(tmp_path):
    rows = (*ROWS, row(10, "test", report="secret"), row(11, None))
    studies = held_out(catalog(tmp_path, rows), "valid")
    assert [r.series_id for r in studies.training] == ["s3", "s4", "s5", "s6", "s7", "s8", "s11"]


def test_a_missing_metric_is_said_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: None)
    model = FakeModel({"heart": 2})
    with pytest.raises(MissingExtraError, match="pycocoevalcap is not installed"):
        evaluate(model, catalog(tmp_path))
    assert model.seen == []
