"""The command module of ReXGroundingCT: its commands, settings and refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.preprocessing.nnunet_raw_factory import make_chest_raw
from tests.preprocessing.raw_dataset_factory import write_description
from uvlm.errors import CatalogError, ConfigError
from uvlm.phantom.make import make_chest
from uvlm.preprocessing.catalog import read_catalog
from uvlm.preprocessing.command_config import load_config
from uvlm.preprocessing.preprocess_rexgrounding_seg import (
    RexGroundingConfig,
    check_names,
    main,
)
from uvlm.preprocessing.sources.rexgrounding_classes import CLASSES

FOLDER = "Dataset141_ReXGroundingCT"
SIZE = ["--target-size", "16", "32", "32"]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    make_chest(folder / "chest", studies=6, seed=3, shape=(24, 48, 48), min_prevalence=0.3)
    return make_chest_raw(folder / "chest", folder / "nnUNet_raw")


@pytest.fixture(scope="module")
def out(raw, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    scopes = ["--scopes", "seg_full", "seg_basic"]
    assert main(["all", *places(raw, out), *SIZE, *scopes]) == 0
    return out


def places(raw: Path, out: Path) -> list[str]:
    return ["--raw-input-dir", str(raw), "--output-dir", str(out)]


def test_all_writes_a_catalog_and_an_nnunet_dataset_per_scope(out):
    for name, count in (("fine+lesions", 48), ("coarse", 15)):
        catalog = read_catalog(out / FOLDER / "uvlm" / name / "catalog.csv", need=["mask"])
        assert catalog.name == "ReXGroundingCT"
        assert catalog.segmentation is not None
        assert len(catalog.segmentation) == count
        assert {row.split for row in catalog.rows} == {"train", "valid"}
        assert (out / name / FOLDER / "splits_final.json").is_file()


def test_verify_reads_everything_back(out, tmp_path, capsys):
    assert main(["verify", "--output-dir", str(out)]) == 0
    assert capsys.readouterr().out.count("stores read") == 2
    spoilt = shutil.copytree(out, tmp_path / "spoilt")
    store = next((spoilt / FOLDER / "uvlm/imagesTr").iterdir())
    store.write_bytes(store.read_bytes()[:-100])
    assert main(["verify", "--output-dir", str(spoilt)]) == 3
    assert store.name in capsys.readouterr().err


def test_verify_of_an_empty_folder_is_refused(tmp_path, capsys):
    assert main(["verify", "--output-dir", str(tmp_path)]) == 2
    assert "no catalog in it" in capsys.readouterr().err


@pytest.mark.parametrize(("split", "word"), [("train", "train"), ("val", "valid")])
def test_one_split_alone(raw, tmp_path, split, word):
    assert main(["all", *places(raw, tmp_path), *SIZE, "--split", split]) == 0
    catalog = read_catalog(tmp_path / FOLDER / "uvlm/catalog.csv")
    assert {row.split for row in catalog.rows} == {word}


def test_what_ct_rate_must_not_train_on_is_written_and_said(raw, tmp_path, capsys):
    """Also where the validation is not prepared; and its patients are not trained on."""
    copy = shutil.copytree(raw, tmp_path / "raw")
    trained = sorted((copy / FOLDER / "labelsTr").iterdir())[0].name.removesuffix(".nii.gz")
    patient = trained.removesuffix("_a_1")
    for path in (next((copy / FOLDER / f"{kind}Val").iterdir()) for kind in ("images", "labels")):
        end = "_0000.nii.gz" if path.parent.name == "imagesVal" else ".nii.gz"
        path.rename(path.with_name(f"{patient}_b_1{end}"))
    out = tmp_path / "out"
    assert main(["all", *places(copy, out), *SIZE, "--split", "train"]) == 0
    assert "1 validation and 0 test studies" in capsys.readouterr().err
    held_out = (out / FOLDER / "uvlm/held_out.csv").read_text().splitlines()
    assert f"{patient}_b_1,{patient}" in held_out
    catalog = read_catalog(out / FOLDER / "uvlm/catalog.csv")
    assert patient not in {row.patient_id for row in catalog.rows}


def test_the_published_configurations_names_are_refused_with_the_reason(raw, tmp_path, capsys):
    copy = shutil.copytree(raw, tmp_path / "raw")
    wrong = {name: value for name, value in CLASSES.items() if value not in (4, 17)}
    write_description(copy / FOLDER, {**wrong, "liver_right_lobe": 4, "thyroid": 17})
    assert main(["all", *places(copy, tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "rexgrounding_ct_config.json, which are wrong" in said
    assert "4 is the gallbladder" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change", [{"Heart": 22, "Aorta": 21}, {"heart": 21}, {"Something else": 48}]
)
def test_classes_numbered_otherwise_are_refused(change):
    kept = {n: v for n, v in CLASSES.items() if v not in change.values()}
    with pytest.raises(CatalogError, match="belongs"):
        check_names({**kept, **change}, Path("dataset.json"))


def test_some_of_the_classes_will_do():
    check_names({"Heart": 21, "Aorta": 22}, Path("dataset.json"))


def test_the_shipped_configuration_holds_the_defaults():
    assert load_config(RexGroundingConfig, None, "rexgrounding_ct_config.json") == (
        RexGroundingConfig()
    )


def test_a_configuration_changes_what_it_names_and_refuses_what_it_does_not_know(tmp_path, capsys):
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"shape": [8, 16, 16], "scopes": ["seg_basic_lesion"]}))
    config = load_config(RexGroundingConfig, path, "")
    assert config.spec(None).shape == (8, 16, 16)
    assert config.spec((4, 8, 8)).shape == (4, 8, 8)
    assert config.scope_names(None) == ("coarse+lesions",)
    assert config.scope_names(["seg_full", "fine+lesions"]) == ("fine+lesions",)
    path.write_text(json.dumps({"merge_lut": {}}))
    assert main(["--config-path", str(path), "verify", "--output-dir", str(tmp_path)]) == 2
    assert "merge_lut" in capsys.readouterr().err


@pytest.mark.parametrize("values", [{"scopes": ()}, {"scopes": ("fine",)}, {"shape": (0, 1, 1)}])
def test_impossible_settings_are_refused(values):
    with pytest.raises(ConfigError):
        RexGroundingConfig(**values)
