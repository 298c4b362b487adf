"""`uvlm phantom` from the command line."""

from __future__ import annotations

import pytest

from uvlm.cli.main import main


def test_make_says_what_was_made_and_what_was_left_out(tmp_path, capsys):
    arguments = [
        "phantom",
        "make",
        str(tmp_path / "out"),
        "--studies",
        "3",
        "--shape",
        "16",
        "32",
        "32",
    ]
    assert main([*arguments, "--sheet", str(tmp_path / "sheet.png")]) == 0
    text = capsys.readouterr().out
    assert "3 chest studies of 16 x 32 x 32 voxels" in text
    assert "Bronchiectasis: left out. lumen and wall of a bronchus of at most 19 mm" in text
    assert "Drawn from --shape 24 40 40." in text
    assert (tmp_path / "sheet.png").is_file()
    assert main(["phantom", "sheet", str(tmp_path / "out"), str(tmp_path / "again.png")]) == 0
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "sheet.png").read_bytes()


def test_abdominal_studies_are_a_region(tmp_path, capsys):
    out = tmp_path / "out"
    code = main(
        [
            "phantom",
            "make",
            str(out),
            "--studies",
            "1",
            "--region",
            "abdomen",
            "--shape",
            "16",
            "32",
            "32",
        ]
    )
    assert code == 0
    assert (out / "AbdomenAtlas3.0MiniWithMeta.csv").is_file()
    assert "1 abdomen studies" in capsys.readouterr().out


def test_chest_studies_may_have_another_layout(tmp_path, capsys):
    shape = ["--shape", "16", "32", "32"]
    arguments = [str(tmp_path / "out"), "--studies", "1", *shape, "--layout", "ct-rate-v1"]
    assert main(["phantom", "make", *arguments]) == 0
    assert (tmp_path / "out/dataset/train/train_1/train_1_a/train_1_a_1.nii.gz").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    capsys.readouterr()
    arguments[0] = str(tmp_path / "other")
    assert main(["phantom", "make", *arguments, "--region", "abdomen"]) == 2
    assert "--layout ct-rate-v1 is of chest studies" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_a_folder_in_use_is_the_users_mistake(tmp_path, capsys):
    (tmp_path / "mine").write_text("keep")
    assert main(["phantom", "make", str(tmp_path), "--studies", "1"]) == 2
    assert "not an empty folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["make"],
        ["make", "x", "--studies", "two"],
        ["make", "x", "--studies", "1", "--region", "knee"],
        ["make", "x", "--studies", "1", "--layout", "dicom"],
    ],
)
def test_wrong_arguments_exit_with_usage(arguments):
    with pytest.raises(SystemExit) as stop:
        main(["phantom", *arguments])
    assert stop.value.code == 2


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_is_the_users_error(tmp_path, capsys, out):
    (tmp_path / "file").write_text("mine")
    assert main(["phantom", "make", str(tmp_path / out), "--studies", "1"]) == 2
    assert str(tmp_path / out) in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_a_sheet_never_replaces_another_file_and_nothing_is_made_for_it(tmp_path, capsys):
    (tmp_path / "ct.nii.gz").write_text("mine")
    sheet = str(tmp_path / "ct.nii.gz")
    arguments = [str(tmp_path / "out"), "--studies", "1", "--sheet", sheet]
    assert main(["phantom", "make", *arguments]) == 2
    assert "ends in .png" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["ct.nii.gz"]
    assert (tmp_path / "ct.nii.gz").read_text() == "mine"
