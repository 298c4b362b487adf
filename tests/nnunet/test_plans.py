"""Every plan comes from one generator, and nnU-Net reads what it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.data.toy_catalog import LABELS, make_catalog
from uvlm.errors import ConfigError, InputError
from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.nnunet.plans import Kind, write_plan
from uvlm.nnunet.settings import read_settings
from uvlm.preprocessing.nnunet_plans import Case, dataset_of, plans_of
from uvlm.preprocessing.sources import abdomen_classes, rexgrounding_classes

NAME = "Dataset145_Toy"
SMALL = {"features_per_stage": [4, 8], "n_blocks_per_stage": [1, 1]}


@pytest.fixture
def preprocessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_catalog(tmp_path_factory.mktemp("studies"))


def prepared(preprocessed: Path, classes: dict[str, int]) -> Path:
    """What `uvlm prepare --nnunet` leaves of texts, for volumes of the paper's shape."""
    folder = preprocessed / NAME
    folder.mkdir()
    case = Case(series_id="a", shape=(192, 256, 256), spacing=(1.5, 1, 1), foreground=(0, 50))
    spec = PreprocessSpec()
    (folder / "nnUNetPlans.json").write_text(json.dumps(plans_of(NAME, [case], spec)))
    (folder / "dataset.json").write_text(json.dumps(dataset_of(classes, spec, 1)))
    return folder


def kwargs_of(path: Path) -> dict[str, Any]:
    plan = json.loads(path.read_text())
    kwargs: dict[str, Any] = plan["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    return kwargs


SCOPES = {
    "seg_coarse": "coarse",
    "seg_coarse_lesions": "coarse+lesions",
    "seg_fine_lesions": "fine+lesions",
}


@pytest.mark.parametrize("kind", SCOPES)
@pytest.mark.parametrize("region", ["chest", "abdomen"])
def test_segmentation_plans_of_both_regions(preprocessed, region, kind):
    if region == "abdomen":
        classes = dict(abdomen_classes.SCOPES[SCOPES[kind]].classes)
    else:
        classes = dict(rexgrounding_classes.scope_named(SCOPES[kind]).classes)
    folder = prepared(preprocessed, classes)
    path = write_plan(kind, NAME, region=region)
    assert path == folder / f"UVLMPlans_{region}_{kind}.json"
    plan = json.loads(path.read_text())
    configuration = plan["configurations"]["3d_fullres"]
    assert configuration["patch_size"] == [96, 128, 128]
    assert configuration["batch_size"] == 2
    assert configuration["data_identifier"] == "nnUNetPlans_3d_fullres"
    assert kwargs_of(path)["features_per_stage"] == [32, 64, 128, 256, 320, 320]
    assert kwargs_of(path)["region"] == region
    others = {"seg_coarse", "seg_fine_lesions"} - {kind}
    with pytest.raises(InputError, match="classes are not the"):
        write_plan(others.pop(), NAME, region=region)


@pytest.mark.parametrize(
    ("kind", "mode", "frozen"),
    [("cls", "only_cls", False), ("report", "only_report", True), ("both", "both", False)],
)
def test_plans_for_labels_and_reports(preprocessed, catalog, kind, mode, frozen):
    path = write_plan(kind, NAME, catalogs=[catalog], changes=SMALL)
    settings = read_settings(kwargs_of(path), path)
    assert path.name == f"UVLMPlans_chest_{kind}.json"
    assert (settings.mode, settings.frozen) == (mode, frozen)
    assert settings.csv_paths == (catalog,)
    assert settings.cls_columns == (() if kind == "report" else LABELS)
    assert json.loads((path.parent / "dataset.json").read_text())["labels"] == {"background": 0}


def test_nnunet_reads_the_plans(preprocessed, catalog):
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    path = write_plan("cls", NAME, catalogs=[catalog], changes=SMALL)
    manager = PlansManager(json.loads(path.read_text()))
    configuration = manager.get_configuration("3d_fullres")
    dataset = json.loads((path.parent / "dataset.json").read_text())
    assert configuration.patch_size == [8, 16, 16]
    assert configuration.network_arch_init_kwargs["mode"] == "only_cls"
    assert manager.get_label_manager(dataset).foreground_labels == []


def test_the_network_shrinks_with_the_volumes_and_can_be_changed(preprocessed, catalog):
    path = write_plan("cls", NAME, catalogs=[catalog])
    assert kwargs_of(path)["n_stages"] == 2  # 8 voxels leave 4 in the second
    changed = write_plan(
        "cls",
        NAME,
        catalogs=[catalog],
        name="Changed",
        batch_size=6,
        changes={**SMALL, "num_epochs": 3, "initial_lr": 1e-3},
    )
    kwargs = kwargs_of(changed)
    assert kwargs["features_per_stage"] == [4, 8]
    assert (kwargs["num_epochs"], kwargs["initial_lr"]) == (3, 1e-3)
    assert json.loads(changed.read_text())["configurations"]["3d_fullres"]["batch_size"] == 6


def test_what_exists_is_kept(preprocessed, catalog):
    path = write_plan("cls", NAME, catalogs=[catalog])
    before = path.read_bytes()
    assert write_plan("cls", NAME, catalogs=[catalog]) == path  # the same again
    with pytest.raises(InputError, match="exists with other content"):
        write_plan("cls", NAME, catalogs=[catalog], batch_size=4)
    assert path.read_bytes() == before


def test_wrong_requests_are_refused_and_nothing_is_written(preprocessed, catalog):
    with pytest.raises(ConfigError, match="'num_epoch'; did you mean 'num_epochs'"):
        write_plan("cls", NAME, catalogs=[catalog], changes={"num_epoch": 3})
    with pytest.raises(ConfigError, match="needs --catalog"):
        write_plan("report", NAME, region="chest")
    with pytest.raises(ConfigError, match="no body region"):
        write_plan("seg", NAME)
    with pytest.raises(ConfigError, match="several body regions: abdomen, chest"):
        write_plan("cls", NAME, catalogs=[catalog], region="abdomen")
    with pytest.raises(ConfigError, match="unknown kind"):
        write_plan("segmentation", NAME, region="chest")
    with pytest.raises(InputError, match=r"no such file\. Run nnUNetv2_plan_and_preprocess"):
        write_plan("seg", NAME, region="chest")
    with pytest.raises(ConfigError, match="would replace the plan it starts from"):
        write_plan("seg", NAME, region="chest", name="nnUNetPlans")
    with pytest.raises(ConfigError, match="letters, digits"):
        write_plan("cls", NAME, catalogs=[catalog], name="../other")
    with pytest.raises(ConfigError, match="--patch is for segmentation"):
        write_plan("cls", NAME, catalogs=[catalog], patch=(8, 8, 8))
    for number in (0, -1):
        with pytest.raises(ConfigError, match=f"at least 1, got {number}"):
            write_plan("cls", NAME, catalogs=[catalog], batch_size=number)
    assert list(preprocessed.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("cls", {"features_per_stage": 4}, "features_per_stage: expected a list, got 4"),
        ("cls", {"n_stages": "two"}, "n_stages: expected int"),
        ("cls", {"n_stages": 7}, "n_stages is 7"),
        ("cls", {"kernel_sizes": [5, 5]}, "kernel_sizes must be 3"),
        ("cls", {"cls_columns": ["Nodul"]}, "no label 'Nodul'"),
        ("cls", {"initial_lr": -1.0}, "lr"),
        ("report", {"layers_per_stage": 0}, "layers_per_stage must be at least 1"),
        ("report", {"run": {"optim.emma": 1}}, "did you mean 'ema'"),
        ("seg", {"mode": "only_cls"}, "'mode' means nothing to a segmentation"),
        ("seg", {"num_epochs": "two"}, "num_epochs: expected int"),
    ],
)
def test_what_the_trainer_would_refuse_is_refused_in_the_plan(
    preprocessed, catalog, kind, changes, message
):
    folder = prepared(preprocessed, {"organ": 1})
    path = folder / f"UVLMPlans_chest_{kind}.json"
    with pytest.raises(ConfigError, match=message):
        write_plan(kind, NAME, catalogs=[catalog], changes=changes)
    assert not path.exists()


def test_every_key_of_the_network_can_be_set(preprocessed, catalog):
    prepared(preprocessed, {"organ": 1})
    changes = {"n_stages": 3, "n_conv_per_stage_decoder": [2, 2]}
    kwargs = kwargs_of(write_plan("seg", NAME, region="chest", changes=changes))
    assert kwargs["n_conv_per_stage_decoder"] == [2, 2]
    assert kwargs["features_per_stage"] == [32, 64, 128]
    assert kwargs["strides"] == [[1] * 3, [2] * 3, [2] * 3]


def test_a_plan_for_the_readmes_commands_may_have_the_default_name(preprocessed, catalog):
    path = write_plan("both", NAME, catalogs=[catalog], name="nnUNetPlans")
    assert json.loads(path.read_text())["plans_name"] == "nnUNetPlans"


def test_a_plan_that_turns_volumes_is_refused(preprocessed):
    folder = prepared(preprocessed, {"organ": 1})
    plan = json.loads((folder / "nnUNetPlans.json").read_text())
    plan["transpose_forward"] = [2, 0, 1]
    (folder / "nnUNetPlans.json").write_text(json.dumps(plan))
    with pytest.raises(InputError, match="left and right cannot be told"):
        write_plan("seg", NAME, region="chest")


def test_a_patch_is_cut_to_what_the_stages_halve(preprocessed):
    prepared(preprocessed, {"organ": 1})
    path = write_plan("seg", NAME, region="chest", patch=(50, 70, 70))
    configuration = json.loads(path.read_text())["configurations"]["3d_fullres"]
    assert configuration["architecture"]["arch_kwargs"]["n_stages"] == 5
    assert configuration["patch_size"] == [48, 64, 64]


def test_the_command_knows_the_kinds():
    from uvlm.cli.nnunet import KINDS

    assert get_args(Kind) == KINDS
