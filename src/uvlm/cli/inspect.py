"""`uvlm inspect PATH`: what a CT or mask file is, before anything is done with it.

The exit code says whether the file is readable; whether it is usable is the verdict's to say.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uvlm.imaging.audit import Audit
    from uvlm.imaging.volume import Volume

__all__ = ["describe", "main"]

SERIES_RULE = (
    "CT images only, no localizers; original before derived, axial before other planes, then most "
    "slices, thinnest slices, lowest series number; --series overrides"
)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="uvlm inspect",
        description="Show what a CT (or mask) is: geometry, HU verdict, field of view, region.",
        epilog="Exit code 0 when the file is readable, whatever the verdict; 2 when it is not.",
    )
    parser.add_argument("path", type=Path, help="NIfTI, NRRD, MetaImage, .b2nd, DICOM folder/zip")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="write three planes as PNG")
    parser.add_argument("--series", help="DICOM series to read: UID, number, or #1 for the first")
    args = parser.parse_args(argv)
    facts = describe(args.path, args.series, args.picture)
    print(json.dumps(facts, indent=2) if args.json else _text(facts))
    return 0


def describe(path: Path, series: str | None = None, picture: Path | None = None) -> dict[str, Any]:
    """Everything `uvlm inspect` tells, ready for JSON; writes `picture` when given.

    Raises:
        ImageError: the file can be read neither as a CT nor as a mask.
    """
    from uvlm.errors import ImageError
    from uvlm.imaging.readers import read_volume

    if picture is not None:
        from uvlm.imaging.picture import png_path

        png_path(picture)
    try:
        volume = read_volume(path, series=series)
    except ImageError as refused:
        try:
            mask = read_volume(path, series=series, labels=True)
        except ImageError:
            raise refused from None
        return _mask_facts(mask, picture)
    return _image_facts(volume, series, picture)


def _image_facts(volume: Volume, series: str | None, picture: Path | None) -> dict[str, Any]:
    from uvlm.config import to_dict
    from uvlm.imaging.audit import audit

    result = audit(volume)
    facts = {"kind": "image", **_geometry(volume), "audit": to_dict(result)}
    if volume.provenance.format == "dicom":
        facts["series_rule"] = SERIES_RULE
        facts["series"] = _series(volume.provenance.path, series)
    if picture is not None:
        from uvlm.imaging.picture import three_planes

        three_planes(volume, picture, window=_window(result))
    return facts


def _mask_facts(mask: Volume, picture: Path | None) -> dict[str, Any]:
    import numpy as np

    labels, counts = np.unique(mask.array, return_counts=True)
    if picture is not None:
        from uvlm.imaging.picture import three_planes

        three_planes(mask, picture, mask, window=(0.0, float(max(1, labels.max()))))
    rows = [
        {"label": int(label), "voxels": int(n), "volume_ml": round(int(n) * mask.voxel_ml, 4)}
        for label, n in zip(labels, counts, strict=True)
        if label != 0
    ]
    return {"kind": "mask", **_geometry(mask), "labels": rows}


def _geometry(volume: Volume) -> dict[str, Any]:
    import numpy as np

    from uvlm.imaging.geometry import orientation_code, shear_of

    directions = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    # Angle between each voxel axis and the body axis nearest to it.
    oblique = np.degrees(np.arccos(np.abs(directions).max(axis=0).clip(max=1.0))).max()
    origin = volume.provenance
    return {
        "path": origin.path,
        "format": origin.format,
        "dtype": str(volume.array.dtype),
        "shape": list(volume.shape),
        "spacing_mm": [round(step, 5) for step in volume.spacing],
        "orientation": orientation_code(volume.affine),
        "oblique_deg": round(float(oblique), 2),
        "tilt_deg": round(shear_of(volume.affine), 2),
        "affine": volume.affine.round(5).tolist(),
        "checksum": origin.checksum,
        "notes": list(origin.notes),
        "details": origin.details,
    }


def _series(path: str, wanted: str | None) -> list[dict[str, Any]]:
    from uvlm.config import to_dict
    from uvlm.imaging.dicom import list_series

    listed = list_series(path)
    rows = [to_dict(info) for info in listed]
    if wanted is not None:
        for row in rows:
            names = (row["uid"], f"#{row['index']}", str(row["number"]))
            row["chosen"] = wanted.strip() in names
            row["reason"] = "asked for" if row["chosen"] else "another series was asked for"
    return rows


def _window(result: Audit) -> tuple[float, float]:
    """What to show from black to white, in the file's own values."""
    from uvlm.imaging.picture import LUNG_WINDOW, SOFT_WINDOW

    if result.offset is None:
        return result.percentiles["0.5"], result.percentiles["99.5"]
    low, high = LUNG_WINDOW if result.region == "chest" else SOFT_WINDOW
    return low + result.offset, high + result.offset


def _text(facts: dict[str, Any]) -> str:
    shape = " x ".join(map(str, facts["shape"]))
    spacing = " x ".join(f"{step:.4g}" for step in facts["spacing_mm"])
    turned = "straight"
    if facts["oblique_deg"] > 0.1:
        turned = f"oblique by {facts['oblique_deg']:g} deg"
    tilt = f", tilted by {facts['tilt_deg']:g} deg" if facts["tilt_deg"] > 0.1 else ""
    rows = [
        ("file", facts["path"]),
        ("kind", f"{facts['kind']}, {facts['format']}, {facts['dtype']} in memory"),
        ("shape", f"{shape} voxels (z, y, x of the file)"),
        ("spacing", f"{spacing} mm (z, y, x)"),
        ("axes", f"{facts['orientation']} (where x, y, z run to); {turned}{tilt}"),
        *(("affine" if i == 0 else "", _row(row)) for i, row in enumerate(facts["affine"][:3])),
    ]
    rows += _audit_rows(facts["audit"]) if facts["kind"] == "image" else _label_rows(facts)
    rows += [("note", note) for note in facts["notes"]]
    rows += [("detail", f"{name} {value}") for name, value in facts["details"].items()]
    rows += _series_rows(facts)
    return "\n".join(f"{name:<10}{text}" for name, text in rows)


def _row(row: list[float]) -> str:
    return "".join(f"{value:>12.4f}" for value in row)


def _audit_rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    low, high = found["value_range"]
    shares = "  ".join(f"{p}%: {value:g}" for p, value in found["percentiles"].items())
    view = " x ".join(f"{mm:.0f}" for mm in found["field_of_view_mm"])
    padding = "none"
    if found["padding"] is not None:
        padding = f"{found['padding']:g} ({found['padding_share']:.1%} of the voxels)"
    ends = zip(("below", "above"), found["clipped"], strict=True)
    clipped = [f"{side} {value:g}" for side, value in ends if value is not None]
    parts = ", ".join(f"{part} {mm:.0f} mm" for part, mm in found["coverage_mm"].items())
    return [
        ("values", f"{low:g} to {high:g}"),
        ("", shares),
        ("padding", padding),
        ("clipped", " and ".join(clipped) or "no"),
        ("verdict", f"{found['verdict']} ({'usable' if found['usable'] else 'not usable'})"),
        ("why", found["reason"]),
        *(("landmark", _landmark(mark)) for mark in found["landmarks"]),
        ("view", f"{view} mm (z, y, x)"),
        ("region", f"{found['region']} ({parts})" if parts else found["region"]),
        *(("warning", text) for text in found["warnings"]),
    ]


def _landmark(mark: dict[str, Any]) -> str:
    return (
        f"{mark['name']}: peak at {mark['found']:g}, usually {mark['expected']:g} HU "
        f"({mark['share']:.1%} of the voxels)"
    )


def _label_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [
        (f"label {row['label']}", f"{row['voxels']:>10} voxels {row['volume_ml']:>12.3f} ml")
        for row in facts["labels"]
    ]
    return [("", "a mask, not a CT"), *(rows or [("labels", "none: every voxel is background")])]


def _series_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for info in facts.get("series", []):
        size = " x ".join(map(str, info["shape"]))
        mark = "read" if info["chosen"] else "not read"
        number = "no number" if info["number"] is None else f"number {info['number']}"
        what = f"#{info['index']} {number}, {info['modality']}, {size}, {info['description']}"
        rows.append(("series", f"{what.rstrip(', ')}: {mark}, {info['reason']}"))
    return [*rows, ("rule", facts["series_rule"])] if rows else []
