"""The estimate agrees with the run it foretells, costs ten studies, and touches nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.imaging.bodies import chest
from uvlm.errors import CatalogError
from uvlm.imaging.nifti import write_nifti
from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.preprocessing import estimate as module
from uvlm.preprocessing.estimate import Estimate, describe, estimate
from uvlm.preprocessing.ingest import Options, prepare_dataset
from uvlm.preprocessing.masks import MaskFile
from uvlm.preprocessing.nnunet_dataset import NnunetName
from uvlm.preprocessing.records import Record
from uvlm.preprocessing.study import Listing, Scope, Study, VolumeFile

COUNT = 24
OPTIONS = Options(
    spec=PreprocessSpec(shape=(32, 64, 64)),
    isolated=True,
    nnunet=NnunetName(900, "Plan"),
)
BODY = chest(64, 50)


def write_study(folder: Path, number: int) -> Study:
    """The larger the number, the more slices and the wider: from 16x48x48 to 62x94x94 voxels."""
    slices, side = 16 + 2 * number, 48 + 2 * number
    array = BODY.array[-slices:, :side, :side]
    image, mask = folder / f"ct_{number}.nii.gz", folder / f"mask_{number}.nii.gz"
    write_nifti(image, array, BODY.affine)
    write_nifti(mask, (array > 20).astype(np.uint8), BODY.affine)
    name = f"s{number}"
    return Study(
        series_id=name,
        case_id=name,
        patient_id=name,
        image=VolumeFile(image),
        mask=MaskFile(mask, (1,)),
        report="A report.",
    )


@pytest.fixture(scope="module")
def listing(tmp_path_factory) -> Listing:
    folder = tmp_path_factory.mktemp("raw")
    return Listing(
        name="toy",
        region="chest",
        labels=(),
        # In no order of size.
        studies=tuple(write_study(folder, 5 * i % COUNT) for i in range(COUNT)),
        scopes=(Scope(name="all", classes={"tissue": 1}, table={1: 1}),),
    )


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def found(listing) -> Estimate:
    return estimate(listing, OPTIONS)


def pretend(records: list[Record]) -> Callable[..., list[Record]]:
    """In place of `_measure`: the study `s7` took 7 seconds."""

    def measure(listing: Listing, options: Options, studies: list[Study]) -> list[Record]:
        records.extend(
            Record(series_id=s.series_id, key="", signature="", source="", seconds=seconds_of(s))
            for s in studies
        )
        return records

    return measure


def seconds_of(study: Study) -> float:
    return float(study.series_id[1:])


def test_disk_and_memory_are_foretold_within_30_percent(listing, found, tmp_path):
    out = tmp_path / "out"
    prepare_dataset(listing, out, OPTIONS)
    run = json.loads((out / "run.json").read_text())
    assert found.disk_gb * 2**30 == pytest.approx(size_of(out), rel=0.3)
    assert found.memory_gb == pytest.approx(run["peak_gb_per_worker"], rel=0.3)
    assert (found.studies, found.measured) == (COUNT, 10)


def test_it_measures_ten_studies_from_the_smallest_to_the_largest(listing, monkeypatch):
    records = []
    monkeypatch.setattr(module, "_measure", pretend(records))
    found = estimate(listing, OPTIONS)
    numbers = [record.seconds for record in records]
    assert numbers == sorted(set(numbers))
    assert (len(numbers), numbers[0], numbers[-1]) == (10, 1, COUNT - 1)
    assert found.seconds == pytest.approx(sum(map(seconds_of, listing.studies)), rel=0.05)


def test_where_all_are_measured_the_whole_is_their_sum(listing, monkeypatch):
    monkeypatch.setattr(module, "_measure", pretend([]))
    few = listing.studies[:10]
    found = estimate(replace(listing, studies=few), OPTIONS)
    assert found.measured == 10
    assert found.seconds == pytest.approx(sum(map(seconds_of, few)))


def test_many_studies_cost_no_more_than_few(listing, monkeypatch):
    many = tuple(
        replace(listing.studies[i % COUNT], series_id=f"m{i}", patient_id=f"m{i}")
        for i in range(25_692)
    )
    records, asked = [], []
    monkeypatch.setattr(module, "_measure", pretend(records))
    monkeypatch.setattr(module, "_size", lambda path: asked.append(path) or 1)
    found = estimate(replace(listing, studies=many), OPTIONS)
    assert (found.studies, found.measured) == (25_692, 10)
    assert len(asked) <= 2000


@pytest.mark.parametrize(("sample", "studies"), [(1, 1), (10, 1), (1, 2), (10, 10), (10, 11)])
def test_no_study_is_measured_twice(listing, sample, studies):
    drawn, usual = module._draw(listing.studies[:studies], sample)
    names = {study.series_id for study in drawn}
    assert len(names) == len(drawn) == min(sample, studies)
    assert 1 <= usual <= len(drawn)


def test_nothing_stays_behind_and_unusable_studies_are_shown(listing, tmp_path, monkeypatch):
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"no image")
    aside = tmp_path / "aside"
    aside.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(aside))
    broken = replace(listing.studies[0], image=VolumeFile(bad))
    mixed = replace(listing, studies=(broken, *listing.studies[1:3]))
    raw = listing.studies[0].image.path.parent
    before = size_of(raw)
    found = estimate(mixed, OPTIONS, out=tmp_path / "not" / "there")
    text = describe(found)
    assert str(bad) in text
    assert "1 of those measured" in text
    assert sorted(tmp_path.iterdir()) == [aside, bad]
    assert list(aside.iterdir()) == []
    assert size_of(raw) == before


def test_a_folder_counts_with_all_its_slices(tmp_path):
    slices = tmp_path / "dicom" / "series"
    slices.mkdir(parents=True)
    for i in range(5):
        (slices / f"{i}.dcm").write_bytes(bytes(100))
    assert module._size(tmp_path / "dicom") == 500
    assert module._size(slices / "0.dcm") == 100
    assert module._size(tmp_path / "absent") == 0


def test_a_listing_without_studies_is_refused(listing):
    with pytest.raises(CatalogError, match="no study"):
        estimate(replace(listing, studies=()), OPTIONS)


def test_further_workers_are_not_taken_to_be_free(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4)

    def speedup(workers: int, studies: int = 1000) -> float:
        return module._speedup(replace(OPTIONS, workers=workers), studies)

    assert speedup(1) == 1
    assert 1.7 <= speedup(2) < 2
    assert speedup(8) == speedup(4)
    assert speedup(4, studies=1) == 1


EXAMPLE = Estimate(
    studies=25_692,
    measured=10,
    workers=2,
    speedup=1.85,
    seconds_per_study=1.2,
    seconds=1.2 * 25_692 / 1.85,
    disk_gb=210.0,
    free_disk_gb=100.0,
    memory_gb=0.5,
    free_memory_gb=0.8,
    errors=(),
)


def test_the_table_says_time_disk_and_memory():
    text = describe(EXAMPLE)
    for words in ("25,692", "4 h 38 min", "210 GB", "100 GB free", "1.0 GB", "512 MB per worker"):
        assert words in text
    assert "2 workers counted as 1.85" in text
    assert "Warning" not in text


def test_what_does_not_fit_is_a_warning():
    disk, memory = module._warnings(EXAMPLE)
    assert "210 GB are needed" in disk
    assert "use 1 of them at most" in memory
    ample = replace(EXAMPLE, free_disk_gb=500.0, free_memory_gb=64.0)
    assert list(module._warnings(ample)) == []
    assert list(module._warnings(replace(ample, free_memory_gb=None))) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (29, "29 s"), (61, "1 min"), (3700, "1 h 2 min"), (90_000, "1 d 1 h")],
)
def test_times_are_rounded_to_what_matters(seconds, text):
    assert module._time(seconds) == text
