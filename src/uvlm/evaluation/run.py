"""A loaded bundle over the held-out studies of a catalog: predictions first, then every score."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from uvlm.errors import BundleError, CatalogError, MissingExtraError
from uvlm.evaluation.held_out import Studies, held_out
from uvlm.evaluation.labels.classification import ClassificationScores, classification_scores
from uvlm.evaluation.masks.overlap import dice
from uvlm.evaluation.masks.segmentation import SegmentationScores, segmentation_scores
from uvlm.evaluation.reports import ReportScores, report_scores
from uvlm.evaluation.scorecard import Scorecard
from uvlm.imaging.preprocess import Grid, PreprocessSpec
from uvlm.imaging.store import StoredArray, read_scaling
from uvlm.preprocessing.catalog import Catalog, Row

__all__ = ["Model", "Prediction", "evaluate", "require_metrics"]


class Output(Protocol):
    """What a model says about one study; None for a part it lacks."""

    text: str | None
    probabilities: dict[str, float] | None
    labels: NDArray[np.int16] | None


class Model(Protocol):
    """What is scored: a loaded bundle."""

    bundle: Any

    @property
    def tasks(self) -> tuple[str, ...]: ...

    @property
    def classes(self) -> dict[str, int]: ...

    def predict_prepared(
        self,
        array: NDArray[np.float32],
        *,
        grid: Grid | None = None,
        hu: NDArray[Any] | None = None,
    ) -> Output: ...


@dataclass(kw_only=True)
class Prediction:
    """One study: what is kept of its output, and what needs its voxels and is computed at once."""

    row: Row
    text: str | None
    probabilities: Mapping[str, float] | None
    dice: Mapping[str, float] = field(default_factory=dict)
    volumes_ml: Mapping[str, float] = field(default_factory=dict)


def require_metrics() -> None:
    """Raise MissingExtraError before the work, not after it, if a metric could not be computed."""
    if importlib.util.find_spec("pycocoevalcap") is None:
        raise MissingExtraError("pycocoevalcap", "metrics")


def evaluate(
    model: Model, catalog: Catalog, *, split: str = "valid", limit: int | None = None
) -> tuple[Scorecard, list[Prediction]]:
    """Run `model` on the held-out studies and score each part it has.

    Raises:
        BundleError: the bundle was trained with another preprocessing than the catalog's.
        CatalogError: no held-out study, a patient on both sides, or unknown preprocessing.
        MissingExtraError: a metric's library is not installed.
    """
    require_metrics()
    studies = held_out(catalog, split, limit)
    _check_preprocessing(model, catalog)
    predictions = [
        _predict(model, row, catalog) for row in tqdm(studies.scored, "evaluating", unit="study")
    ]
    segmentation = _segmentation(predictions, catalog) if "segmentation" in model.tasks else None
    labels = _labels(predictions, catalog) if "classification" in model.tasks else None
    reports = _reports(predictions, studies) if "report" in model.tasks else None
    card = Scorecard(
        about=_about(model, catalog, studies, split),
        segmentation=segmentation,
        classification=labels,
        reports=reports,
    )
    return card, predictions


def _check_preprocessing(model: Model, catalog: Catalog) -> None:
    if catalog.spec is None:
        raise CatalogError.about(
            catalog.path,
            "its preprocessing is unknown, there is no dataset.json beside it",
            "Prepare the dataset with `uvlm prepare`.",
        )
    if not model.tasks:
        found = "its part was trained on data prepared by nnU-Net, which the catalog's is not"
        raise BundleError.about(model.bundle.path, found, "Apply it with nnUNetv2_predict.")
    for task in model.tasks:
        trained = model.bundle.parts[task].our_spec.hash
        if trained != catalog.spec.hash:
            raise BundleError.about(
                model.bundle.path,
                f"its {task} part was trained with preprocessing {trained}, the catalog was "
                f"prepared with {catalog.spec.hash}",
                "Prepare the dataset with the preprocessing in the bundle's preprocess.json.",
            )


def _predict(model: Model, row: Row, catalog: Catalog) -> Prediction:
    assert catalog.spec is not None
    array, grid, hu = _read_image(row, catalog.spec)
    output = model.predict_prepared(array, grid=grid, hu=hu)
    prediction = Prediction(row=row, text=output.text, probabilities=output.probabilities)
    if output.labels is not None and row.mask is not None and catalog.segmentation is not None:
        shared = {n: v for n, v in catalog.segmentation.items() if n in model.classes}
        stored = StoredArray(row.mask)
        truth = stored.read()
        voxels = np.bincount(truth.ravel(), minlength=max(shared.values(), default=0) + 1)
        if stored.meta is not None:
            ml = _voxel_ml(stored.meta.grid.affine)
            prediction.volumes_ml = {name: float(voxels[v] * ml) for name, v in shared.items()}
        # The bundle may number its classes otherwise than the catalog; names decide.
        own = np.zeros(len(voxels), dtype=np.int64)
        for name, value in shared.items():
            own[value] = model.classes[name]
        own_classes = {name: model.classes[name] for name in shared}
        prediction.dice = dice(output.labels, own[truth], own_classes)
    return prediction


def _read_image(
    row: Row, spec: PreprocessSpec
) -> tuple[NDArray[np.float32], Grid | None, NDArray[Any]]:
    """(z, y, x), normalised by the statistics of the whole volume; where it came from; the same as
    it is stored."""
    stored = StoredArray(row.image)
    if stored.meta is not None and stored.meta.spec_hash != spec.hash:
        raise CatalogError.about(
            row.image,
            f"it was prepared with {stored.meta.spec_hash}, its catalog says {spec.hash}",
            "Prepare the dataset again.",
        )
    hu = stored.read()
    offset, scale = read_scaling(stored, spec)
    grid = None if stored.meta is None else stored.meta.grid
    return (hu.astype(np.float32) - np.float32(offset)) / np.float32(scale), grid, hu


def _voxel_ml(affine: Sequence[Sequence[float]] | NDArray[Any]) -> float:
    return float(abs(np.linalg.det(np.asarray(affine, dtype=float)[:3, :3]))) / 1000.0


def _segmentation(predictions: Sequence[Prediction], catalog: Catalog) -> SegmentationScores | None:
    scored = [prediction for prediction in predictions if prediction.dice]
    if not scored:
        return None
    return segmentation_scores(
        [prediction.dice for prediction in scored],
        [prediction.volumes_ml for prediction in scored],
        catalog.labels,
    )


def _labels(predictions: Sequence[Prediction], catalog: Catalog) -> ClassificationScores | None:
    known = [p.probabilities for p in predictions if p.probabilities is not None]
    names = [name for name in catalog.labels if all(name in p for p in known)]
    if not names:
        return None
    columns = [catalog.labels.index(name) for name in names]
    truth = [[p.row.labels[column] for column in columns] for p in predictions]
    values = [[p[name] for name in names] for p in known]
    return classification_scores(np.array(truth, dtype=float), np.array(values), names)


def _reports(predictions: Sequence[Prediction], studies: Studies) -> ReportScores | None:
    pairs = [(p.row, p.text or "") for p in predictions if p.row.report]
    if not pairs:
        return None
    return report_scores(
        [row.report or "" for row, _ in pairs],
        [text for _, text in pairs],
        [row.report for row in studies.training if row.report],
        [row.patient_id for row, _ in pairs],
    )


def _about(model: Model, catalog: Catalog, studies: Studies, split: str) -> dict[str, Any]:
    about: dict[str, Any] = {
        "bundle": model.bundle.fingerprint,
        "dataset": catalog.name,
        "split": split,
        "studies": len(studies.scored),
        "patients": len({row.patient_id for row in studies.scored}),
        "training_studies": len(studies.training),
        "preprocessing": catalog.spec.hash if catalog.spec else None,
    }
    if "segmentation" in model.tasks and catalog.segmentation is not None:
        missing = sorted(set(catalog.segmentation) ^ set(model.classes))
        if missing:
            about["classes_not_compared"] = ", ".join(missing)
    return about
