"""A listing becomes a dataset: whole, resumable after any kill, and never over another's files."""

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.preprocessing.studies_factory import (
    ALL,
    LUNG,
    NAMES,
    Broken,
    Slow,
    listing,
    make_files,
    study,
)
from uvlm.errors import CatalogError, ConfigError, ImageError
from uvlm.imaging.preprocess import preset
from uvlm.imaging.store import read_store
from uvlm.preprocessing import ingest, work
from uvlm.preprocessing.catalog import read_catalog
from uvlm.preprocessing.disk import DiskFullError, lock
from uvlm.preprocessing.ingest import Options, prepare_dataset
from uvlm.preprocessing.nnunet_dataset import NnunetName
from uvlm.preprocessing.study import Exclusion, Rejection

SPEC = preset("paper", (8, 16, 16))
OPTIONS = Options(spec=SPEC)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_files(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def whole(made, tmp_path_factory):
    """A dataset prepared without interruption; not to be changed."""
    out = tmp_path_factory.mktemp("whole")
    return prepare_dataset(listing(made), out, OPTIONS), out


@pytest.fixture
def out(whole, tmp_path):
    """A copy of it that a test may spoil."""
    return shutil.copytree(whole[1], tmp_path / "out")


def errors(out):
    with (out / "errors.csv").open(newline="") as file:
        return {row["series_id"]: row["error"] for row in csv.DictReader(file)}


def manifest(out):
    return json.loads((out / "run.json").read_text())


def stores(out):
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*.b2nd"))}


def tree(folder):
    return {p.relative_to(folder): p.stat().st_mtime_ns for p in sorted(folder.rglob("*"))}


def test_every_study_has_its_row(whole):
    summary, out = whole
    assert (summary.prepared, summary.kept, summary.rejected) == (4, 0, ())
    assert summary.catalogs == (out / "catalog.csv",)
    catalog = read_catalog(out / "catalog.csv", need=["labels", "mask", "report"])
    assert [row.series_id for row in catalog.rows] == list(NAMES)
    row = catalog.rows[1]
    assert (row.case_id, row.patient_id, row.split) == ("p1_b", "p1", None)
    assert row.report == "Lungs of p1_b are clear."
    assert row.image == out / "imagesTr" / "p1_b.b2nd"
    assert row.mask == out / "labelsTr" / "p1_b.b2nd"


def test_the_catalog_says_what_it_is(whole):
    catalog = read_catalog(whole[1] / "catalog.csv")
    assert (catalog.name, catalog.region, catalog.spec) == ("Phantoms", "chest", SPEC)
    assert catalog.segmentation == {"lung": 1, "body": 2}


def test_what_the_tables_leave_open_comes_from_the_mask(whole):
    catalog = read_catalog(whole[1] / "catalog.csv")
    assert catalog.labels == ("Nodule", "Mass")
    assert catalog.rows[0].labels == (0.0, 1.0)
    assert catalog.extra_columns == ("site", "lung_ml")
    assert catalog.rows[0].extra == {"site": "A", "lung_ml": "12"}


def test_what_the_tables_say_goes_before_the_mask(made, tmp_path):
    known = study(made, "p1_a", labels={"Nodule": 1.0, "Mass": 0.0})
    prepare_dataset(listing(made, [known]), tmp_path, OPTIONS)
    assert read_catalog(tmp_path / "catalog.csv").rows[0].labels == (1.0, 0.0)


def test_a_label_that_nobody_knows_is_empty(made, tmp_path):
    unknown = study(made, "p1_a", mask=False, labels={"Nodule": None})
    prepare_dataset(listing(made, [unknown]), tmp_path, OPTIONS)
    assert read_catalog(tmp_path / "catalog.csv").rows[0].labels == (None, None)


def test_the_manifest_says_what_was_done(whole):
    said = manifest(whole[1])
    assert said["outcome"] == "complete"
    assert said["dataset"]["name"] == "Phantoms"
    assert said["dataset"]["spec_hash"] == SPEC.hash
    assert said["versions"].keys() == {"uvlm", "python", "numpy", "blosc2"}
    assert said["counts"] == {
        "listed": 4, "prepared": 4, "kept": 0, "rejected": 0, "excluded": 0,
    }  # fmt: skip
    assert said["label_prevalence"]["Mass"] == {"positive": 4, "negative": 0, "unknown": 0}
    assert said["started"] <= said["ended"]
    assert 0.01 < said["peak_gb_per_worker"] < 100


def test_the_folder_holds_what_is_documented(whole):
    assert {path.name for path in whole[1].iterdir()} == {
        "catalog.csv", "dataset.json", "errors.csv", "studies.jsonl", "run.json", "quality.html",
        "imagesTr", "labelsTr", ".uvlm.lock",
    }  # fmt: skip


def test_what_the_source_left_out_is_told(made, tmp_path):
    given = listing(
        made,
        [study(made, "p1_a"), study(made, "p2_a", series_id="../p2"), study(made, "p3_a", Broken)],
        rejected=tuple(
            Rejection(series_id=name, source=made / name, error=f"{name}: no report.")
            for name in ("p8", "p9")
        ),
        excluded=tuple(Exclusion(series_id=f"e{n}", reason="not a chest") for n in range(3)),
        warnings=("Mind the gap.",),
    )
    summary = prepare_dataset(given, tmp_path, OPTIONS)
    assert (summary.prepared, summary.excluded, summary.warnings) == (1, 3, ("Mind the gap.",))
    assert errors(tmp_path).keys() == {"p8", "p9", "../p2", "p3_a"}
    assert "ZeroDivisionError" in errors(tmp_path)["p3_a"]
    said = manifest(tmp_path)
    assert said["outcome"] == "partial"
    assert said["counts"] == {
        "listed": 8, "prepared": 1, "kept": 0, "rejected": 4, "excluded": 3,
    }  # fmt: skip
    assert said["exclusion_reasons"] == {"not a chest": 3}
    assert said["exclusions"][0] == {"series_id": "e0", "reason": "not a chest"}
    assert said["warnings"] == ["Mind the gap."]
    reasons = said["rejection_reasons"]
    assert (reasons["no report."], reasons["ZeroDivisionError: surprise"]) == (2, 1)
    assert len(reasons) == 3
    assert not list(tmp_path.parent.glob("p2*"))


def test_what_had_to_be_decided_is_counted(whole):
    notes = manifest(whole[1])["notes"]
    assert notes["Nothing overlaps."] == 4


def test_several_scopes_share_their_images(made, tmp_path):
    summary = prepare_dataset(listing(made, scopes=(ALL, LUNG)), tmp_path, OPTIONS)
    assert summary.catalogs == (tmp_path / "all/catalog.csv", tmp_path / "lung+x/catalog.csv")
    first, second = (read_catalog(path, need=["mask"]) for path in summary.catalogs)
    assert (first.segmentation, second.segmentation) == (ALL.classes, LUNG.classes)
    for row, other in zip(first.rows, second.rows, strict=True):
        assert row.image.samefile(other.image)
        assert not row.mask.samefile(other.mask)
    assert len(list((tmp_path / "imagesTr").iterdir())) == 4
    assert not (tmp_path / "catalog.csv").exists()
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    assert len(read_catalog(moved / "all/catalog.csv").rows) == 4


def test_masks_are_optional(made, tmp_path):
    prepare_dataset(listing(made, scopes=()), tmp_path, OPTIONS)
    catalog = read_catalog(tmp_path / "catalog.csv")
    assert catalog.segmentation is None
    assert {row.mask for row in catalog.rows} == {None}
    assert not (tmp_path / "labelsTr").exists()


def test_held_out_patients_are_test_patients(made, tmp_path):
    summary = prepare_dataset(
        listing(made), tmp_path, replace(OPTIONS, held_out=frozenset({"p1_a", "zzz"}))
    )
    assert [row.split for row in read_catalog(tmp_path / "catalog.csv").rows] == [
        "test", "test", None, None,
    ]  # fmt: skip
    assert "1 of 2 held-out names are unknown" in summary.warnings[0]
    assert manifest(tmp_path)["options"]["held_out"] == ["p1_a", "zzz"]


def test_an_nnunet_dataset_has_no_case_of_a_held_out_patient(made, tmp_path):
    options = Options(
        spec=preset("paper", (32, 32, 32)),
        nnunet=NnunetName(777, "Phantom"),
        held_out=frozenset({"p1"}),
    )
    prepare_dataset(listing(made), tmp_path, options)
    folder = tmp_path / "nnUNet_preprocessed" / "Dataset777_Phantom"
    cases = {path.stem for path in (folder / "nnUNetPlans_3d_fullres").glob("*.pkl")}
    assert cases == {"p2_a", "p3_a"}
    assert (folder / "splits_final.json").is_file()
    again = prepare_dataset(listing(made), tmp_path, options)
    assert again.kept == 4


def test_nnunet_datasets_of_several_scopes_go_where_asked(made, tmp_path):
    options = Options(
        spec=preset("paper", (32, 32, 32)),
        nnunet=NnunetName(777, "Phantom"),
        nnunet_dir=tmp_path / "elsewhere",
    )
    prepare_dataset(listing(made, scopes=(ALL, LUNG)), tmp_path / "out", options)
    for scope in ("all", "lung+x"):
        assert (tmp_path / "elsewhere" / scope / "Dataset777_Phantom/dataset.json").is_file()


def test_when_only_held_out_studies_have_masks_there_is_a_warning(made, tmp_path):
    options = replace(
        OPTIONS, spec=preset("paper", (32, 32, 32)), nnunet=NnunetName(777, "Phantom")
    )
    tested = [study(made, name, split="test") for name in NAMES]
    summary = prepare_dataset(listing(made, tested), tmp_path, options)
    assert "no nnU-Net dataset" in summary.warnings[0]


def test_an_nnunet_dataset_needs_masks(made, tmp_path):
    options = replace(OPTIONS, nnunet=NnunetName(777, "Phantom"))
    with pytest.raises(CatalogError, match="no study has a mask"):
        prepare_dataset(listing(made, scopes=()), tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


def test_further_tables_are_written_beside_the_catalog(made, tmp_path):
    given = listing(made, tables={"vqa.csv": [("series_id", "answer"), ("p1_a", 'a, "b"')]})
    prepare_dataset(given, tmp_path, OPTIONS)
    with (tmp_path / "vqa.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["series_id", "answer"], ["p1_a", 'a, "b"']]


def test_tables_about_studies_hold_prepared_ones_only(made, tmp_path):
    table = [("series_id", "text"), ("p1_a", "here"), ("nobody", "gone"), ("p1_a", "again")]
    prepare_dataset(listing(made, study_tables={"regions.csv": table}), tmp_path, OPTIONS)
    written = (tmp_path / "regions.csv").read_text()
    assert written == "series_id,text\np1_a,here\np1_a,again\n"


@pytest.mark.parametrize("name", ["../vqa.csv", "errors.csv", "studies.jsonl", "vqa"])
def test_a_table_never_takes_the_place_of_another_file(made, tmp_path, name):
    with pytest.raises(CatalogError, match="a table named"):
        prepare_dataset(listing(made, tables={name: []}), tmp_path / "out", OPTIONS)
    assert not (tmp_path / "out").exists()


def test_the_source_is_left_as_it_was(made, tmp_path):
    before = tree(made)
    prepare_dataset(listing(made), tmp_path / "out", OPTIONS)
    assert tree(made) == before


# A second run


def test_a_second_run_keeps_everything(made, out):
    before = stores(out)
    text = (out / "catalog.csv").read_bytes(), (out / "studies.jsonl").read_bytes()
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.b2nd")}
    summary = prepare_dataset(listing(made), out, OPTIONS)
    assert (summary.prepared, summary.kept) == (4, 4)
    assert stores(out) == before
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert ((out / "catalog.csv").read_bytes(), (out / "studies.jsonl").read_bytes()) == text


def test_a_second_run_does_only_what_is_missing(made, out, whole):
    (out / "catalog.csv").unlink()
    (out / "imagesTr" / "p2_a.b2nd").unlink()
    (out / "labelsTr" / "p1_b.b2nd").unlink()
    summary = prepare_dataset(listing(made), out, OPTIONS)
    assert (summary.prepared, summary.kept) == (4, 2)
    assert stores(out) == stores(whole[1])


def test_a_study_that_failed_is_tried_again(made, tmp_path):
    broken = listing(made, [study(made, "p1_a"), study(made, "p2_a", Broken)])
    assert len(prepare_dataset(broken, tmp_path, OPTIONS).rejected) == 1
    mended = listing(made, [study(made, "p1_a"), study(made, "p2_a")])
    summary = prepare_dataset(mended, tmp_path, OPTIONS)
    assert (summary.prepared, summary.kept, summary.rejected) == (2, 1, ())
    assert errors(tmp_path) == {}
    assert manifest(tmp_path)["outcome"] == "complete"


def test_files_that_were_out_of_reach_for_a_while_are_not_prepared_again(made, tmp_path):
    raw, out = shutil.copytree(made, tmp_path / "raw"), tmp_path / "out"
    prepare_dataset(listing(raw), out, OPTIONS)
    away = (raw / "p2_a.nii.gz").rename(tmp_path / "away")
    assert errors_after(raw, out) == {"p2_a"}
    away.rename(raw / "p2_a.nii.gz")
    summary = prepare_dataset(listing(raw), out, OPTIONS)
    assert (summary.prepared, summary.kept, errors(out)) == (4, 4, {})


def errors_after(raw, out):
    prepare_dataset(listing(raw), out, OPTIONS)
    return errors(out).keys()


def test_new_reports_reach_the_catalog_without_preparing_again(made, out):
    changed = [study(made, name, report="Another.") for name in NAMES]
    summary = prepare_dataset(listing(made, changed), out, OPTIONS)
    assert summary.kept == 4
    assert {row.report for row in read_catalog(out / "catalog.csv").rows} == {"Another."}


def test_a_torn_record_is_made_again(made, out, whole):
    path = out / "studies.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    summary = prepare_dataset(listing(made), out, OPTIONS)
    assert (summary.prepared, summary.kept) == (4, 3)
    assert stores(out) == stores(whole[1])
    assert (out / "catalog.csv").read_bytes() == (whole[1] / "catalog.csv").read_bytes()


def test_what_a_killed_run_was_writing_is_removed(made, out):
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, check=True, text=True).stdout.strip()  # fmt: skip
    leftovers = [out / f".catalog.csv.{gone}.tmp", out / "imagesTr" / f".p1_a.{gone}.tmp.b2nd"]
    mine = out / "imagesTr" / "notes.tmp"
    for path in (*leftovers, mine):
        path.touch()
    prepare_dataset(listing(made), out, OPTIONS)
    assert [path.exists() for path in (*leftovers, mine)] == [False, False, True]


# Refusals


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"labels": ("Nodule",)}, "labels"),
        ({"scopes": (LUNG,)}, "scopes"),
        ({"name": "Others"}, "name"),
    ],
)
def test_another_dataset_needs_another_folder(made, out, change, word):
    before = tree(out)
    with pytest.raises(CatalogError, match=rf"prepared in another way .*{word}"):
        prepare_dataset(listing(made, **change), out, OPTIONS)
    assert tree(out) == before


def test_other_studies_under_the_same_name_need_another_folder(made, tmp_path):
    first, second = study(made, "p1_a", mask=False), study(made, "p2_a", mask=False)
    prepare_dataset(listing(made, [first], scopes=()), tmp_path, OPTIONS)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(CatalogError, match="of which none is in this dataset"):
        prepare_dataset(listing(made, [second], scopes=()), tmp_path, OPTIONS)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    grown = prepare_dataset(listing(made, [first, second], scopes=()), tmp_path, OPTIONS)
    assert (grown.kept, grown.warnings) == (1, ())
    shrunk = prepare_dataset(listing(made, [second], scopes=()), tmp_path, OPTIONS)
    assert "1 series of an earlier run are no longer in the dataset" in shrunk.warnings[0]


def test_another_preprocessing_needs_another_folder(made, out):
    before = tree(out)
    with pytest.raises(CatalogError, match=r"prepared in another way .*spec"):
        prepare_dataset(listing(made), out, Options(spec=preset("authors", (8, 16, 16))))
    assert tree(out) == before


@pytest.mark.parametrize(
    "name", ["catalog.csv", "dataset.json", "errors.csv", "studies.jsonl", "run.json", "vqa.csv"]
)
def test_files_of_another_origin_are_not_replaced(made, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(CatalogError, match="a file that this command did not write") as caught:
        prepare_dataset(listing(made, tables={"vqa.csv": []}), tmp_path, OPTIONS)
    assert str(tmp_path / name) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_a_file_in_place_of_the_folder_is_refused(made, tmp_path):
    (tmp_path / "out").write_text("mine")
    for out in (tmp_path / "out", tmp_path / "out" / "below"):
        with pytest.raises(CatalogError, match=r"[Cc]hoose another --out"):
            prepare_dataset(listing(made), out, OPTIONS)
    assert (tmp_path / "out").read_text() == "mine"


def test_results_are_not_put_among_the_raw_data(made, tmp_path):
    raw = shutil.copytree(made, tmp_path / "imagesTr")
    before = tree(tmp_path)
    with pytest.raises(CatalogError, match=r"results would lie among raw data \(.*imagesTr"):
        prepare_dataset(listing(raw), tmp_path, OPTIONS)
    assert tree(tmp_path) == before


def test_a_dataset_of_version_0_1_0_is_read_but_not_added_to(made, out):
    for name in ("run.json", "studies.jsonl", "quality.html", ".uvlm.lock"):
        (out / name).unlink()
    before = tree(out)
    with pytest.raises(CatalogError, match=r"version 0\.1\.0.*can be trained on as it is"):
        prepare_dataset(listing(made), out, OPTIONS)
    assert tree(out) == before
    assert len(read_catalog(out / "catalog.csv", need=["labels", "mask", "report"]).rows) == 4


def test_two_runs_at_once_are_refused(made, out):
    with lock(out), pytest.raises(CatalogError, match="another run is writing into this folder"):
        prepare_dataset(listing(made), out, OPTIONS)


def test_when_no_study_can_be_used_the_reasons_are_written_and_no_catalog(made, tmp_path):
    with pytest.raises(CatalogError, match=r"none of 1 series can be used.*errors\.csv"):
        prepare_dataset(listing(made, [study(made, "p1_a", Broken)]), tmp_path, OPTIONS)
    assert errors(tmp_path).keys() == {"p1_a"}
    assert manifest(tmp_path)["outcome"] == "failed"
    assert not (tmp_path / "catalog.csv").exists()


def test_impossible_options_are_refused():
    with pytest.raises(ConfigError, match="workers must be at least 1"):
        Options(spec=SPEC, workers=0)


# A full disk


def test_a_full_disk_keeps_what_is_done_and_a_second_run_goes_on(
    made, tmp_path, whole, monkeypatch
):
    written = []

    def write(path, array, meta):
        if len(written) == 3:
            raise ImageError("could not be written") from OSError(errno.ENOSPC, "No space left")
        written.append(path)
        return real(path, array, meta)

    real = work.write_store
    monkeypatch.setattr(work, "write_store", write)
    with pytest.raises(DiskFullError, match=r"MB free.*run the same command again"):
        prepare_dataset(listing(made), tmp_path, OPTIONS)
    said = manifest(tmp_path)
    assert (said["outcome"], "the disk is full" in said["error"]) == ("failed", True)
    assert not (tmp_path / "catalog.csv").exists()
    monkeypatch.setattr(work, "write_store", real)
    summary = prepare_dataset(listing(made), tmp_path, OPTIONS)
    assert (summary.prepared, summary.kept) == (4, 1)
    assert stores(tmp_path) == stores(whole[1])


@pytest.mark.parametrize("function", ["write_errors", "write_catalog"])
def test_a_disk_that_fills_up_at_the_end_leaves_the_old_catalog(made, out, monkeypatch, function):
    def refuse(*_):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    before = (out / "catalog.csv").read_bytes()
    monkeypatch.setattr(ingest, function, refuse)
    with pytest.raises(DiskFullError):
        prepare_dataset(listing(made), out, OPTIONS)
    assert (out / "catalog.csv").read_bytes() == before
    assert manifest(out)["outcome"] == "failed"


def test_a_full_disk_of_the_nnunet_dataset_is_named(made, small_disk, tmp_path):
    shape = preset("paper", (32, 32, 32))
    name = NnunetName(777, "Phantom")
    options = Options(spec=shape, nnunet=name, nnunet_dir=small_disk)
    with pytest.raises(DiskFullError, match=f"{small_disk}/Dataset777_Phantom: the disk is full"):
        prepare_dataset(listing(made), tmp_path / "out", options)


def test_a_folder_that_cannot_be_written_is_named(made, out, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied", str(out / "errors.csv"))

    monkeypatch.setattr(ingest, "write_errors", refuse)
    with pytest.raises(CatalogError, match=r"errors\.csv: cannot be written \(Permission denied"):
        prepare_dataset(listing(made), out, OPTIONS)


@pytest.fixture
def small_disk(tmp_path):
    """64 KB; where the system lets us."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("this system lets us mount no small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_disk_that_is_really_full(made, small_disk, tmp_path, whole):
    (small_disk / "ballast").write_bytes(b"x" * 30_000)
    with pytest.raises(DiskFullError, match="the disk is full"):
        prepare_dataset(listing(made), small_disk, OPTIONS)
    left = {
        path.name for path in small_disk.rglob("*") if path.name.endswith((".tmp", ".tmp.b2nd"))
    }
    assert left == set()
    for name, content in stores(small_disk).items():
        assert content == stores(whole[1])[name]
    (small_disk / "ballast").unlink()
    before = stores(small_disk)
    out = shutil.copytree(small_disk, tmp_path / "larger")
    summary = prepare_dataset(listing(made), out, OPTIONS)
    assert summary.prepared == 4
    assert summary.kept >= len(before) // 2 - 1


# Kills

RUN = """
import sys
from pathlib import Path
from tests.preprocessing.studies_factory import NAMES, Slow, listing, study
from uvlm.errors import UvlmError
from uvlm.imaging.preprocess import preset
from uvlm.preprocessing.ingest import Options, prepare_dataset

if __name__ == "__main__":
    made, out, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    studies = [study(made, name, Slow) for name in NAMES]
    options = Options(spec=preset("paper", (8, 16, 16)), workers=workers, isolated=True)
    try:
        prepare_dataset(listing(made, studies), out, options)
    except UvlmError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
"""


def start(made, out, script, workers=2):
    script.write_text(RUN)
    with script.with_suffix(".err").open("w") as said:
        return subprocess.Popen(
            [sys.executable, str(script), str(made), str(out), str(workers)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stderr=said,
            start_new_session=True,
        )


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def lines(out):
    path = out / "studies.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def group_is_empty(pgid):
    try:
        os.killpg(pgid, 0)
    except ProcessLookupError:
        return True
    return False


def resumed_is_whole(made, out, whole):
    """Run again in this process; everything must be as if there had been no kill."""
    studies = [study(made, name, Slow) for name in NAMES]
    summary = prepare_dataset(listing(made, studies), out, OPTIONS)
    assert (summary.prepared, summary.rejected) == (4, ())
    assert stores(out).keys() == stores(whole).keys()
    for name in stores(whole):
        assert np.array_equal(read_store(out / name), read_store(whole / name)), name
    for name in ("catalog.csv", "dataset.json", "errors.csv"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    assert not [path for path in out.rglob(".*") if path.name != ".uvlm.lock"]
    return summary


def test_a_run_killed_half_way_is_resumed_without_loss(made, tmp_path, whole):
    out = tmp_path / "out"
    run = start(made, out, tmp_path / "run.py")
    wait_for(lambda: lines(out) >= 1)
    with pytest.raises(CatalogError, match="another run is writing"):
        prepare_dataset(listing(made), out, OPTIONS)
    run.send_signal(signal.SIGKILL)
    run.wait()
    # Its workers end by themselves.
    wait_for(lambda: group_is_empty(run.pid))
    done = lines(out)
    assert manifest(out)["outcome"] == "running"
    assert resumed_is_whole(made, out, whole[1]).kept >= done


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_says_so_and_is_resumed(made, tmp_path, whole, number):
    out = tmp_path / "out"
    run = start(made, out, tmp_path / "run.py")
    wait_for(lambda: lines(out) >= 1)
    # As a terminal does, and a scheduler: to all its processes.
    os.killpg(run.pid, number)
    assert run.wait() == 130
    said = (tmp_path / "run.err").read_text()
    assert "Traceback" not in said
    assert said.endswith(f"{out}: stopped. What is done is kept and recorded; run the same command "
                         "again, and it goes on from there.\n")  # fmt: skip
    assert manifest(out)["outcome"] == "failed"
    assert "stopped" in manifest(out)["error"]
    assert resumed_is_whole(made, out, whole[1]).kept >= 1


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0.0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 2.1, 2.4])
def test_a_run_killed_at_any_moment_is_resumed_without_loss(made, tmp_path, whole, moment):
    out = tmp_path / "out"
    run = start(made, out, tmp_path / "run.py")
    time.sleep(moment)
    run.send_signal(signal.SIGKILL)
    run.wait()
    wait_for(lambda: group_is_empty(run.pid))
    resumed_is_whole(made, out, whole[1])
