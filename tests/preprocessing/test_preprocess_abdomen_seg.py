"""From the release to an nnU-Net raw dataset, and from that to a catalog, by command line."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from uvlm.imaging.nifti import write_nifti
from uvlm.imaging.readers import read_volume
from uvlm.imaging.store import StoredArray
from uvlm.phantom.make import make_abdomen
from uvlm.preprocessing import abdomen_steps
from uvlm.preprocessing.abdomen_command import DEFAULT, AbdomenConfig
from uvlm.preprocessing.catalog import read_catalog
from uvlm.preprocessing.command_config import load_config
from uvlm.preprocessing.preprocess_abdomen_seg import main
from uvlm.preprocessing.records import read_records
from uvlm.preprocessing.sources.abdomen_atlas import list_abdomen_atlas

NAME = "Dataset145_AbdomenAtlas3.0Mini"
SIZE = ("--target-size", "16", "32", "32")


def run(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("abdomen") / "raw"
    make_abdomen(out, studies=6, seed=5, shape=(32, 64, 64))
    return out


@pytest.fixture
def atlas(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "atlas"))


@pytest.fixture(scope="module")
def merged(made, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("merged")
    assert run("merge", "--input-dir", made, "--output-dir", out) == 0
    return out


def stamp(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.lstat().st_mtime_ns, path.lstat().st_ino)
        for path in sorted(folder.rglob("*.nii.gz"))
    }


def test_the_shipped_settings_are_the_defaults():
    assert load_config(AbdomenConfig, None, DEFAULT) == AbdomenConfig()


def test_merge_writes_the_41_classes_on_the_images_own_grid(made, merged):
    raw = merged / NAME
    described = json.loads((raw / "dataset.json").read_text())
    assert described["numTraining"] == 6
    assert list(described["labels"].values()) == list(range(42))
    for study in list_abdomen_atlas(made).studies:
        image = study.image.read()
        written = read_volume(raw / "labelsTr" / f"{study.series_id}.nii.gz", labels=True)
        np.testing.assert_array_equal(written.array, study.mask.read(image).volume.array)
        np.testing.assert_allclose(written.affine, image.affine, atol=1e-4)


def test_merge_links_the_users_images_relatively(made, merged):
    for link in (merged / NAME / "imagesTr").iterdir():
        assert link.is_symlink()
        assert not os.path.isabs(os.readlink(link))
        case = link.name.removesuffix("_0000.nii.gz")
        assert link.samefile(made / "image_only" / case / "ct.nii.gz")


def test_merge_copies_where_links_are_impossible(made, tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    assert run("merge", "--input-dir", made, "--output-dir", tmp_path) == 0
    copies = list((tmp_path / NAME / "imagesTr").iterdir())
    assert len(copies) == 6
    assert not any(path.is_symlink() for path in copies)
    assert run("merge", "--input-dir", made, "--output-dir", tmp_path) == 0


def test_an_uncompressed_image_is_copied_compressed(atlas, tmp_path):
    case = atlas / "image_only/BDMAP_00000001"
    volume = read_volume(case / "ct.nii.gz")
    (case / "ct.nii.gz").unlink()
    write_nifti(case / "ct.nii", volume.array, volume.affine)
    out = tmp_path / "out"
    for _ in range(2):
        assert run("merge", "--input-dir", atlas, "--output-dir", out) == 0
        (out / NAME / "labelsTr/BDMAP_00000001.nii.gz").unlink()
    copy = out / NAME / "imagesTr/BDMAP_00000001_0000.nii.gz"
    assert copy.read_bytes()[:2] == b"\x1f\x8b"
    np.testing.assert_array_equal(read_volume(copy).array, volume.array)


def test_merging_again_changes_nothing_and_does_only_what_is_missing(made, tmp_path):
    words = ("merge", "--input-dir", made, "--output-dir", tmp_path)
    assert run(*words) == 0
    before = stamp(tmp_path)
    lost = tmp_path / NAME / "labelsTr/BDMAP_00000003.nii.gz"
    lost.unlink()
    assert run(*words) == 0
    after = stamp(tmp_path)
    changed = {name for name in before if before[name] != after[name]}
    assert {Path(name).name[:14] for name in changed} == {"BDMAP_00000003"}


def test_a_changed_mask_is_merged_again(atlas, tmp_path):
    words = ("merge", "--input-dir", atlas, "--output-dir", tmp_path / "out")
    assert run(*words) == 0
    folder = atlas / "mask_only/BDMAP_00000001/segmentations"
    spleen = read_volume(folder / "spleen.nii.gz", labels=True)
    write_nifti(folder / "spleen.nii.gz", np.zeros_like(spleen.array), spleen.affine)
    assert run(*words) == 0
    path = tmp_path / "out" / NAME / "labelsTr/BDMAP_00000001.nii.gz"
    assert not (read_volume(path, labels=True).array == 1).any()


def test_a_broken_case_is_recorded_and_the_rest_goes_on(atlas, tmp_path, capsys):
    folder = atlas / "mask_only/BDMAP_00000002/segmentations"
    shutil.copyfile(folder / "spleen.nii.gz", folder / "spleeen.nii.gz")
    assert run("merge", "--input-dir", atlas, "--output-dir", tmp_path / "out") == 3
    raw = tmp_path / "out" / NAME
    assert not (raw / "labelsTr/BDMAP_00000002.nii.gz").exists()
    assert not (raw / "imagesTr/BDMAP_00000002_0000.nii.gz").exists()
    assert json.loads((raw / "dataset.json").read_text())["numTraining"] == 5
    said = capsys.readouterr().err
    assert "'spleeen' is no known structure" in said
    records = read_records(raw / abdomen_steps.MERGED)
    assert "Did you mean spleen?" in str(records["BDMAP_00000002"].error)


def test_a_folder_of_others_is_left_alone(made, tmp_path, capsys):
    raw = tmp_path / NAME
    raw.mkdir()
    (raw / "dataset.json").write_text("{}")
    assert run("merge", "--input-dir", made, "--output-dir", tmp_path) == 2
    assert "did not write" in capsys.readouterr().err
    assert [path.name for path in raw.iterdir()] == ["dataset.json"]


@pytest.fixture(scope="module")
def whole(made, tmp_path_factory) -> Path:
    """What `all` writes, by two workers."""
    folder = tmp_path_factory.mktemp("whole")
    words = ("--raw-output-dir", folder / "raw", "--preprocessed-output-dir", folder / "pre")
    assert run("all", "--input-dir", made, *words, *SIZE, "--num-workers", 2) == 0
    return folder


def test_all_writes_a_catalog_a_store_and_an_nnunet_dataset(whole):
    dataset = whole / "pre" / NAME
    catalog = read_catalog(dataset / "uvlm/catalog.csv", need=("mask",))
    assert len(catalog.rows) == 6
    assert len(catalog.segmentation) == 41
    assert (dataset / "splits_final.json").is_file()
    assert StoredArray(catalog.rows[0].mask).shape == (16, 32, 32)


def test_test_cases_are_in_no_fold(made, whole):
    test = set((made / "TrainTestIDS/IID_test.csv").read_text().split()[2:])
    assert test
    folds = json.loads((whole / "pre" / NAME / "splits_final.json").read_text())
    used = {case for fold in folds for part in ("train", "val") for case in fold[part]}
    assert used
    assert not used & test
    rows = read_catalog(whole / "pre" / NAME / "uvlm/catalog.csv").rows
    assert {row.series_id for row in rows if row.split == "test"} == test


def test_verify_reads_it_back(whole, capsys):
    assert run("verify", "--output-dir", whole / "pre") == 0
    assert "12 stores read" in capsys.readouterr().out
    assert run("verify", "--output-dir", whole / "raw") == 2


def test_a_case_that_breaks_later_leaves_the_dataset(atlas, tmp_path):
    words = ("merge", "--input-dir", atlas, "--output-dir", tmp_path / "out")
    assert run(*words) == 0
    (atlas / "mask_only/BDMAP_00000002/segmentations/aorta.nii.gz").write_bytes(b"cut")
    assert run(*words) == 3
    raw = tmp_path / "out" / NAME
    assert not list((raw / "imagesTr").glob("BDMAP_00000002*"))
    assert json.loads((raw / "dataset.json").read_text())["numTraining"] == 5
    assert (atlas / "image_only/BDMAP_00000002/ct.nii.gz").is_file()


@pytest.mark.parametrize("records", ["kept", "lost"])
def test_files_of_others_stay_however_often_it_runs(records, atlas, tmp_path, capsys):
    raw = tmp_path / "out" / NAME
    words = ("merge", "--input-dir", atlas, "--output-dir", tmp_path / "out")
    assert run(*words) == 0
    mine = raw / "imagesTr/BDMAP_00000002_0000.nii.gz"
    mine.unlink()
    mine.write_bytes(b"mine")
    (raw / "labelsTr/BDMAP_00000002.nii.gz").unlink()
    if records == "lost":
        (raw / "merge.jsonl").write_bytes(b"")
    for _ in range(3):
        assert run(*words) == 3
        assert "is not" in capsys.readouterr().err
        assert mine.read_bytes() == b"mine"


def test_a_changed_image_replaces_its_copy(atlas, tmp_path):
    case = atlas / "image_only/BDMAP_00000001"
    volume = read_volume(case / "ct.nii.gz")
    (case / "ct.nii.gz").unlink()
    for extra in (0, 3):
        changed = volume.array + np.int16(extra) * (np.indices(volume.shape)[0] % 2).astype("i2")
        write_nifti(case / "ct.nii", changed, volume.affine)
        assert run("merge", "--input-dir", atlas, "--output-dir", tmp_path / "out") == 0
        copy = tmp_path / "out" / NAME / "imagesTr/BDMAP_00000001_0000.nii.gz"
        np.testing.assert_array_equal(read_volume(copy).array, changed)


def test_links_hold_when_everything_moves_together(atlas, tmp_path):
    together = tmp_path / "together"
    together.mkdir()
    assert run("merge", "--input-dir", atlas, "--output-dir", together / "raw") == 0
    atlas.rename(together / "atlas")
    links = list((together / "raw" / NAME / "imagesTr").iterdir())
    assert not any(link.exists() for link in links)
    assert run("merge", "--input-dir", together / "atlas", "--output-dir", together / "raw") == 0
    together.rename(tmp_path / "moved")
    links = list((tmp_path / "moved/raw" / NAME / "imagesTr").iterdir())
    assert len(links) == 6
    assert all(read_volume(link).shape == (32, 64, 64) for link in links)


def test_a_disk_that_fills_up_is_said_in_one_line(made, tmp_path, capsys, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(abdomen_steps.RecordLog, "add", full)
    assert run("merge", "--input-dir", made, "--output-dir", tmp_path) == 1
    assert "merge: writing: No space left on device. Check the disk" in capsys.readouterr().err


def test_nothing_of_the_users_is_touched(made, tmp_path):
    def everything() -> dict[str, tuple[str, int]]:
        return {
            str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
            for path in made.rglob("*")
            if path.is_file()
        }

    before = everything()
    folders = ("--raw-output-dir", tmp_path / "raw", "--preprocessed-output-dir", tmp_path / "pre")
    assert run("all", "--input-dir", made, *folders, *SIZE) == 0
    assert everything() == before


def test_model_cards_will_say_what_the_studies_are(whole, merged, made, tmp_path):
    catalog = read_catalog(whole / "pre" / NAME / "uvlm/catalog.csv")
    assert catalog.name == "synthetic abdominal studies"
    settings = tmp_path / "c.json"
    settings.write_text(json.dumps({"name": "Ours"}))
    words = ("--raw-input-dir", merged, "--output-dir", tmp_path, *SIZE)
    assert run("--config-path", settings, "resize", *words) == 0
    assert read_catalog(tmp_path / NAME / "uvlm/catalog.csv").name == "Ours"


def test_nnunets_own_check_finds_nothing_wrong(merged, capsys):
    check = pytest.importorskip("nnunetv2.experiment_planning.verify_dataset_integrity")
    check.verify_dataset_integrity(str(merged / NAME), 1)
    assert "Warning" not in capsys.readouterr().out


def test_resize_takes_several_scopes_and_warns_that_nothing_is_held_out(merged, tmp_path, caplog):
    words = ("--raw-input-dir", merged, "--output-dir", tmp_path, *SIZE)
    assert run("resize", *words, "--scopes", "seg_basic", "coarse+lesions") == 0
    assert "nothing is held out" in caplog.text
    out = tmp_path / NAME / "uvlm"
    counts = {
        name: len(read_catalog(out / name / "catalog.csv").segmentation)
        for name in ("coarse", "coarse+lesions")
    }
    assert counts == {"coarse": 12, "coarse+lesions": 15}
    assert (tmp_path / "coarse" / NAME / "splits_final.json").is_file()
    assert run("verify", "--output-dir", tmp_path) == 0


def test_resize_leaves_out_what_is_in_neither_list(made, merged, tmp_path):
    lists = tmp_path / "lists"
    shutil.copytree(made / "TrainTestIDS", lists)
    train = lists / "IID_train.csv"
    lines = train.read_text().splitlines()
    train.write_text("\n".join(lines[:-1]) + "\n")
    words = ("--raw-input-dir", merged, "--output-dir", tmp_path / "pre", *SIZE)
    assert run("resize", *words, "--split-dir", lists) == 0
    rows = read_catalog(tmp_path / "pre" / NAME / "uvlm/catalog.csv").rows
    assert lines[-1] not in {row.series_id for row in rows}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shapes": [8, 8, 8]}, "did you mean 'shape'"),
        ({"scopes": ["all"]}, "unknown scope 'all'"),
        ({"report": "long"}, "report"),
        ({"shape": [0, 8, 8]}, "shape"),
    ],
)
def test_impossible_settings_are_refused_naming_the_file(settings, message, tmp_path, made, capsys):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(settings))
    words = ("merge", "--input-dir", made, "--output-dir", tmp_path / "out")
    assert run("--config-path", path, *words) == 2
    said = capsys.readouterr().err
    assert "mine.json" in said
    assert message in said
    assert not (tmp_path / "out").exists()


def test_a_wrong_folder_is_wrong_input(tmp_path, capsys):
    assert run("merge", "--input-dir", tmp_path / "none", "--output-dir", tmp_path / "out") == 2
    assert "image_only" in capsys.readouterr().err
