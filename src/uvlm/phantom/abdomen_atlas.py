"""Write a set of abdominal studies in the layout of AbdomenAtlas 3.0."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from uvlm.phantom.abdomen import ABDOMEN_CLASSES, AbdomenStudy, draw_abdomen_study
from uvlm.phantom.abdomen_report import (
    Measured,
    narrative_report,
    organ_lesions,
    organ_ml,
    stage,
    structured_report,
)
from uvlm.phantom.classes import stream
from uvlm.phantom.plan import is_valid
from uvlm.phantom.storage import write_volume

__all__ = ["COLUMNS", "make_study", "write_tables"]

ATTENUATION = "attenuation (hyperattenuating, isoattenuating, hypoattenuating)"
KINDS = {
    "liver": ("lesion", "tumor", "cyst"),
    "pancreatic": ("lesion", "tumor", "PDAC", "cyst"),
    "kidney": ("lesion", "cyst", "tumor"),
}
PLACES = {"liver": "(1-8)", "pancreatic": "(head, body, tail)", "kidney": "(left, right)"}
VOLUMES = {
    "liver": ("liver volume (cm^3)",),
    "pancreatic": ("pancreas volume (cm^3)",),
    "kidney": ("left kidney volume (cm^3)", "right kidney volume (cm^3)", "kidney volume (cm^3)"),
}


def _lesion_columns(organ: str, kinds: Sequence[str]) -> list[str]:
    by_size = ("lesion", "cyst", "tumor", *(k for k in kinds if k == "PDAC"))
    return [
        *(f"total {organ} {kind} volume (cm^3)" for kind in kinds),
        *(f"number of {organ} {kind} instances" for kind in kinds),
        *(f"largest {organ} {kind} diameter (cm)" for kind in by_size),
        *(f"largest {organ} {kind} location {PLACES[organ]}" for kind in by_size),
        *(f"largest {organ} {kind} {ATTENUATION}" for kind in by_size),
    ]


COLUMNS: tuple[str, ...] = (
    "BDMAP ID",
    "spacing",
    "shape",
    "sex",
    "age",
    "scanner",
    "contrast",
    *VOLUMES["liver"],
    *_lesion_columns("liver", KINDS["liver"]),
    *VOLUMES["pancreatic"],
    *_lesion_columns("pancreatic", KINDS["pancreatic"]),
    "pancreatic tumor staging (T1-T4)",
    *VOLUMES["kidney"],
    *_lesion_columns("kidney", KINDS["kidney"]),
    "spleen volume (cm^3)",
    "total colon lesion volume (cm^3)",
    "number of colon lesion instances",
    "largest colon lesion diameter (cm)",
    f"largest colon lesion {ATTENUATION}",
    *(
        text.format(organ)
        for organ in ("esophagus", "uterus")
        for text in (
            "total {} lesion volume (cm^3)",
            "number of {} lesion instances",
            "largest {} lesion diameter (cm)",
        )
    ),
    "radiologist note",
    "structured report",
    "narrative report",
    "fusion structured report",
    "fusion narrative report",
)
"""Columns of AbdomenAtlas3.0MiniWithMeta.csv, in order."""

Row = dict[str, object]


def case_id(study: int) -> str:
    """`BDMAP_00000001` for the first study."""
    return f"BDMAP_{study + 1:08d}"


def make_study(
    root: Path,
    seed: int,
    study: int,
    shape: tuple[int, int, int],
    labels: frozenset[str],
    sizes: Mapping[str, tuple[float, float]],
) -> Row:
    """Draw one study, write its image and one mask file per structure, return its table row."""
    drawn = draw_abdomen_study(seed, study, shape, labels, sizes)
    rng = stream(seed, study, "abdomen storage")
    # Slices always run upwards, so that the report's image numbers count stored slices.
    orientation = str(rng.choice(["LPS", "RAS", "LAS"], p=[0.4, 0.4, 0.2]))
    name, grid, shift = case_id(study), drawn.grid, drawn.body.shift
    write_volume(root / "image_only" / name / "ct.nii.gz", drawn.hu, grid, shift, orientation)
    folder = root / "mask_only" / name / "segmentations"
    empty = folder / "prostate.nii.gz"
    write_volume(empty, np.zeros(shape, dtype=np.uint8), grid, shift, orientation)
    present = set(np.unique(drawn.mask).tolist())
    for structure, value in ABDOMEN_CLASSES.items():
        path = folder / f"{structure}.nii.gz"
        if value in present:
            write_volume(path, drawn.mask == value, grid, shift, orientation)
        elif path != empty:
            shutil.copyfile(empty, path)
    return _row(drawn, name, rng, frozenset(sizes))


def _row(study: AbdomenStudy, name: str, rng: np.random.Generator, drawable: frozenset[str]) -> Row:
    z, y, x = study.grid.spacing
    shape = study.grid.shape
    row: Row = {
        "BDMAP ID": name,
        "spacing": f"[{x}, {y}, {z}]",
        "shape": f"[{shape[2]}, {shape[1]}, {shape[0]}]",
        "sex": study.body.sex,
        "age": study.body.age,
        "scanner": "Phantom A" if rng.random() < 0.5 else "Phantom B",
        "contrast": study.body.phase,
        "structured report": structured_report(study, drawable),
        "narrative report": narrative_report(study, rng, drawable),
        "spleen volume (cm^3)": f"{organ_ml(study, 'spleen'):.1f}",
        "liver volume (cm^3)": f"{organ_ml(study, 'liver_segment_'):.1f}",
        "pancreas volume (cm^3)": f"{organ_ml(study, 'pancreas_'):.1f}",
        "left kidney volume (cm^3)": f"{organ_ml(study, 'kidney_left'):.1f}",
        "right kidney volume (cm^3)": f"{organ_ml(study, 'kidney_right'):.1f}",
        "kidney volume (cm^3)": f"{organ_ml(study, 'kidney_'):.1f}",
    }
    for column, organ in (("liver", "liver"), ("pancreatic", "pancreas"), ("kidney", "kidney")):
        if f"{organ.capitalize()} lesion" in drawable:
            row.update(_lesion_values(column, organ_lesions(study, organ)))
    return row


def _lesion_values(organ: str, found: Sequence[Measured]) -> Row:
    values: Row = {}
    for kind in KINDS[organ]:
        mine = [m for m in found if _is_a(m.lesion.kind, kind)]
        values[f"total {organ} {kind} volume (cm^3)"] = f"{sum(m.ml for m in mine):.1f}"
        values[f"number of {organ} {kind} instances"] = len(mine)
        if mine:
            largest = mine[0]
            size = largest.lesion.diameters_mm[0] / 10
            values[f"largest {organ} {kind} diameter (cm)"] = f"{size:.1f}"
            values[f"largest {organ} {kind} location {PLACES[organ]}"] = largest.place
            values[f"largest {organ} {kind} {ATTENUATION}"] = largest.attenuation
            if organ == "pancreatic" and kind == "tumor":
                values["pancreatic tumor staging (T1-T4)"] = stage(largest)
    return values


def _is_a(drawn: str, kind: str) -> bool:
    """A cyst is a lesion; PDAC and PNET are tumours and lesions."""
    return kind == "lesion" or drawn == kind or (kind == "tumor" and drawn in ("PDAC", "PNET"))


def write_tables(root: Path, rows: Sequence[Row]) -> None:
    """The metadata table, the lists of training and test cases, and what the studies are.

    IID: every study with the held-out ones as test. OOD: the cases of scanner B are the test.
    """
    _write(
        root / "AbdomenAtlas3.0MiniWithMeta.csv",
        COLUMNS,
        [[r.get(c, "") for c in COLUMNS] for r in rows],
    )
    held_out = [is_valid(i) for i in range(len(rows))]
    other = [row["scanner"] == "Phantom B" for row in rows]
    for name, test in (("IID", held_out), ("OOD", other)):
        for part, wanted in (("train", False), ("test", True)):
            cases = [[r["BDMAP ID"]] for r, t in zip(rows, test, strict=True) if t == wanted]
            _write(root / "TrainTestIDS" / f"{name}_{part}.csv", ("BDMAP ID",), cases)
    (root / "source.txt").write_text("synthetic abdominal studies\n", encoding="utf-8")


def _write(path: Path, header: Sequence[str], lines: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(lines)
