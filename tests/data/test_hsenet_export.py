"""From HSENet's files to a catalog with a slice bank, and back to the same files."""

import json

import numpy as np
import pytest
import torch

from tests.preprocessing.hsenet_factory import SERIES, SHAPE, SLICES, change, make_lists
from uvlm.data.hsenet_export import export_lists
from uvlm.data.hsenet_features import ENCODER, import_features
from uvlm.errors import CatalogError, ImageError, InputError
from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.preprocessing.ingest import Options, prepare_dataset
from uvlm.preprocessing.sources.hsenet import features_of, list_lists

SPEC = PreprocessSpec(shape=SHAPE, clip=(-1000, 200))


def prepared(folder, out, spec=SPEC):
    """(catalog, features of the listing)"""
    lists = [folder / "reports.json", folder / "vqa.json"]
    listing = list_lists(lists, shape=SHAPE, slices=SLICES)
    done = prepare_dataset(listing, out, Options(spec=spec))
    return done.catalogs[0], features_of(listing)


@pytest.fixture
def folder(tmp_path):
    return make_lists(tmp_path / "lists")


@pytest.fixture
def catalog(folder, tmp_path):
    return prepared(folder, tmp_path / "prepared")[0]


def test_features_become_a_slice_bank(folder, tmp_path):
    catalog, features = prepared(folder, tmp_path / "prepared")
    bank = import_features(features, catalog, tmp_path / "bank", SLICES)
    assert (bank.slices, bank.width, bank.encoder) == (*SLICES, ENCODER)
    assert bank.missing(SERIES) == []
    for number, name in enumerate(SERIES):
        assert torch.equal(bank.read(name), torch.full(SLICES, number + 0.5, dtype=torch.half))


def test_features_lost_since_are_an_error(folder, tmp_path):
    catalog, features = prepared(folder, tmp_path / "prepared")
    features[SERIES[1]].unlink()
    with pytest.raises(ImageError, match="no such file"):
        import_features(features, catalog, tmp_path / "bank", SLICES)


def test_everything_goes_round(folder, tmp_path):
    catalog, features = prepared(folder, tmp_path / "prepared")
    bank = import_features(features, catalog, tmp_path / "bank", SLICES)
    out = tmp_path / "export"
    done = export_lists(catalog, out, bank=bank, shape=SHAPE)
    assert (done.volumes, done.notes) == (3, ())
    assert sorted(path.name for path in done.lists) == [
        "ct_rate_dataset_ordered.json",
        "ct_rate_dataset_ordered_with_biomedclip.json",
        "dataset.json",
        "radgenome_vqa_location.json",
    ]
    renamed = {
        "reports.json": "ct_rate_dataset_ordered_with_biomedclip.json",
        "vqa.json": "radgenome_vqa_location.json",
    }
    for before, after in renamed.items():
        ours, theirs = (json.loads(path.read_text()) for path in (out / after, folder / before))
        for split, entries in theirs.items():
            texts = [{k: v for k, v in e.items() if "/" not in v} for e in entries]
            assert [{k: v for k, v in e.items() if "/" not in v} for e in ours[split]] == texts
            for mine, other in zip(ours[split], entries, strict=True):
                image, original = np.load(mine["image"]), np.load(other["image"])
                assert image.dtype == np.float32
                assert np.array_equal(image, original)
                assert np.array_equal(
                    np.load(mine["biomedclip_features"]), np.load(other["biomedclip_features"])
                )
    again = list_lists(done.lists, shape=SHAPE, slices=SLICES)
    assert [(s.series_id, s.split, s.report) for s in again.studies] == [
        (name, "train" if name.startswith("train") else "valid", f"Report of {name}.")
        for name in SERIES
    ]


def test_stage_1_names_no_features(catalog, tmp_path):
    done = export_lists(catalog, tmp_path / "export", shape=SHAPE)
    (path,) = done.lists
    entries = json.loads(path.read_text())
    assert {key for group in entries.values() for e in group for key in e} == {"image", "text"}
    assert done.notes == ("6 questions need slice features (a bank).",)


def test_the_files_can_have_y_before_x(catalog, tmp_path):
    for axes in ("zxy", "zyx"):
        export_lists(catalog, tmp_path / axes, shape=SHAPE, axes=axes)
    name = f"train/{SERIES[0]}_3D_features.npy"
    swapped = np.load(tmp_path / "zxy" / name).transpose(0, 1, 3, 2)
    assert np.array_equal(np.load(tmp_path / "zyx" / name), swapped)


def test_a_bank_that_lacks_a_study_leaves_nothing(folder, tmp_path):
    catalog, features = prepared(folder, tmp_path / "prepared")
    del features[SERIES[2]]
    bank = import_features(features, catalog, tmp_path / "bank", SLICES)
    with pytest.raises(InputError, match=f"no features of {SERIES[2]}"):
        export_lists(catalog, tmp_path / "export", bank=bank, shape=SHAPE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bank", "lists", "prepared"]


def test_a_folder_that_holds_something_is_refused(catalog, tmp_path):
    with pytest.raises(InputError, match="not an empty folder"):
        export_lists(catalog, tmp_path / "lists", shape=SHAPE)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (PreprocessSpec(shape=(20, 48, 48)), r"its volumes are \(20, 48, 48\), not \(20, 48, 44\)"),
        (PreprocessSpec(shape=SHAPE, clip=(-500, 200)), "narrower than"),
    ],
)
def test_other_volumes_are_refused(folder, tmp_path, spec, message):
    catalog, _ = prepared(folder, tmp_path / "prepared", spec)
    with pytest.raises(CatalogError, match=message):
        export_lists(catalog, tmp_path / "export", shape=SHAPE)


def test_a_catalog_with_nothing_to_learn_is_refused(folder, tmp_path):
    for split, count in (("train", 2), ("validation", 1)):
        for number in range(count):
            change(folder / "reports.json", split, number, text=None, abnormality="a", anatomy="")
    listing = list_lists([folder / "reports.json"], shape=SHAPE, slices=SLICES)
    done = prepare_dataset(listing, tmp_path / "prepared", Options(spec=SPEC))
    with pytest.raises(CatalogError, match="neither reports nor questions"):
        export_lists(done.catalogs[0], tmp_path / "export", shape=SHAPE)
