"""`uvlm inspect` tells the truth about every file, in text and JSON alike."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.imaging.bodies import abdomen, chest
from uvlm.cli.main import main
from uvlm.imaging.volume import Volume


def save(path: Path, volume: Volume) -> Path:
    """Write a volume as NIfTI."""
    affine = np.diag([-1, -1, 1, 1.0]) @ volume.affine
    nibabel.save(nibabel.Nifti1Image(volume.array.transpose(2, 1, 0), affine), path)
    return path


@pytest.fixture(scope="module")
def ct(tmp_path_factory) -> Path:
    return save(tmp_path_factory.mktemp("ct") / "chest.nii.gz", chest())


def inspect_json(capsys, *arguments: str | Path) -> dict:
    assert main(["inspect", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_text_tells_geometry_values_verdict_and_region(ct, capsys):
    assert main(["inspect", str(ct)]) == 0
    text = capsys.readouterr().out
    for words in (
        "chest.nii.gz",
        "48 x 96 x 96 voxels",
        "5 x 4 x 4 mm",
        "LPS",
        "hu (usable)",
        "240 x 384 x 384 mm",
        "region    chest",
        "soft tissue: peak at",
    ):
        assert words in text


def test_json_tells_the_same(ct, capsys):
    facts = inspect_json(capsys, ct)
    assert (facts["kind"], facts["format"], facts["orientation"]) == ("image", "nifti", "LPS")
    assert facts["shape"] == [48, 96, 96]
    assert facts["spacing_mm"] == [5, 4, 4]
    assert facts["affine"][0] == [4, 0, 0, 0]
    assert (facts["oblique_deg"], facts["tilt_deg"]) == (0, 0)
    assert len(facts["checksum"]) == 64
    assert (facts["audit"]["verdict"], facts["audit"]["region"]) == ("hu", "chest")


def test_a_bad_verdict_is_no_failure(tmp_path, capsys):
    volume = abdomen()
    stored = Volume(
        array=volume.array + np.int16(1024), affine=volume.affine, provenance=volume.provenance
    )
    path = save(tmp_path / "stored.nii.gz", stored)
    assert main(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    assert "shifted (not usable)" in text
    assert "Subtract 1024" in text


def test_an_oblique_volume_is_said_to_be(tmp_path, capsys):
    volume = abdomen()
    c, s = np.cos(np.radians(20)), np.sin(np.radians(20))
    turn = np.array([[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1.0]])
    turned = Volume(array=volume.array, affine=turn @ volume.affine, provenance=volume.provenance)
    facts = inspect_json(capsys, save(tmp_path / "oblique.nii.gz", turned))
    assert facts["oblique_deg"] == pytest.approx(20, abs=0.1)
    assert facts["tilt_deg"] == pytest.approx(0, abs=0.1)


def test_a_mask_is_said_to_be_one_and_counted(tmp_path, capsys):
    labels = np.zeros((4, 16, 16), np.uint8)
    labels[1, 2:4, 2:7] = 3
    labels[2, 5, 5] = 9
    base = abdomen()
    mask = Volume(array=labels, affine=base.affine, provenance=base.provenance)
    path = save(tmp_path / "mask.nii.gz", mask)
    facts = inspect_json(capsys, path, "--picture", tmp_path / "mask.png")
    assert facts["kind"] == "mask"
    assert facts["labels"] == [
        {"label": 3, "voxels": 10, "volume_ml": 0.8},
        {"label": 9, "voxels": 1, "volume_ml": 0.08},
    ]
    assert (tmp_path / "mask.png").exists()
    assert main(["inspect", str(path)]) == 0
    assert "a mask, not a CT" in capsys.readouterr().out


def test_the_picture_is_written(ct, tmp_path):
    assert main(["inspect", str(ct), "--picture", str(tmp_path / "planes.png")]) == 0
    assert (tmp_path / "planes.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_never_replaces_the_ct(ct, capsys):
    before = ct.read_bytes()
    assert main(["inspect", str(ct), "--picture", str(ct)]) == 2
    assert "ends in .png" in capsys.readouterr().err
    assert ct.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"hello", b"\x1f\x8b" + b"\x00" * 40])
def test_what_cannot_be_read_is_one_error_and_exit_code_2(tmp_path, capsys, content):
    path = tmp_path / "broken.nii.gz"
    path.write_bytes(content)
    assert main(["inspect", str(path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"uvlm inspect: {path}: ")
    assert printed.err.count("\n") == 1


def test_the_read_series_is_marked(real_data, capsys):
    folder = real_data / "dcmqi" / "ct-3slice"
    facts = inspect_json(capsys, folder)
    assert [row["chosen"] for row in facts["series"]] == [True]
    assert "localizers" in facts["series_rule"]
    asked = inspect_json(capsys, folder, "--series", "#1")
    assert asked["series"][0]["reason"] == "asked for"


@pytest.mark.parametrize(
    ("path", "region"),
    [
        ("totalsegmentator/example_ct.nii.gz", "abdomen"),
        ("cip/ct-64.nii.gz", "chest"),
        ("crlm/CRLM-CT-1004.nii.gz", "abdomen"),
        ("dcmqi/ct-3slice", "abdomen"),
    ],
)
def test_real_studies_are_hu_of_their_region(real_data, capsys, path, region):
    audit = inspect_json(capsys, real_data / path)["audit"]
    assert (audit["verdict"], audit["region"]) == ("hu", region)


@pytest.mark.parametrize("path", ["cip/lm-64.nii.gz", "dcmqi/liver_spine_seg.nrrd"])
def test_real_masks_are_masks(real_data, capsys, path):
    facts = inspect_json(capsys, real_data / path)
    assert facts["kind"] == "mask"
    assert facts["labels"]
