"""What one study gave: report, probabilities, mask, and what it takes to judge and repeat them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.imaging.measure import ClassMeasure
from uvlm.imaging.preprocess import Grid, restore_map
from uvlm.imaging.volume import Volume
from uvlm.inference.evidence.record import evidence_dict
from uvlm.inference.evidence.types import ReportEvidence
from uvlm.inference.writer import Outputs, write_outputs
from uvlm.registry import DISCLAIMER

__all__ = ["Findings"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """Result of one study. What the bundle has no part for is None, and a warning says so."""

    study: str
    """Name of the study, from its file or folder name."""

    generated: str | None = None
    """The words of the model, nothing added."""

    sentences: tuple[str, ...] = ()
    """`generated`, sentence by sentence."""

    probabilities: Mapping[str, float] | None = None
    """Probability of each label, 0 to 1."""

    calibrated: bool = False
    """Whether the bundle holds a calibration, which the probabilities then went through."""

    review: tuple[str, ...] = ()
    """Why, beside the flags, a person must look at the study before anything else; () for no reason
    found, or without a report."""

    evidence: ReportEvidence | None = None
    """What each sentence of the report rests on; None without a report, or if not asked for."""

    mask: NDArray[Any] | None = None
    """(z, y, x) integers on the input's own grid."""

    affine: NDArray[np.float64] | None = None
    """(4, 4), voxel (x, y, z) of `mask` to LPS millimetres."""

    volume: Volume | None = None
    """The CT itself, for pictures; in no JSON."""

    grids: Mapping[str, Grid] = field(default_factory=dict)
    """Of the volumes prepared from it, by the hash of their preprocessing; in no JSON."""

    classes: Mapping[str, int] = field(default_factory=dict)
    """Value in `mask` of each class name."""

    measures: tuple[ClassMeasure, ...] = ()
    """Volume (ml) and mean HU of each class of `mask`."""

    flags: tuple[str, ...] = ()
    """Why the result must not be trusted at all (another body region); stand above everything."""

    notes: tuple[str, ...] = ()
    """Warnings of the reader, the audit and the pipeline, one sentence each."""

    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds per step."""

    manifest: Mapping[str, Any] = field(default_factory=dict)
    """Input name, checksum and geometry; preprocessing, bundle, software and device."""

    model: Mapping[str, Any] = field(default_factory=dict)
    """Model card in short: body region, training data and metrics of each part used."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Flags first, then notes."""
        return self.flags + self.notes

    @property
    def disclaimer(self) -> str:
        """Stands in every output."""
        return DISCLAIMER

    @property
    def trained_on(self) -> str:
        """One sentence: what each part used was trained on."""
        parts = self.model.get("parts", {})
        texts = dict.fromkeys(str(part["trained_on"]) for part in parts.values())
        return "Model trained on: " + ("; ".join(texts) or "unknown data") + "."

    @property
    def report(self) -> str | None:
        """`generated` between the flags and the disclaimer; None without a report part."""
        if self.generated is None:
            return None
        flags = [f"WARNING: {flag}" for flag in self.flags]
        return "\n\n".join([*flags, self.generated, f"{self.disclaimer} {self.trained_on}"])

    def heat_map(self, sentence: int) -> NDArray[np.float32] | None:
        """Where the model looked for a sentence of `evidence`: (z, y, x) on the input's own grid,
        linearly interpolated, 0 where nothing was prepared; None for a sentence without."""
        from uvlm.inference.evidence.heat import on_prepared

        heat = None if self.evidence is None else self.evidence.sentences[sentence].heat
        if heat is None:
            return None
        grid = self.grids[heat.spec_hash]
        return restore_map(on_prepared(heat, grid.spec.shape), grid)

    def to_dict(self) -> dict[str, Any]:
        """Everything but voxels, ready for JSON."""
        return {
            "study": self.study,
            "warnings": list(self.warnings),
            "review": list(self.review),
            "disclaimer": self.disclaimer,
            "trained_on": self.trained_on,
            "report": self.report,
            "generated": self.generated,
            "sentences": list(self.sentences),
            "probabilities": None if self.probabilities is None else dict(self.probabilities),
            "calibrated": self.calibrated,
            "evidence": None if self.evidence is None else evidence_dict(self.evidence),
            "mask": self._mask_dict(),
            "timings": {name: round(value, 4) for name, value in self.timings.items()},
            "manifest": dict(self.manifest),
            "model": dict(self.model),
        }

    def write(self, out: Path | str, *, statistics: bool = False) -> Outputs:
        """Write `<study>.json` and `<study>.md` into `out`; with a mask `<study>_mask.nii.gz`, with
        a report and its volume `<study>.html`.

        Args:
            statistics: also `<study>_statistics.json`, ml and mean HU per class

        Raises:
            InputError: one of them exists; nothing is written then.
        """
        return write_outputs(self, Path(out), statistics=statistics)

    def statistics(self) -> dict[str, dict[str, float | None]]:
        """Class name -> volume in ml and mean HU (None where the class is absent)."""
        return {m.name: {"volume_ml": m.volume_ml, "mean_hu": m.mean_hu} for m in self.measures}

    def _mask_dict(self) -> dict[str, Any] | None:
        if self.mask is None:
            return None
        return {"classes": dict(self.classes), "statistics": self.statistics()}
