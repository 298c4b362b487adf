"""Which series of a DICOM study is read, and why not the others.

The rule. A series is left out when it is no CT image (another modality, a secondary capture or
dose report), a localizer, a single slice, in colour or inverted, or scaled to something other than
Hounsfield units. Of the rest are preferred, in this order:

1. original over derived images, and both over projections and reformats (MIP, MPR, average);
2. axial over other orientations;
3. more slices;
4. thinner slices;
5. the lower series number.

Naming a series (by SeriesInstanceUID, number, or `#1` for the first of the list) overrides it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uvlm.errors import ImageError, InputError
from uvlm.imaging.dicom_files import CT_CLASSES, Header

__all__ = ["Series", "SeriesInfo", "choose", "group", "infos", "refuse_two_patients"]

LOCALIZERS = {"LOCALIZER", "SCOUT"}
REFORMATS = {
    "MPR", "MIP", "MINIP", "MAX_IP", "MIN_IP", "PROJECTION IMAGE", "AVERAGE", "AVERAGED", "MEAN",
    "REFORMATTED", "CSA RESAMPLED", "CSA MPR", "CSA MIP", "VRT", "VOLUME", "3D",
}  # fmt: skip
"""Values of ImageType that mean slices computed from other slices."""


@dataclass(frozen=True, kw_only=True)
class SeriesInfo:
    """What a series is, from its headers alone."""

    uid: str
    index: int
    """Place in the list, from 1, by series number."""
    number: int | None
    description: str
    """SeriesDescription. Shown on request only, never put into an error or a log."""
    modality: str
    image_type: str
    slices: int
    shape: tuple[int, int, int]
    """(slices, rows, columns)."""
    thickness: float | None
    """SliceThickness in mm."""
    chosen: bool
    reason: str
    """Why it was chosen, or why not."""


@dataclass(frozen=True)
class Series:
    """The images of one SeriesInstanceUID, localizers within it left out."""

    uid: str
    number: int | None
    headers: tuple[Header, ...]
    localizers: int = 0

    @property
    def first(self) -> Any:
        return self.headers[0].data

    @property
    def slices(self) -> int:
        return sum(int(h.data.get("NumberOfFrames") or 1) for h in self.headers)

    @property
    def image_type(self) -> tuple[str, ...]:
        return _image_type(self.first)

    @property
    def thickness(self) -> float | None:
        value = functional_group(self.first, 0, "PixelMeasuresSequence", "SliceThickness")
        return None if value is None else float(value)

    @property
    def title(self) -> str:
        """For messages: the number, never the description."""
        return "without a number" if self.number is None else f"number {self.number}"


def functional_group(data: Any, frame: int, sequence: str, name: str) -> Any:
    """An attribute as a classic image has it, or as an enhanced one has it per frame or shared."""
    value = data.get(name)
    if value is not None:
        return value
    frames = data.get("PerFrameFunctionalGroupsSequence") or []
    shared = data.get("SharedFunctionalGroupsSequence") or []
    for item in [*frames[frame : frame + 1], *shared[:1]]:
        if sequence in item and item[sequence].value:
            return item[sequence].value[0].get(name)
    return None


def group(headers: Sequence[Header]) -> list[Series]:
    """Series in the order of their number, then UID."""
    by_uid: dict[str, list[Header]] = {}
    for header in headers:
        by_uid.setdefault(str(header.data.SeriesInstanceUID), []).append(header)
    found = []
    for uid, members in by_uid.items():
        images = [h for h in members if not LOCALIZERS & set(_image_type(h.data))]
        number = members[0].data.get("SeriesNumber")
        found.append(
            Series(
                uid,
                None if number is None else int(number),
                tuple(images or members),
                len(members) - len(images) if images else 0,
            )
        )
    return sorted(found, key=lambda s: (s.number is None, s.number or 0, s.uid))


def refuse_two_patients(path: Path, headers: Sequence[Header]) -> None:
    """Raise ImageError where identifiers or names differ; the message quotes neither."""
    ids = {str(h.data.get("PatientID") or "").strip() for h in headers} - {""}
    names = {_plain_name(h.data.get("PatientName")) for h in headers} - {""}
    count = max(len(ids), len(names))
    if count > 1:
        raise ImageError.about(
            path,
            f"images of {count} patients",
            "Give a folder with one patient, or name the series to read.",
        )


def _plain_name(name: Any) -> str:
    """Case, spaces and separators aside, in which one patient's name may differ."""
    return "".join(c for c in str(name or "").upper() if c.isalnum())


def excluded(series: Series) -> str:
    """Why a series cannot be read as a CT volume; empty where it can."""
    data = series.first
    modality = str(data.get("Modality") or "unknown")
    unit = functional_group(data, 0, "PixelValueTransformationSequence", "RescaleType")
    checks = (
        (modality != "CT", f"modality {modality}, not CT"),
        (bool(LOCALIZERS & set(series.image_type)), "a localizer"),
        (
            str(data.get("SOPClassUID") or CT_CLASSES[0]) not in CT_CLASSES,
            "no CT image (secondary capture, dose report or other)",
        ),
        (int(data.get("SamplesPerPixel") or 1) != 1, "a colour image (RGB)"),
        (
            str(data.get("PhotometricInterpretation")) == "MONOCHROME1",
            "inverted grey values (MONOCHROME1)",
        ),
        (
            not str(unit or "HU").upper().startswith(("HU", "US")),
            "values scaled to something other than Hounsfield units",
        ),
        ("ModalityLUTSequence" in data, "values scaled by a lookup table"),
        (series.slices < 2, "a single slice (2D)"),
    )
    return next((reason for wrong, reason in checks if wrong), "")


def _rank(series: Series) -> tuple[Any, ...]:
    kinds = set(series.image_type)
    reformatted = bool(REFORMATS & kinds)
    orientation = functional_group(
        series.first, 0, "PlaneOrientationSequence", "ImageOrientationPatient"
    )
    thickness = series.thickness
    return (
        reformatted,
        "ORIGINAL" not in kinds,
        not _is_axial(orientation),
        -series.slices,
        np.inf if thickness is None else thickness,
        series.number is None,
        series.number or 0,
        series.uid,
    )


WHY = (
    "a projection or reformat", "derived, an original exists", "not axial", "fewer slices",
    "thicker slices", "a higher series number", "a higher series number", "a later UID",
)  # fmt: skip
"""Why a series ranks behind the chosen one, by the first entry of `_rank` that differs."""


def _is_axial(orientation: Any) -> bool:
    if orientation is None or len(orientation) != 6:
        return False
    row, column = np.array(orientation, float).reshape(2, 3)
    return bool(abs(np.cross(row, column)).argmax() == 2)


def _image_type(data: Any) -> tuple[str, ...]:
    value = data.get("ImageType") or ()
    return tuple(str(v).upper() for v in ([value] if isinstance(value, str) else value))


def infos(found: Sequence[Series], chosen: Series | None) -> list[SeriesInfo]:
    """One record per series; `chosen` is what `choose` returned, None where nothing can be read."""
    return [
        SeriesInfo(
            uid=s.uid,
            index=index,
            number=s.number,
            description=str(s.first.get("SeriesDescription") or ""),
            modality=str(s.first.get("Modality") or ""),
            image_type="\\".join(s.image_type),
            slices=s.slices,
            shape=(s.slices, int(s.first.Rows), int(s.first.Columns)),
            thickness=s.thickness,
            chosen=s is chosen,
            reason=_reason(s, chosen),
        )
        for index, s in enumerate(found, 1)
    ]


def _reason(series: Series, chosen: Series | None) -> str:
    if series is chosen or chosen is None:
        return excluded(series) or "chosen"
    pairs = zip(WHY, _rank(series), _rank(chosen), strict=True)
    return excluded(series) or next(why for why, a, b in pairs if a != b)


def choose(path: Path, found: Sequence[Series], series: str | None) -> Series:
    """The series named by `series`, or the best by the rule above.

    Raises:
        ImageError: no or several series match, or none can be read as a CT volume.
    """
    if series is not None:
        return _named(path, found, series.strip())
    usable = [s for s in found if not excluded(s)]
    if not usable:
        raise unusable(path, found)
    return min(usable, key=_rank)


def unusable(path: Path, found: Sequence[Series]) -> InputError:
    """The error for a study without a readable series, with the reason for each."""
    reasons = "; ".join(f"series {s.title}: {excluded(s)}" for s in found[:8])
    more = f"; and {len(found) - 8} more" if len(found) > 8 else ""
    return ImageError.about(
        path,
        f"no CT volume ({reasons}{more})",
        "Give the folder or .zip with all slices of a CT series.",
    )


def _named(path: Path, found: Sequence[Series], wanted: str) -> Series:
    matches = [
        s
        for index, s in enumerate(found, 1)
        if wanted in (s.uid, f"#{index}") or (s.number is not None and wanted == str(s.number))
    ]
    if len(matches) == 1:
        if excluded(matches[0]):
            raise unusable(path, matches)
        return matches[0]
    listing = ", ".join(
        f"#{index} ({s.title}, {s.slices} slices)" for index, s in enumerate(found[:20], 1)
    )
    raise ImageError.about(
        path,
        f"{len(matches) or 'no'} series match {wanted!r}",
        f"Name one of: {listing}.",
    )
