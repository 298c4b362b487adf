"""Everything a report rests on, put together from what a run of the parts left behind.

The volume is not read again: each sentence that says something is there takes one backward pass for
its heat map, the rest is arithmetic on the mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uvlm.inference.evidence.contradictions import contradictions_of
from uvlm.inference.evidence.heat import on_prepared, sentence_heat_maps, stages_needed
from uvlm.inference.evidence.lesions import FoundLesions, find_lesions
from uvlm.inference.evidence.midline import left_share, midline_of
from uvlm.inference.evidence.places import places_of
from uvlm.inference.evidence.sentences import labeller_for, read_report, spoken_of
from uvlm.inference.evidence.spans import token_spans
from uvlm.inference.evidence.structures import is_lesion
from uvlm.inference.evidence.types import (
    CLASS_METHOD,
    HeatMap,
    ReportEvidence,
    SentenceEvidence,
)
from uvlm.inference.evidence.witnesses import Witnesses
from uvlm.inference.predict import Prediction
from uvlm.inference.study import Study
from uvlm.models.bundle import Bundle
from uvlm.models.bundle_files import Part
from uvlm.models.uvlm import ReportModel

__all__ = ["FOUND", "assemble", "believable_lesions", "doubted_lesions", "recognised_labels"]

FOUND = 0.2
"""Validation Dice of a lesion class below which the mask contradicts nobody about it."""

WELL_FOUND = 0.8
"""Validation Dice of a lesion class from which on what it shows is held against a denial. Dice
is measured where a finding is: of the demo's classes at 0.7 nearly half of the large pieces lay in
studies without the finding."""

RECOGNISED = 0.8
"""Validation AUROC of a class below which the class head's heat tells no side of it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scene:
    """A study and what the parts made of it."""

    bundle: Bundle
    study: Study
    prediction: Prediction
    mask: NDArray[Any] | None
    """On the study's own grid."""

    classes: Mapping[str, int]
    found: FoundLesions | None
    """In the mask."""

    @property
    def part(self) -> Part:
        return self.bundle.parts["report"]


def assemble(
    bundle: Bundle, study: Study, prediction: Prediction, mask: NDArray[Any] | None = None
) -> ReportEvidence:
    """What the report of `prediction` rests on.

    Args:
        study: what was read; its input for the report part is prepared
        prediction: of that part and, where the bundle has them, of the others
        mask: (z, y, x) of the segmentation on the study's own grid
    """
    segmentation = bundle.parts.get("segmentation")
    classes = segmentation.labels if segmentation and mask is not None else {}
    found = None if mask is None else find_lesions(mask, study.volume, classes)
    scene = _Scene(
        bundle=bundle, study=study, prediction=prediction, mask=mask, classes=classes, found=found
    )
    labeller = labeller_for(scene.part.region)
    sentences = read_report(prediction.text or "", labeller, prediction.probabilities)
    sentences, left_shares = _with_heat(sentences, scene)
    lesions = found.lesions if found else ()
    sentences = tuple(replace(s, lesions=spoken_of(s, lesions)) for s in sentences)
    witnesses = _witnesses(scene, left_shares)
    contradictions = contradictions_of(sentences, witnesses)
    distance = prediction.distance
    return ReportEvidence(
        sentences=sentences,
        lesions=lesions,
        contradictions=contradictions,
        doubted=doubted_lesions(segmentation) if mask is not None else {},
        details={
            "labeller": labeller.name,
            "lesion_pieces_left_out": dict(found.left_out) if found else {},
            "distance": None if distance is None else asdict(distance),
        },
    )


def _witnesses(scene: _Scene, left_shares: list[float | None]) -> Witnesses:
    """What the report is held against."""
    parts, prediction, found = scene.bundle.parts, scene.prediction, scene.found
    classification, segmentation = parts.get("classification"), parts.get("segmentation")
    probabilities = prediction.probabilities or {}
    spacing = 0.0
    if found is not None and segmentation is not None:
        affine = np.array(scene.study.grid_for(segmentation.our_spec).affine)
        spacing = float(np.linalg.norm(affine[:3, :3], axis=0).max())
    return Witnesses(
        probabilities=probabilities,
        calibration=classification.calibration if classification else None,
        lesions=found.lesions if found else (),
        lesion_classes=believable_lesions(segmentation) if found else (),
        sure_classes=_sure_lesions(segmentation) if found else (),
        cut_short=found.cut_short if found else (),
        spacing_mm=spacing,
        left_shares=left_shares,
        recognised=recognised_labels(classification, probabilities),
    )


def _sure_lesions(segmentation: Part | None) -> tuple[str, ...]:
    """Lesion classes that the segmentation is known to have found well."""
    metrics = segmentation.metrics if segmentation else {}
    return tuple(
        name
        for name in believable_lesions(segmentation)
        if (metrics.get(f"dice/{name}") or 0) >= WELL_FOUND
    )


def recognised_labels(
    classification: Part | None, probabilities: Mapping[str, float]
) -> tuple[str, ...]:
    """Labels that a class head finds in a study, and told apart in validation: by their AUROC, or
    where none was recorded, by limits from which on it denies or is confident."""
    if classification is None:
        return ()
    calibration = classification.calibration
    found = []
    for label, probability in probabilities.items():
        point = calibration.point(label) if calibration else None
        told_apart = point is not None and (point.low is not None or point.high is not None)
        if f"auroc/{label}" in classification.metrics:
            told_apart = (classification.metrics[f"auroc/{label}"] or 0) >= RECOGNISED
        threshold = calibration.threshold(label) if calibration else 0.5
        if told_apart and probability >= threshold:
            found.append(label)
    return tuple(found)


def believable_lesions(segmentation: Part | None) -> tuple[str, ...]:
    """Lesion classes of a segmentation that it found in validation, or of which that is unknown."""
    if segmentation is None:
        return ()
    doubted = doubted_lesions(segmentation)
    return tuple(name for name in segmentation.labels if is_lesion(name) and name not in doubted)


def doubted_lesions(segmentation: Part | None) -> dict[str, str]:
    """Lesion classes of a segmentation that it hardly found in validation, and how well it did."""
    if segmentation is None:
        return {}
    known = {name: f"dice/{name}" for name in segmentation.labels if is_lesion(name)}
    metrics = segmentation.metrics
    scores = {name: metrics[key] for name, key in known.items() if key in metrics}
    return {
        name: "never seen in validation"
        if dice is None
        else f"hardly found in validation (Dice {dice:.2f})"
        for name, dice in scores.items()
        if not (dice or 0) >= FOUND
    }


def _with_heat(
    sentences: tuple[SentenceEvidence, ...], scene: _Scene
) -> tuple[tuple[SentenceEvidence, ...], list[float | None]]:
    """Sentences that say something is there with their heat maps and places; and the share of the
    heat on the patient's left, of each sentence whose map the class head gave."""
    shares: list[float | None] = [None] * len(sentences)
    chosen = [i for i, s in enumerate(sentences) if _says_something(s)]
    model = cast(ReportModel, scene.bundle.modules["report"])
    if not chosen or scene.prediction.written is None or not stages_needed(model):
        return sentences, shares
    maps = _maps(sentences, chosen, scene)
    spec = scene.part.our_spec
    affine = np.array(scene.study.grid_for(spec).affine)
    shown = _mask_on_prepared(scene, affine)
    midline = scene.found.midline if scene.found else _middle_of_body(scene)
    depth, height, width = spec.shape
    whole = slice(0, depth), slice(0, height), slice(0, width)
    result = list(sentences)
    for index, heat in zip(chosen, maps, strict=True):
        warmth = on_prepared(heat, spec.shape)
        placed = _placed(heat, warmth, affine, scene.study)
        places = () if shown is None else places_of(warmth, shown, scene.classes)
        result[index] = replace(sentences[index], heat=placed, places=places)
        # The decoder's own maps tell no side.
        if heat.method == CLASS_METHOD and midline is not None and warmth.any():
            shares[index] = left_share(warmth, whole, affine, midline)
    return tuple(result), shares


def _says_something(sentence: SentenceEvidence) -> bool:
    return any(finding.status == "present" for finding in sentence.findings)


def _maps(
    sentences: tuple[SentenceEvidence, ...], chosen: list[int], scene: _Scene
) -> list[HeatMap]:
    """Heat maps of the chosen sentences."""
    tokenizer, written = scene.bundle.tokenizer, scene.prediction.written
    assert tokenizer is not None
    assert written is not None
    spans = token_spans(tokenizer, written.ids, [s.text for s in sentences])
    stated = [[f.label for f in sentences[i].findings if f.status == "present"] for i in chosen]
    return sentence_heat_maps(scene.bundle, scene.prediction, [spans[i] for i in chosen], stated)


def _mask_on_prepared(scene: _Scene, affine: NDArray[np.float64]) -> NDArray[Any] | None:
    """The mask on the grid of the report part's volumes."""
    labels, mask, shape = scene.prediction.labels, scene.mask, scene.part.our_spec.shape
    if labels is None or mask is None:
        return None
    if scene.bundle.parts["segmentation"].our_spec.hash == scene.part.our_spec.hash:
        return labels
    to_own = np.linalg.inv(scene.study.volume.affine) @ affine
    # Indices of arrays run z y x, affines x y z.
    matrix, offset = to_own[:3, :3][::-1, ::-1], to_own[:3, 3][::-1]
    return cast(
        NDArray[Any],
        ndimage.affine_transform(mask, matrix, offset=offset, output_shape=shape, order=0),
    )


def _middle_of_body(scene: _Scene) -> float | None:
    """The patient's middle without a mask, LPS mm to the left."""
    volume = scene.study.volume
    return midline_of(volume.array, volume, {}, [])


def _placed(
    heat: HeatMap, warmth: NDArray[np.float32], affine: NDArray[np.float64], study: Study
) -> HeatMap:
    """`heat` with its place in the patient; `warmth` is the same on the prepared grid."""
    if not warmth.any():
        return heat
    at = np.array(np.unravel_index(int(warmth.argmax()), warmth.shape))
    mm = affine @ [*at[::-1], 1.0]
    own = np.rint(np.linalg.inv(study.volume.affine) @ mm)[:3][::-1].astype(int)
    z, y, x = np.clip(own, 0, np.array(study.volume.shape) - 1).tolist()
    return replace(heat, peak=(z, y, x), peak_mm=cast(Any, tuple(mm[:3].tolist())))
