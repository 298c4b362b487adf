"""DICOM CT: a folder, a `.zip`, or one enhanced (multi-frame) file, as one volume in HU.

The parts: `dicom_files` finds images and reads headers, `dicom_series` chooses the series by a
stated rule, `dicom_geometry` orders the slices on one grid, and here the pixels are decoded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.utils import pixel_array
from tqdm import tqdm

from uvlm.errors import ImageError
from uvlm.imaging.dicom_files import Header, Scan, quiet_pydicom, read_dataset, scan, sources
from uvlm.imaging.dicom_geometry import Frame, Stack, frames_of, stack
from uvlm.imaging.dicom_series import (
    Series,
    SeriesInfo,
    choose,
    functional_group,
    group,
    infos,
    refuse_two_patients,
)
from uvlm.imaging.values import image_values
from uvlm.imaging.volume import Provenance, Volume

__all__ = ["SeriesInfo", "list_series", "read_dicom"]


def list_series(path: Path | str) -> list[SeriesInfo]:
    """Every image series of a folder, archive or file, with which would be read and why.

    Raises:
        ImageError: no DICOM image at all.
    """
    path = Path(path)
    with quiet_pydicom(), sources(path) as files:
        found = group(scan(path, files).images)
        try:
            chosen = choose(path, found, None)
        except ImageError:
            chosen = None
        return infos(found, chosen)


def read_dicom(path: Path | str, series: str | None = None) -> Volume:
    """Read one CT series.

    Args:
        path: folder (searched to any depth), zip archive or single file.
        series: SeriesInstanceUID, series number, or `#1` for the first of `list_series`; without
            it the rule of `dicom_series` chooses. The provenance notes say which and why.

    Returns:
        Volume of int16 HU where that loses nothing, otherwise float32; slices run along the normal
        of the image plane. A gantry tilt stays in the affine as a shear.

    Raises:
        ImageError: no CT series; two patients; missing slices; differing slices at one position;
            no geometry; pixels that cannot be decoded.
    """
    path = Path(path)
    with quiet_pydicom(), sources(path) as files:
        found = scan(path, files)
        all_series = group(found.images)
        if series is None:
            refuse_two_patients(path, found.images)
        chosen = choose(path, all_series, series)
        refuse_two_patients(path, chosen.headers)
        grid = stack(path, frames_of(path, chosen))
        pixels = _Pixels(path)
        array = pixels.read(grid)
    notes = (
        *_choice_notes(chosen, all_series, found, by_name=series is not None),
        *grid.notes,
        *pixels.notes(),
    )
    return Volume(
        array=array,
        affine=grid.affine,
        provenance=Provenance(
            path=str(path),
            format="dicom",
            checksum=pixels.digest.hexdigest(),
            notes=notes,
            details=_details(chosen, grid),
        ),
    )


@dataclass
class _Pixels:
    """Decodes slices in order, and remembers what there was to say."""

    path: Path
    digest: Any = field(default_factory=hashlib.sha256)
    repeated: int = 0
    _open: tuple[Header, Any] | None = None

    def read(self, grid: Stack) -> NDArray[Any]:
        """(z, y, x) HU on the grid of the stack."""
        first = grid.places[0][0]
        result: NDArray[Any] = np.empty((len(grid.places), first.rows, first.columns), np.int16)
        places = tqdm(grid.places, desc="slices", delay=2, disable=None, leave=False)
        for z, place in enumerate(places):
            hu = self._place(place)
            if hu.dtype == np.float32 and result.dtype == np.int16:
                # int16 to float32 is exact, so the slices read so far stay right.
                result = result.astype(np.float32)
            result[z] = hu
        return _even(result, grid) if grid.uneven else result

    def _place(self, place: Sequence[Frame]) -> NDArray[Any]:
        hu = self._slice(place[0])
        for other in place[1:]:
            if not np.array_equal(self._slice(other), hu):
                raise ImageError.about(
                    self.path,
                    f"different images at one position ({place[0].header.source.name} and "
                    f"{other.header.source.name})",
                    "The series holds several phases or acquisitions; give a folder with the "
                    "slices of one (split by AcquisitionNumber or time).",
                )
            self.repeated += 1
        return hu

    def _slice(self, frame: Frame) -> NDArray[Any]:
        name = frame.header.source.name
        try:
            stored = pixel_array(self._dataset(frame.header), index=frame.index)
        # Decoders raise whatever their libraries raise; none of it may pass for a volume.
        except Exception as error:
            syntax = frame.header.data.file_meta.get("TransferSyntaxUID")
            raise ImageError.about(
                self.path,
                f"pixels of {name} cannot be decoded "
                f"({getattr(syntax, 'name', 'unknown transfer syntax')}; {type(error).__name__})",
                "The file may be cut off; copy it again, or export it uncompressed.",
            ) from error
        if stored.shape != (frame.rows, frame.columns):
            raise ImageError.about(
                self.path,
                f"pixels of shape {stored.shape} in {name}",
                "Export the series again as grey images.",
            )
        hu = image_values(stored[None], self.path, frame.slope, frame.intercept)
        return np.asarray(hu[0])

    def _dataset(self, header: Header) -> Any:
        """The whole file, kept while its frames are read and counted in the checksum once."""
        if self._open is None or self._open[0] is not header:
            data = header.source.read()
            self.digest.update(data)
            self._open = (header, read_dataset(data))
        return self._open[1]

    def notes(self) -> list[str]:
        if not self.repeated:
            return []
        return [f"{self.repeated} repeated slice(s) with identical pixels were left out."]


def _even(array: NDArray[Any], grid: Stack) -> NDArray[Any]:
    """Linear interpolation along z from the places onto the even grid; int16 stays int16."""
    result = np.empty((grid.slices, *array.shape[1:]), array.dtype)
    targets = np.linspace(grid.depths[0], grid.depths[-1], grid.slices)
    upper = np.clip(np.searchsorted(grid.depths, targets), 1, len(grid.depths) - 1)
    for z, (target, above) in enumerate(zip(targets, upper, strict=True)):
        low, high = grid.depths[above - 1], grid.depths[above]
        weight = np.float32((target - low) / (high - low))
        slab = array[above - 1] * (1 - weight) + array[above] * weight
        result[z] = np.rint(slab) if array.dtype == np.int16 else slab
    return result


def _choice_notes(
    chosen: Series, all_series: Sequence[Series], found: Scan, *, by_name: bool
) -> list[str]:
    notes = []
    if len(all_series) > 1:
        others = "; ".join(
            f"{'no number' if i.number is None else i.number}: {i.reason}"
            for i in infos(all_series, chosen)
            if not i.chosen
        )
        how = "as asked" if by_name else f"by the rule; others not: {others}"
        notes.append(f"Series {chosen.title} of {len(all_series)} was read ({how}).")
    if any(_unscaled(h.data) for h in chosen.headers):
        notes.append("No rescale slope and intercept: the stored values were taken as HU.")
    counts = (
        (chosen.localizers, "localizer image(s) within the series were left out"),
        (found.not_dicom, "file(s) that are not DICOM were ignored"),
        (found.not_image, "DICOM object(s) without an image were ignored"),
    )
    return notes + [f"{count} {text}." for count, text in counts if count]


def _unscaled(data: Any) -> bool:
    group_name = "PixelValueTransformationSequence"
    return functional_group(data, 0, group_name, "RescaleIntercept") in (None, "")


def _details(chosen: Series, grid: Stack) -> dict[str, Any]:
    data = chosen.first
    first = grid.places[0][0]
    scales = {(f.slope, f.intercept) for place in grid.places for f in place}
    details: dict[str, Any] = {
        "series_number": chosen.number,
        "modality": str(data.Modality),
        "image_type": "\\".join(chosen.image_type),
        "slice_thickness_mm": chosen.thickness,
        "kernel": str(data.get("ConvolutionKernel") or ""),
        "transfer_syntax": str(data.file_meta.get("TransferSyntaxUID", "")),
        "slope": first.slope,
        "intercept": first.intercept,
        "scale_varies_by_slice": len(scales) > 1,
        "bits_stored": int(data.get("BitsStored") or 16),
    }
    padding = data.get("PixelPaddingValue")
    if padding is not None:
        details["padding_stored"] = int(padding)
        details["padding_hu"] = int(padding) * first.slope + first.intercept
    return details
