"""What one study gave: report, probabilities, mask, and what it takes to judge and repeat them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.imaging.measure import ClassMeasure
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

    mask: NDArray[Any] | None = None
    """(z, y, x) integers on the input's own grid."""

    affine: NDArray[np.float64] | None = None
    """(4, 4), voxel (x, y, z) of `mask` to LPS millimetres."""

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

    def to_dict(self) -> dict[str, Any]:
        """Everything but the mask's voxels, ready for JSON."""
        return {
            "study": self.study,
            "warnings": list(self.warnings),
            "disclaimer": self.disclaimer,
            "trained_on": self.trained_on,
            "report": self.report,
            "generated": self.generated,
            "sentences": list(self.sentences),
            "probabilities": None if self.probabilities is None else dict(self.probabilities),
            "mask": self._mask_dict(),
            "timings": {name: round(value, 4) for name, value in self.timings.items()},
            "manifest": dict(self.manifest),
            "model": dict(self.model),
        }

    def write(self, out: Path | str, *, statistics: bool = False) -> Outputs:
        """Write `<study>.json`, `<study>.md` and, with a mask, `<study>_mask.nii.gz` into `out`.

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
