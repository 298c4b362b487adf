"""`uvlm measure`: one mask file or a folder of them, names, JSON, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.test_inspect import save
from tests.imaging.bodies import abdomen
from uvlm.cli.main import main
from uvlm.imaging.volume import Volume

BODY = abdomen(slices=12)


def label_map() -> np.ndarray:
    labels = np.zeros(BODY.shape, np.uint8)
    labels[4:6, 40:50, 40:50] = 1
    labels[8, 40:45, 60:70] = 2
    return labels


def as_mask(labels: np.ndarray) -> Volume:
    return Volume(array=labels, affine=BODY.affine, provenance=BODY.provenance)


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    return save(tmp_path / "ct.nii.gz", BODY), save(tmp_path / "m.nii.gz", as_mask(label_map()))


def measured(capsys, tmp_path, ct: Path, mask: Path, *more: str) -> list[dict]:
    out = tmp_path / "out" / "m.json"
    assert main(["measure", str(ct), str(mask), "--json", str(out), *more]) == 0
    rows = json.loads(out.read_text())["classes"]
    table = capsys.readouterr().out
    assert all(row["name"] in table for row in rows)
    return rows


def test_labels_are_measured_and_named(files, tmp_path, capsys):
    (tmp_path / "names.json").write_text('{"1": "spleen", "2": "liver"}')
    rows = measured(capsys, tmp_path, *files, "--names", str(tmp_path / "names.json"))
    assert [(row["name"], row["voxels"]) for row in rows] == [("spleen", 200), ("liver", 50)]
    assert rows[0]["volume_ml"] == pytest.approx(200 * 0.08)
    assert rows[0]["mean_hu"] == pytest.approx(BODY.array[4:6, 40:50, 40:50].mean())


def test_names_may_stand_first(files, tmp_path, capsys):
    (tmp_path / "names.json").write_text('{"background": 0, "spleen": 1, "liver": 2}')
    rows = measured(capsys, tmp_path, *files, "--names", str(tmp_path / "names.json"))
    assert [row["name"] for row in rows] == ["spleen", "liver"]


def test_a_folder_of_masks_gives_the_same(files, tmp_path, capsys):
    folder = tmp_path / "masks"
    folder.mkdir()
    for label, name in ((1, "spleen"), (2, "liver"), (3, "missing")):
        one = (label_map() == label).astype(np.uint8)
        save(folder / f"{name}.nii.gz", as_mask(one))
    single = {row["voxels"]: row["mean_hu"] for row in measured(capsys, tmp_path, *files)}
    rows = measured(capsys, tmp_path, files[0], folder)
    assert {row["name"]: row["voxels"] for row in rows} == {
        "spleen": 200, "liver": 50, "missing": 0,
    }  # fmt: skip
    assert {row["voxels"]: row["mean_hu"] for row in rows if row["voxels"]} == single


@pytest.mark.parametrize("names", ["[]", "not json", '{"a": "b"}', '{"1": 2.5}', '{"x": true}'])
def test_a_table_of_names_that_is_none_is_refused(files, tmp_path, capsys, names):
    (tmp_path / "names.json").write_text(names)
    assert main(["measure", *map(str, files), "--names", str(tmp_path / "names.json")]) == 2
    assert "names.json" in capsys.readouterr().err


def test_another_grid_is_refused_naming_both(files, tmp_path, capsys):
    other = save(tmp_path / "other.nii.gz", as_mask(label_map()[:5]))
    assert main(["measure", str(files[0]), str(other)]) == 2
    error = capsys.readouterr().err
    assert "other.nii.gz" in error
    assert "ct.nii.gz" in error


def test_swapped_arguments_are_refused(files, capsys):
    assert main(["measure", str(files[1]), str(files[0])]) == 2
    assert "m.nii.gz" in capsys.readouterr().err


def test_an_empty_folder_is_refused(files, tmp_path, capsys):
    (tmp_path / "none").mkdir()
    assert main(["measure", str(files[0]), str(tmp_path / "none")]) == 2
    assert "a folder without masks" in capsys.readouterr().err


def test_two_classes_in_one_file_of_a_folder_are_refused(files, tmp_path, capsys):
    (tmp_path / "masks").mkdir()
    save(tmp_path / "masks" / "both.nii.gz", as_mask(label_map()))
    assert main(["measure", str(files[0]), str(tmp_path / "masks")]) == 2
    assert "labels [1, 2] in one file" in capsys.readouterr().err


def test_a_ct_that_is_not_hu_is_measured_with_a_warning(files, tmp_path, caplog, capsys):
    stored = Volume(
        array=BODY.array + np.int16(1024), affine=BODY.affine, provenance=BODY.provenance
    )
    ct = save(tmp_path / "stored.nii.gz", stored)
    measured(capsys, tmp_path, ct, files[1])
    assert "the means are not HU" in caplog.text
    assert json.loads((tmp_path / "out" / "m.json").read_text())["hu_verdict"] == "shifted"


def test_totalsegmentator_files_reproduce_its_statistics(real_data, tmp_path, capsys):
    folder = real_data / "totalsegmentator"
    rows = measured(capsys, tmp_path, folder / "example_ct_sm.nii.gz", folder / "example_seg_fast")
    expected = json.loads((folder / "example_seg_fast" / "statistics.json").read_text())
    found = {
        row["name"]: (round(row["volume_ml"] * 1000, 3), round(row["mean_hu"] or 0.0, 5))
        for row in rows
    }
    assert len(found) == 117
    assert found == {name: (e["volume"], e["intensity"]) for name, e in expected.items()}


@pytest.mark.parametrize("out", ["ct.nii.gz", "names.json"])
def test_numbers_never_replace_what_was_given(files, tmp_path, capsys, out):
    names = tmp_path / "names.json"
    names.write_text('{"1": "spleen", "2": "liver"}')
    (tmp_path / "ct.nii.gz").write_bytes(files[0].read_bytes())
    before = (tmp_path / out).read_bytes()
    arguments = ["--names", str(names), "--json", str(tmp_path / out)]
    assert main(["measure", *map(str, files), *arguments]) == 2
    assert "ends in .json" in capsys.readouterr().err
    assert (tmp_path / out).read_bytes() == before
