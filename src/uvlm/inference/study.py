"""One study on its way into a model: read, checked, prepared once per preprocessing.

Files prepared earlier (`.b2nd`) skip the preparation, so theirs must be the model's: another one
is refused, an unknown one is used with a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import BundleError, ImageError
from uvlm.imaging.audit import Audit, audit, check
from uvlm.imaging.geometry import orientation_code
from uvlm.imaging.preprocess import (
    Grid,
    Prepared,
    PreprocessSpec,
    grid_of,
    prepare,
    restore_labels,
)
from uvlm.imaging.readers import read_volume
from uvlm.imaging.slices import cut_slices
from uvlm.imaging.store import read_meta
from uvlm.imaging.volume import Volume
from uvlm.models.bundle import Bundle
from uvlm.models.bundle_files import Part
from uvlm.models.tower_config import SliceEncoderConfig
from uvlm.text.prompts import spacing_sentence

__all__ = ["Study", "prepared_inputs", "read_study", "region_flag"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """A readable CT and what was noticed while reading it."""

    path: Path
    """As given."""

    volume: Volume
    """HU on the input's own grid."""

    audit: Audit | None
    """None for a file whose preprocessing is unknown: it may hold anything but HU."""

    prepared: bool
    """A `.b2nd` file: already on a model's grid."""

    spec_hash: str | None
    """Preprocessing of a prepared file; None if it carries no metadata."""

    notes: tuple[str, ...]
    """One sentence each."""

    own_grid: Grid | None = None
    """Of the study that a prepared file was made from, as its metadata say."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Of the steps so far."""

    _cache: dict[str, tuple[NDArray[np.float32], Grid | None]] = field(default_factory=dict)

    def input_for(self, spec: PreprocessSpec, part: str) -> NDArray[np.float32]:
        """(z, y, x) z-scored array for a model trained with `spec`.

        Raises:
            BundleError: the file was prepared in another way than the model's.
            ImageError: a prepared file without metadata has another shape than the model's.
        """
        if spec.hash not in self._cache:
            self._cache[spec.hash] = self._prepare(spec, part)
        return self._cache[spec.hash][0]

    def inputs(self, parts: Mapping[str, Part]) -> Callable[[str], NDArray[np.float32]]:
        """Name of a part -> what its network takes; of the part "slices" the pictures of slices of
        the report's volume."""

        def of(name: str) -> NDArray[np.float32]:
            config = parts[name].config
            if isinstance(config, SliceEncoderConfig):
                return self.slices_for(parts["report"].our_spec, config)
            return self.input_for(parts[name].our_spec, name)

        return of

    def slices_for(self, spec: PreprocessSpec, config: SliceEncoderConfig) -> NDArray[np.float32]:
        """(S, P, P) shades of axial slices of the volume that `input_for(spec)` is made of, as
        `uvlm slices` cuts them."""
        hu = self.volume.array if self.prepared else prepare(self.volume, spec).array
        return _shades(hu, config)

    def spacing(self, spec: PreprocessSpec) -> str | None:
        """What a model may be told of the original study's voxel size, as in training; None for a
        prepared file that does not say."""
        grid = self.own_grid if self.prepared else self.grid_for(spec)
        return None if grid is None else spacing_sentence(*grid.source_lps)

    def on_own_grid(self, labels: NDArray[Any], spec: PreprocessSpec) -> NDArray[Any]:
        """A label map on the grid of `input_for(spec)`, brought to the input's own."""
        grid = self._cache[spec.hash][1]
        return labels if grid is None else restore_labels(labels, grid)

    def grid_for(self, spec: PreprocessSpec) -> Grid:
        """Where the voxels of `input_for(spec)` lie in the input."""
        if self.prepared:
            return _as_it_is(self.volume, spec)
        found = self._cache[spec.hash][1] if spec.hash in self._cache else None
        return found or grid_of(self.volume, spec)

    def _prepare(self, spec: PreprocessSpec, part: str) -> tuple[NDArray[np.float32], Grid | None]:
        if not self.prepared:
            prepared = prepare(self.volume, spec)
            return prepared.normalised(), prepared.grid
        if self.spec_hash is not None and self.spec_hash != spec.hash:
            raise BundleError.about(
                self.path,
                f"it was prepared with {self.spec_hash}, the bundle's {part} part was trained "
                f"with {spec.hash}",
                "Give the original study, or prepare it with the bundle's preprocessing.",
            )
        if self.volume.shape != tuple(spec.shape):
            raise ImageError.about(
                self.path,
                f"its shape is {self.volume.shape}, the bundle's {part} part needs "
                f"{tuple(spec.shape)} (z, y, x)",
                "Give the original study.",
            )
        return _normalised(self.volume, spec), None

    @property
    def geometry(self) -> dict[str, Any]:
        """Shape (z, y, x), spacing in mm and orientation of the input."""
        return {
            "shape": list(self.volume.shape),
            "spacing_mm": [round(value, 4) for value in self.volume.spacing],
            "orientation": orientation_code(self.volume.affine),
        }


def prepared_inputs(
    bundle: Bundle, array: NDArray[np.float32], hu: NDArray[Any] | None
) -> Callable[[str], NDArray[np.float32]]:
    """As `Study.inputs`, of one prepared array for all parts; `hu` is the same in HU.

    Raises:
        BundleError: when asked for slices without `hu`.
    """

    def of(name: str) -> NDArray[np.float32]:
        config = bundle.parts[name].config
        if not isinstance(config, SliceEncoderConfig):
            return array
        if hu is None:
            raise BundleError.about(
                bundle.path,
                "its encoder looks at slices, and the prepared volume came without its HU",
                "Give `hu` too, or the study's own file.",
            )
        return _shades(hu, config)

    return of


def _shades(hu: NDArray[Any], config: SliceEncoderConfig) -> NDArray[np.float32]:
    """(S, P, P) of a volume in LPS order."""
    cut = cut_slices(hu, slices=config.slices, size=config.size, window=config.window)
    return cut.astype(np.float32)


def _normalised(volume: Volume, spec: PreprocessSpec) -> NDArray[np.float32]:
    """A volume that has the model's shape already, with the model's value range."""
    mean, std = (
        float(volume.array.mean(dtype=np.float64)),
        float(volume.array.std(dtype=np.float64)),
    )
    if std == 0:
        raise ImageError.about(
            volume.provenance.path, "every voxel has one value", "Give the original study."
        )
    grid = _as_it_is(volume, spec)
    return Prepared(array=volume.array, grid=grid, mean=mean, std=std).normalised()


def _as_it_is(volume: Volume, spec: PreprocessSpec) -> Grid:
    """The grid of a prepared volume, which must not be cropped a second time."""
    z, y, x = volume.shape
    return grid_of(volume, spec, ((0, z), (0, y), (0, x)) if spec.foreground else None)


def read_study(path: Path, series: str | None = None) -> Study:
    """Read and check one CT.

    Raises:
        ImageError: it cannot be read or is not a usable CT; the message says why.
    """
    volume = read_volume(path, series=series)
    prepared = volume.provenance.format == "b2nd"
    meta = read_meta(path) if prepared else None
    found: Audit | None = None
    notes: tuple[str, ...] = volume.provenance.notes
    if not prepared:
        found = check(volume)
        notes = (*found.warnings, *notes)
    elif meta is not None:
        # Its values were checked when it was prepared; resized they only tell the region.
        found = audit(volume)
    return Study(
        path=path,
        volume=volume,
        audit=found,
        prepared=prepared,
        spec_hash=meta.spec_hash if meta else None,
        notes=notes,
        own_grid=meta.grid if meta else None,
    )


def region_flag(study: Study, region: str) -> tuple[str | None, str | None]:
    """(flag, note) on the study's body region against the model's `region`.

    A study of several regions ("chest+abdomen") fits a model of one of them.
    """
    seen = "unknown" if study.audit is None else study.audit.region
    if seen == "unknown":
        return None, f"The body region could not be recognised; the model was trained on {region}."
    if region not in seen.split("+"):
        flag = (
            f"Another body region: this looks like {seen}, the model was trained on {region}. "
            "Nothing below can be trusted."
        )
        return flag, None
    return None, None
