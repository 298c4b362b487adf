"""Whatever the layout a study comes in, its structures keep their place in the patient.

The same made studies are written in every layout, prepared, and compared in LPS millimetres with
the mask they were drawn with: 1 % of the field of view is allowed, per axis.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from uvlm.cli.main import main
from uvlm.imaging.readers import read_volume
from uvlm.imaging.store import StoredArray
from uvlm.imaging.volume import Volume
from uvlm.phantom.abdomen import ABDOMEN_CLASSES
from uvlm.phantom.classes import CHEST_CLASSES
from uvlm.preprocessing.catalog import Catalog, read_catalog

SHAPE = ("--shape", "32", "64", "64")
ALLOWED = 0.01
"""Of the field of view."""

Centre = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Centroid and field of view, LPS mm."""


def run(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory):
    def make(region: str, layout: str | None = None) -> Path:
        out = tmp_path_factory.mktemp("made") / "raw"
        words = ["phantom", "make", out, "--studies", 8, "--seed", 10, "--region", region, *SHAPE]
        run(*words, *(("--layout", layout) if layout else ()))
        return out

    return make


@pytest.fixture(scope="module")
def drawn(make) -> Path:
    """Chest studies in CT-RATE's second version, with the masks they were drawn with."""
    return make("chest")


def centre_of(array: NDArray[np.bool_], affine: NDArray[np.float64]) -> Centre:
    z, y, x = np.argwhere(array).mean(axis=0)
    size = np.abs(affine[:3, :3] @ array.shape[::-1])
    return (affine @ (x, y, z, 1))[:3], size


def truth(volume: Volume, value: int) -> Centre:
    return centre_of(volume.array == value, volume.affine)


def stored(catalog: Catalog, series: str, name: str) -> Centre:
    (row,) = (row for row in catalog.rows if row.series_id == series)
    assert row.mask is not None
    assert catalog.segmentation is not None
    mask = StoredArray(row.mask)
    assert mask.meta is not None
    value = catalog.segmentation[name]
    return centre_of(mask.read() == value, np.array(mask.meta.grid.affine))


def assert_close(found: Centre, expected: Centre) -> None:
    off = np.abs(found[0] - expected[0]) / expected[1]
    assert off.max() <= ALLOWED, f"{off} of the field of view"


def prepare(source: str, raw: Path, out: Path, *words: object) -> Catalog:
    run("prepare", source, raw, "--out", out, *SHAPE, *words)
    return read_catalog(out / "catalog.csv")


SIDED = ("lung_lower_lobe_left", "lung_lower_lobe_right", "liver", "heart")


def chest_truth(drawn: Path, raw: Path, layout: str) -> dict[str, Volume]:
    """The masks by series; a hospital's folder has names of its own for the same files."""
    folder = raw / "masks" if layout == "folder" else drawn / "dataset/ts_seg"
    files = sorted(folder.rglob("*.nii.gz"))
    return {f.name[: -len(".nii.gz")]: read_volume(f, labels=True) for f in files}


OPTIONS = {
    "rexgrounding": lambda raw: (
        raw,
        ("--images", raw / "ct_rate", "--anatomy", raw / "anatomy"),
    ),
    "folder": lambda raw: (
        raw / "images",
        ("--table", raw / "reports.xlsx", "--masks", raw / "masks"),
    ),
}
"""What is given to `uvlm prepare` beside a layout's own folder."""


@pytest.mark.parametrize(
    ("layout", "source", "names"),
    [
        ("ct-rate", "ct-rate", dict(zip(SIDED, SIDED, strict=True))),
        ("ct-rate-v1", "ct-rate", dict(zip(SIDED, SIDED, strict=True))),
        (
            "rexgrounding",
            "rexgrounding",
            {
                "lung_lower_lobe_left": "Lung lower lobe L",
                "lung_lower_lobe_right": "Lung lower lobe R",
                "liver": "Liver",
                "heart": "Heart",
            },
        ),
        ("folder", "folder", dict(zip(SIDED, SIDED, strict=True))),
    ],
)
def test_chest_structures_keep_their_place(layout, source, names, make, drawn, tmp_path):
    raw = drawn if layout == "ct-rate" else make("chest", layout)
    given, words = OPTIONS.get(layout, lambda raw: (raw, ()))(raw)
    catalog = prepare(source, given, tmp_path / "out", *words)
    truths = chest_truth(drawn, raw, layout)
    compared = 0
    for series, mask in truths.items():
        if series not in {row.series_id for row in catalog.rows}:
            continue
        for drawn_name, stored_name in names.items():
            assert_close(
                stored(catalog, series, stored_name), truth(mask, CHEST_CLASSES[drawn_name])
            )
            compared += 1
    assert compared >= 4 * len(names)


@pytest.mark.parametrize(("layout", "source"), [("bimcv-r", "bimcv-r"), ("radgenome", "radgenome")])
def test_images_without_masks_are_those_of_the_layout_with_masks(
    layout, source, make, drawn, tmp_path
):
    """No mask, so the whole image is compared: a mirrored or turned one would differ."""
    expected = prepare("ct-rate", drawn, tmp_path / "expected")
    arrays = [StoredArray(row.image).read() for row in expected.rows]
    catalog = prepare(source, make("chest", layout), tmp_path / "out")
    assert len(catalog.rows) >= 4
    for row in catalog.rows:
        image = StoredArray(row.image).read()
        assert any(np.array_equal(image, array) for array in arrays)


def test_abdominal_structures_keep_their_place(make, tmp_path):
    raw = make("abdomen")
    catalog = prepare("abdomen-atlas", raw, tmp_path / "out")
    assert len(catalog.rows) == 8
    for row in catalog.rows:
        for name in ("kidney_left", "kidney_right", "spleen", "liver_segment_7"):
            assert name in ABDOMEN_CLASSES
            file = raw / "mask_only" / row.series_id / "segmentations" / f"{name}.nii.gz"
            assert_close(
                stored(catalog, row.series_id, name), truth(read_volume(file, labels=True), 1)
            )
