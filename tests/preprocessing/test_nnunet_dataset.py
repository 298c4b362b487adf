"""What stock nnU-Net finds in a dataset written without it, and what is refused."""

from __future__ import annotations

import json
import os
import pickle
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from uvlm.errors import CatalogError, ConfigError, ImageError
from uvlm.imaging.nifti import read_nifti
from uvlm.imaging.preprocess import Prepared, PreprocessSpec, prepare
from uvlm.imaging.volume import Provenance, Volume
from uvlm.models.config import EncoderConfig
from uvlm.preprocessing.catalog import Row
from uvlm.preprocessing.nnunet_case import _class_locations
from uvlm.preprocessing.nnunet_dataset import (
    NnunetName,
    check_dataset,
    write_case,
    write_dataset,
)
from uvlm.preprocessing.nnunet_plans import BLOCKS, CASES, FEATURES, PATCH, network_for
from uvlm.preprocessing.split import fold_of

SHAPE = (16, 32, 24)
SPEC = PreprocessSpec(shape=SHAPE)
CLASSES = {"organ": 1, "lesion": 2}


def make_study(
    seed: int, shape: tuple[int, int, int] = SHAPE, spec: PreprocessSpec = SPEC
) -> tuple[Prepared, np.ndarray]:
    rng = np.random.default_rng(seed)
    hu = rng.normal(-800, 100, shape)
    labels = np.zeros(shape, np.uint8)
    labels[2:9, 6:20, 5:15] = 1
    labels[4:6, 8:11, 9:12] = 2
    hu[labels == 1] += 850
    hu[0, 0, :3] = (-1024, 3071, 3000)
    affine = np.diag([0.75, 0.75, 1.5 + seed / 10, 1.0])
    affine[:3, 3] = (-120.5, 33.0, 9.25)
    note = Provenance(path=f"study_{seed}", format="nifti", checksum=f"{seed:064d}")
    volume = Volume(array=hu.astype(np.float32), affine=affine, provenance=note)
    return prepare(volume, spec), labels


def row(series: str, patient: str, split: str | None = None, masked: bool = True) -> Row:
    return Row(
        series_id=series,
        case_id=series,
        patient_id=patient,
        split=split,
        image=Path(f"{series}.b2nd"),
        mask=Path(f"{series}_m.b2nd") if masked else None,
        labels=(),
        report=None,
    )


def patients() -> list[str]:
    """Eight, of every fold at least one and of fold 0 two."""
    wanted, found = [0, 1, 2, 3, 4, 0, 1, 2], []
    for number in range(1000):
        if wanted and fold_of(f"p{number}") == wanted[0]:
            found.append(f"p{number}")
            wanted.pop(0)
    return found


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preprocessed") / NnunetName(7, "Toy").folder
    rows = [row(f"{name}_1", name) for name in patients()]
    for number, each in enumerate(rows):
        assert write_case(folder, each.series_id, *make_study(number)) > 0
    others = [row("text", "a", masked=False), row("official", "b", "test")]
    write_dataset(folder, CLASSES, SPEC, [*rows, *others])
    return folder


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def test_arrays_hold_the_normalised_volume_and_the_mask(dataset: Path):
    prepared, labels = make_study(3)
    name = dataset / CASES / f"{patients()[3]}_1"
    image = blosc2.open(f"{name}.b2nd")[:]
    assert (image.dtype, image.shape) == (np.float32, (1, *SHAPE))
    error = np.abs(image[0].astype(float) - prepared.normalised()) * prepared.std
    assert 0 < error.max() < 0.5, "HU"
    seg = blosc2.open(f"{name}_seg.b2nd")[:]
    assert seg.dtype == np.int8
    np.testing.assert_array_equal(seg[0], labels)


def test_rounding_costs_less_than_half_a_hu_on_the_whole_scale(tmp_path: Path):
    spec = PreprocessSpec(shape=(8, 24, 24), antialias=False)
    ramp = np.linspace(-1024, 3071, 8 * 24 * 24, dtype=np.float32).reshape(8, 24, 24)
    note = Provenance(path="ramp", format="nifti", checksum="0" * 64)
    prepared = prepare(Volume(array=ramp, affine=np.eye(4), provenance=note), spec)
    write_case(tmp_path, "ramp", prepared, np.zeros((8, 24, 24), np.uint8))
    image = blosc2.open(str(tmp_path / CASES / "ramp.b2nd"))[:][0].astype(float)
    back = image * prepared.std + prepared.mean
    assert np.abs(back - prepared.array).max() < 0.5


def test_the_same_studies_give_the_same_bytes(dataset: Path, tmp_path: Path):
    folder = tmp_path / dataset.name
    for number in (1, 0):
        write_case(folder, f"{patients()[number]}_1", *make_study(number))
    again = content(folder)
    assert len(again) == 8
    assert again == {name: content(dataset)[name] for name in again}


def test_class_locations_are_voxels_of_their_class(tmp_path: Path):
    spec = PreprocessSpec(shape=(32, 32, 32))
    prepared, _ = make_study(0, spec.shape, spec)
    labels = np.zeros(spec.shape, np.uint16)
    labels[3:30] = 5
    labels[31, 31, 31] = 300
    write_case(tmp_path, "a", prepared, labels)
    properties = pickle.loads((tmp_path / CASES / "a.pkl").read_bytes())
    found = properties["class_locations"]
    assert {value: len(where) for value, where in found.items()} == {5: 10_000, 300: 1}
    for value, where in found.items():
        assert (where[:, 0] == 0).all()
        assert len(np.unique(where, axis=0)) == len(where)
        assert (labels[tuple(where[:, 1:].T)] == value).all()
    assert blosc2.open(str(tmp_path / CASES / "a_seg.b2nd")).dtype == np.int16
    truth = read_nifti(tmp_path / "gt_segmentations" / "a.nii.gz", labels=True)
    np.testing.assert_array_equal(truth.array, labels)


@settings(deadline=None, max_examples=50)
@given(arrays(np.uint8, (5, 6, 7), elements=st.integers(0, 9)))
def test_every_class_has_locations_and_each_is_a_voxel_of_it(labels: np.ndarray):
    found = _class_locations("a", labels)
    assert set(found) == set(np.unique(labels).tolist()) - {0}
    for value, where in found.items():
        voxels = {tuple(each) for each in where.tolist()}
        assert voxels == {(0, *each) for each in np.argwhere(labels == value).tolist()}


def test_the_truth_lies_where_the_patient_lies(dataset: Path):
    prepared, labels = make_study(2)
    truth = read_nifti(dataset / "gt_segmentations" / f"{patients()[2]}_1.nii.gz", labels=True)
    np.testing.assert_array_equal(truth.array, labels)
    np.testing.assert_allclose(truth.affine, prepared.grid.affine, atol=1e-4)


def test_plans_are_the_papers_network():
    encoder = EncoderConfig()
    assert (encoder.features, encoder.blocks) == (FEATURES, BLOCKS)
    assert network_for((192, 256, 256)) == (PATCH, 6)


@pytest.mark.parametrize("shape", [(6, 6, 6), (16, 32, 24), (48, 100, 100), (97, 129, 500)])
def test_smaller_volumes_get_a_patch_that_fits_them_and_their_stages(shape):
    patch, stages = network_for(shape)
    assert 2 <= stages <= 6
    assert all(p <= n and p % 2 ** (stages - 1) == 0 for p, n in zip(patch, shape, strict=True))
    assert min(patch) // 2 ** (stages - 1) >= 3


def test_a_volume_too_small_for_a_unet_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="at least 6 voxels"):
        check_dataset(tmp_path, CLASSES, PreprocessSpec(shape=(5, 32, 32)))


def test_texts_describe_the_dataset(dataset: Path):
    described, plans = read(dataset, "dataset.json"), read(dataset, "nnUNetPlans.json")
    assert described["labels"] == {"background": 0, "organ": 1, "lesion": 2}
    assert described["numTraining"] == 8
    assert plans["dataset_name"] == "Dataset007_Toy"
    configuration = plans["configurations"]["3d_fullres"]
    assert configuration["patch_size"] == [16, 32, 24]
    assert configuration["spacing"] == pytest.approx([1.85, 0.75, 0.75])
    fingerprint = read(dataset, "dataset_fingerprint.json")
    hu = np.concatenate([p.array[labels > 0] for p, labels in map(make_study, range(8))])
    properties = fingerprint["foreground_intensity_properties_per_channel"]["0"]
    assert properties["mean"] == pytest.approx(hu.mean(), abs=5)
    assert properties["std"] == pytest.approx(hu.std(), rel=0.05)
    assert len(fingerprint["spacings"]) == len(fingerprint["shapes_after_crop"]) == 8


def test_folds_hold_every_case_once_and_no_held_out_one(dataset: Path):
    splits = read(dataset, "splits_final.json")
    names = [f"{name}_1" for name in patients()]
    assert sorted(name for fold in splits for name in fold["val"]) == sorted(names)
    assert splits[0]["val"] == sorted([names[0], names[5]])
    assert not {"official", "text"} & {name for fold in splits for name in fold["train"]}


def test_a_case_is_kept_and_a_broken_off_one_completed(dataset: Path):
    name = f"{patients()[1]}_1"
    before = content(dataset)
    assert write_case(dataset, name, *make_study(1)) == 0
    # As a kill leaves it: the image moves last.
    (dataset / CASES / f"{name}.b2nd").unlink()
    (dataset / CASES / f"{name}.pkl").unlink()
    (dataset / f".{name}.tmp").mkdir()
    (dataset / f".{name}.tmp" / "half").touch()
    assert write_case(dataset, name, *make_study(1)) > 0
    assert content(dataset) == before


@pytest.mark.parametrize("moved", range(4))
def test_a_kill_between_two_files_leaves_no_case_and_the_next_run_makes_it(
    tmp_path: Path, monkeypatch, moved: int
):
    whole = tmp_path / "whole"
    write_case(whole, "a", *make_study(1))
    killed = tmp_path / "killed"
    left = iter(range(moved))

    def move(source: Path, target: Path) -> None:
        if next(left, None) is None:
            os._exit(9)
        os.rename(source, target)

    child = os.fork()
    if child == 0:
        monkeypatch.setattr("uvlm.preprocessing.nnunet_case.os.replace", move)
        write_case(killed, "a", *make_study(1))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert not (killed / CASES / "a.b2nd").exists()
    assert write_case(killed, "a", *make_study(1)) > 0
    assert content(killed) == content(whole)


@pytest.mark.parametrize("which", ["image", "mask", "spec"])
def test_another_case_of_the_name_is_refused_and_left_alone(dataset: Path, which: str):
    prepared, labels = make_study(4)
    if which == "image":
        prepared, _ = make_study(5)
    elif which == "mask":
        labels = np.roll(labels, 1)
    else:
        prepared, _ = make_study(4, spec=replace(SPEC, clip=(-1000.0, 1000.0)))
    before = content(dataset)
    with pytest.raises(ImageError, match="another case has this name"):
        write_case(dataset, f"{patients()[4]}_1", prepared, labels)
    assert content(dataset) == before


@pytest.mark.parametrize("name", ["a.b2nd", "a_seg.b2nd", "a.pkl"])
def test_files_of_another_origin_are_left_alone(tmp_path: Path, name: str):
    (tmp_path / CASES).mkdir()
    (tmp_path / CASES / name).write_bytes(b"mine")
    with pytest.raises(ImageError, match="another case has this name"):
        write_case(tmp_path, "a", *make_study(0))
    assert content(tmp_path) == {f"{CASES}/{name}": b"mine"}


@pytest.mark.parametrize("labels", [np.full(SHAPE, -1), np.zeros(SHAPE), np.full(SHAPE, 40000)])
def test_labels_that_are_no_class_values_are_refused(tmp_path: Path, labels: np.ndarray):
    with pytest.raises(ImageError, match="class values"):
        write_case(tmp_path, "a", make_study(0)[0], labels)
    assert content(tmp_path) == {}


def test_a_name_nnunet_takes_for_a_masks_is_refused(tmp_path: Path):
    with pytest.raises(ImageError, match="ends in _seg"):
        write_case(tmp_path, "scan_seg", *make_study(0))


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(ImageError, match="could not be written"):
            write_case(tmp_path, "a", *make_study(0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert content(tmp_path) == {}


@pytest.mark.parametrize("classes", [{}, {"organ": 2}, {"organ": 1, "ignore": 2}])
def test_class_tables_nnunet_cannot_train_are_refused(dataset: Path, classes: dict[str, int]):
    before = content(dataset)
    with pytest.raises(ConfigError):
        write_dataset(dataset, classes, SPEC, [row(f"{patients()[0]}_1", patients()[0])])
    assert content(dataset) == before


def test_another_dataset_in_the_folder_is_refused(dataset: Path):
    before = content(dataset)
    for classes, spec in (({"liver": 1}, SPEC), (CLASSES, replace(SPEC, antialias=False))):
        with pytest.raises(CatalogError, match="another dataset"):
            write_dataset(dataset, classes, spec, [])
    assert content(dataset) == before


def test_missing_cases_and_empty_masks_are_refused(tmp_path: Path):
    folder = tmp_path / "Dataset001_A"
    with pytest.raises(CatalogError, match="there is no such case"):
        write_dataset(folder, CLASSES, SPEC, [row("a", "a")])
    with pytest.raises(CatalogError, match="none of 1 rows"):
        write_dataset(folder, CLASSES, SPEC, [row("a", "a", masked=False)])
    write_case(folder, "a", make_study(0)[0], np.zeros(SHAPE, np.uint8))
    with pytest.raises(CatalogError, match="none of 1 masks"):
        write_dataset(folder, CLASSES, SPEC, [row("a", "a")])
    assert not (folder / "dataset.json").exists()


def test_configurations_of_the_users_stay_in_the_plans(tmp_path: Path):
    folder = tmp_path / "Dataset001_A"
    write_case(folder, "a", *make_study(0))
    (doubt,) = write_dataset(folder, CLASSES, SPEC, [row("a", "a")])
    assert "cannot train fold [0, 1, 2, 3, 4]" in doubt
    plans = read(folder, "nnUNetPlans.json")
    plans["configurations"]["big"] = {"inherits_from": "3d_fullres", "batch_size": 4}
    (folder / "nnUNetPlans.json").write_text(json.dumps(plans))
    write_case(folder, "b", *make_study(1))
    doubts = write_dataset(folder, CLASSES, SPEC, [row("b", "b"), row("a", "c", "test")])
    assert "1 cases are in no fold" in doubts[-1]
    after = read(folder, "nnUNetPlans.json")["configurations"]
    assert after["big"] == {"inherits_from": "3d_fullres", "batch_size": 4}
    assert after["3d_fullres"]["spacing"] == pytest.approx([1.6, 0.75, 0.75])


@pytest.mark.parametrize(("number", "name"), [(0, "A"), (1000, "A"), (1, ""), (1, "../A")])
def test_impossible_dataset_names_are_refused(number: int, name: str):
    with pytest.raises(ConfigError):
        NnunetName(number, name)


def test_the_folder_is_named_as_nnunet_looks_for_it():
    name = NnunetName(45, "AbdomenAtlas3.0Mini")
    assert name.folder == "Dataset045_AbdomenAtlas3.0Mini"


# What follows asks stock nnU-Net.


def test_stock_nnunet_reads_the_plans(dataset: Path):
    from nnunetv2.preprocessing.normalization.map_channel_name_to_normalization import (
        get_normalization_scheme,
    )
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = PlansManager(str(dataset / "nnUNetPlans.json"))
    configuration = plans.get_configuration("3d_fullres")
    described = read(dataset, "dataset.json")
    labels = plans.get_label_manager(described)
    assert labels.foreground_labels == [1, 2]
    assert plans.image_reader_writer_class.__name__ == "SimpleITKIO"
    assert configuration.preprocessor_class.__name__ == "DefaultPreprocessor"
    scheme = get_normalization_scheme(described["channel_names"]["0"])
    assert configuration.normalization_schemes == [scheme.__name__]
    shape = tuple(configuration.patch_size)
    maps = np.zeros((3, *shape), np.float32)
    spacing = configuration.spacing
    for resample in (configuration.resampling_fn_data, configuration.resampling_fn_probabilities):
        assert resample(maps, shape, spacing, spacing).shape == (3, *shape)


def test_stock_nnunet_draws_batches_with_foreground(dataset: Path):
    import torch
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    described = read(dataset, "dataset.json")
    labels = PlansManager(str(dataset / "nnUNetPlans.json")).get_label_manager(described)
    cases = nnUNetDatasetBlosc2(str(dataset / CASES))
    assert sorted(cases.identifiers) == sorted(f"{name}_1" for name in patients())
    patch = (6, 8, 8)
    loader = nnUNetDataLoader(cases, 2, patch, patch, labels, oversample_foreground_percent=1.0)
    np.random.seed(0)
    for _ in range(5):
        batch = next(loader)
        assert batch["data"].shape == (2, 1, *patch)
        assert batch["data"].dtype == torch.float32
        assert all((target > 0).any() for target in batch["target"])
    whole = nnUNetDataLoader(cases, 1, SHAPE, SHAPE, labels)
    batch = next(whole)
    prepared, mask = make_study([f"{name}_1" for name in patients()].index(batch["keys"][0]))
    error = np.abs(batch["data"][0, 0].numpy() - prepared.normalised()).max()
    assert error * prepared.std < 0.5, "HU"
    np.testing.assert_array_equal(batch["target"][0, 0].numpy(), mask)
    case = blosc2.open(str(dataset / CASES / f"{batch['keys'][0]}.b2nd"), mmap_mode="r")
    np.testing.assert_array_equal(case[:][0], batch["data"][0, 0].numpy())
