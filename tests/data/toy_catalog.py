"""A prepared dataset of small studies: noise, an organ in each, a lesion in every second."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from uvlm.imaging.preprocess import PreprocessSpec, prepare
from uvlm.imaging.store import StoreMeta, meta_of, write_store
from uvlm.imaging.volume import Provenance, Volume
from uvlm.preprocessing.catalog import Catalog, Row, write_catalog

SHAPE = (8, 16, 16)
SPEC = PreprocessSpec(shape=SHAPE)
CLASSES = {"organ": 1, "lesion": 2}
LABELS = ("Nodule", "Effusion")


def make_catalog(folder: Path, studies: int = 12) -> Path:
    """Write `studies` studies and their catalog; the last two are held out."""
    rows = tuple(make_study(folder, i, held_out=i >= studies - 2) for i in range(studies))
    path = folder / "catalog.csv"
    write_catalog(
        Catalog(
            path=path,
            name="toy",
            region="chest",
            labels=LABELS,
            segmentation=CLASSES,
            spec=SPEC,
            rows=rows,
        )
    )
    return path


def make_study(folder: Path, number: int, *, held_out: bool) -> Row:
    rng = np.random.default_rng(number)
    hu = rng.normal(-800, 20, SHAPE).astype(np.float32)
    mask = np.zeros(SHAPE, np.int16)
    mask[2:6, 3:12, 4 + number % 4 : 10] = 1
    sick = number % 2 == 0
    if sick:
        mask[3:5, 5:7, 5:8] = 2
    hu[mask == 1] += 700
    hu[mask == 2] += 1500
    name = f"toy_{number}"
    note = Provenance(path=name, format="nifti", checksum=f"{number:064d}")
    prepared = prepare(Volume(array=hu, affine=np.eye(4), provenance=note), SPEC)
    meta = meta_of(prepared)
    image, labels = folder / f"{name}.b2nd", folder / f"{name}_seg.b2nd"
    write_store(image, prepared.array, meta)
    seg_meta = StoreMeta(kind="labels", spec_hash=SPEC.hash, grid=meta.grid, classes=CLASSES)
    write_store(labels, mask, seg_meta)
    return Row(
        series_id=f"{name}_1",
        case_id=f"{name}_a",
        patient_id=name,
        split="valid" if held_out else None,
        image=image,
        mask=labels,
        labels=(float(sick), None if number % 3 else 1.0),
        report="Findings: A nodule is seen." if sick else "Findings: No nodule is seen.",
    )
