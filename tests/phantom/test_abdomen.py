"""Abdominal sets follow AbdomenAtlas 3.0, and their tables and reports are true of the image."""

from __future__ import annotations

import csv
import re
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from uvlm.imaging.geometry import to_lps
from uvlm.imaging.nifti import read_nifti
from uvlm.phantom.abdomen import ABDOMEN_CLASSES, AbdomenStudy, draw_abdomen_study
from uvlm.phantom.abdomen_atlas import COLUMNS
from uvlm.phantom.abdomen_report import organ_lesions, structured_report
from uvlm.phantom.make import make_abdomen
from uvlm.phantom.resolution import size_ranges
from uvlm.registry import ABDOMEN_LABELS

SHAPE = (32, 64, 64)
SIZES = size_ranges(SHAPE, "abdomen")
CLASSES = {
    "Liver lesion": "liver_lesion",
    "Kidney lesion": "kidney_lesion",
    "Pancreas lesion": "pancreatic_lesion",
}


@lru_cache(maxsize=32)
def draw(study: int, *labels: str) -> AbdomenStudy:
    return draw_abdomen_study(3, study, SHAPE, labels, SIZES)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("set") / "abdomen"
    make_abdomen(out, studies=5, seed=2, shape=SHAPE, min_prevalence=0.6)
    return out


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("label", ABDOMEN_LABELS)
@pytest.mark.parametrize("study", [0, 1, 2])
def test_the_image_changes_where_the_lesion_mask_says(label, study):
    with_it, without = draw(study, label), draw(study)
    inside = with_it.mask == ABDOMEN_CLASSES[CLASSES[label]]
    assert inside.sum() >= 3
    assert np.abs(with_it.hu.astype(float) - without.hu)[inside].mean() > 30
    outside = ~inside & (np.abs(with_it.hu.astype(float) - without.hu) > 30)
    assert outside.sum() < 2 * inside.sum() + 30
    assert not without.lesions


def test_lesion_sizes_and_places_agree_with_the_mask():
    for study in range(4):
        drawn = draw(study, *ABDOMEN_LABELS)
        for lesion in drawn.lesions:
            voxel = max(drawn.grid.spacing[1:])
            extent = [
                lesion.inside.any(axis=(0, 2)).sum() * drawn.grid.spacing[1],
                lesion.inside.any(axis=(0, 1)).sum() * drawn.grid.spacing[2],
            ]
            # A voxel less than 40 % filled is outside, so each end may lose up to that and what
            # the curvature of the end takes within the voxel.
            assert max(extent) == pytest.approx(lesion.diameters_mm[0], abs=1.2 * voxel)
            if lesion.organ == "kidney":
                assert (lesion.centre[2] > 0) == lesion.location.endswith("left")
            ball = lesion.inside
            assert lesion.location in ABDOMEN_CLASSES
            assert ball.any()


def test_organ_hounsfield_units_and_sides():
    drawn = draw(0)
    x = np.broadcast_to(drawn.grid.axes[2], SHAPE)
    mean = {
        n: drawn.hu[drawn.mask == v].mean()
        for n, v in ABDOMEN_CLASSES.items()
        if (drawn.mask == v).any()
    }
    centre = {n: x[drawn.mask == ABDOMEN_CLASSES[n]].mean() for n in mean}
    assert 50 < mean["liver_segment_8"] < 140
    assert mean["lung_left"] < -650
    assert centre["spleen"] > 50
    assert centre["liver_segment_7"] < -50
    assert centre["kidney_left"] > 0 > centre["kidney_right"]
    assert centre["aorta"] > centre["postcava"]


def test_the_layout_is_abdomen_atlas(made):
    rows = rows_of(made / "AbdomenAtlas3.0MiniWithMeta.csv")
    assert tuple(rows[0]) == COLUMNS
    assert len(COLUMNS) == len(set(COLUMNS)) == 79
    for row in rows:
        case = row["BDMAP ID"]
        assert re.fullmatch(r"BDMAP_\d{8}", case)
        image = read_nifti(made / "image_only" / case / "ct.nii.gz")
        files = sorted((made / "mask_only" / case / "segmentations").iterdir())
        assert {p.name for p in files} == {f"{name}.nii.gz" for name in ABDOMEN_CLASSES}
        total = np.zeros(image.shape, dtype=int)
        for path in files:
            mask = read_nifti(path, labels=True)
            assert np.array_equal(mask.affine, image.affine)
            total += mask.array > 0
        assert total.max() == 1
    assert {p.name for p in (made / "TrainTestIDS").iterdir()} == {
        f"{kind}_{part}.csv" for kind in ("IID", "OOD") for part in ("train", "test")
    }
    for kind in ("IID", "OOD"):
        cases = [
            r["BDMAP ID"]
            for part in ("train", "test")
            for r in rows_of(made / "TrainTestIDS" / f"{kind}_{part}.csv")
        ]
        assert sorted(cases) == [r["BDMAP ID"] for r in rows]


def test_the_set_says_that_it_is_synthetic(made):
    assert (made / "source.txt").read_text() == "synthetic abdominal studies\n"


def test_table_values_are_measured_on_the_files(made):
    for row in rows_of(made / "AbdomenAtlas3.0MiniWithMeta.csv"):
        folder = made / "mask_only" / row["BDMAP ID"] / "segmentations"
        lesion = read_nifti(folder / "liver_lesion.nii.gz", labels=True)
        ml = float((lesion.array > 0).sum()) * lesion.voxel_ml
        assert float(row["total liver lesion volume (cm^3)"]) == pytest.approx(ml, rel=0.1, abs=0.4)
        assert (int(row["number of liver lesion instances"]) > 0) == (ml > 0)
        spleen = read_nifti(folder / "spleen.nii.gz", labels=True)
        ml = float((spleen.array > 0).sum()) * spleen.voxel_ml
        assert float(row["spleen volume (cm^3)"]) == pytest.approx(ml, abs=0.1)


def test_the_stated_image_shows_the_lesion(made):
    found = 0
    for row in rows_of(made / "AbdomenAtlas3.0MiniWithMeta.csv"):
        text = row["structured report"]
        match = re.search(
            r"Liver lesion 1:\nLocation: hepatic segment \d\.\nSize: .*\(image (\d+)\)", text
        )
        if match is None:
            continue
        folder = made / "mask_only" / row["BDMAP ID"] / "segmentations"
        lesion, _ = to_lps(read_nifti(folder / "liver_lesion.nii.gz", labels=True))
        assert lesion.array[int(match[1]) - 1].any()
        found += 1
    assert found >= 2


def test_the_structured_report_follows_the_grammar():
    drawn = draw(1, *ABDOMEN_LABELS)
    text = structured_report(drawn, frozenset(ABDOMEN_LABELS))
    assert text.startswith(f"CT {drawn.body.phase} Phase\n\nFINDINGS:\nSpleen:\n")
    assert re.search(r"Mean HU value: -?[\d.]+ \+/- [\d.]+\.", text)
    assert re.search(
        r"Enhancement relative to pancreas: \w+attenuating \(HU value is -?[\d.]+\+/-[\d.]+\)\.",
        text,
    )
    assert "IMPRESSION:" in text
    for organ in ("liver", "kidney", "pancreas"):
        lesions = organ_lesions(drawn, organ)
        assert text.count(f"{organ.capitalize()} lesion ") == len(lesions)


def test_a_pancreatic_tumour_is_staged_by_its_size():
    for study in range(12):
        drawn = draw(study, "Pancreas lesion")
        (lesion,) = drawn.lesions
        text = structured_report(drawn, frozenset(ABDOMEN_LABELS))
        cm = lesion.diameters_mm[0] / 10
        staged = re.search(r"Clinical stage: T(\d)NxMx", text)
        assert (staged is None) == (lesion.kind == "cyst")
        if staged:
            assert int(staged[1]) == (1 if cm <= 2 else 2 if cm <= 4 else 3)
