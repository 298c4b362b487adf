"""Clinical F1 from labels that CT-CLIP's RadBERT classifier gives to both reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from uvlm.evaluation.labels.agreement import label_matrix
from uvlm.evaluation.labels.clinical import label_measures
from uvlm.evaluation.measure import Measure
from uvlm.text.labelling.radbert import RadBert

__all__ = ["measure"]


def measure(
    name: str, references: Sequence[str], predictions: Sequence[str], folder: Path
) -> Measure:
    """`ce_f1@vlm3d-macro18` with this labeller; a report without text has no label."""
    labeller = RadBert(folder)
    truth, said = (
        label_matrix(labeller.label(texts), labeller.classes) for texts in (references, predictions)
    )
    (found,) = label_measures(truth, said, labeller.classes, ["ce_f1@vlm3d-macro18"])
    return replace(found, protocol=name)
