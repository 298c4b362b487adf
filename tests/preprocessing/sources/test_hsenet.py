"""Studies of HSENet's lists: exact HU, true axes, no substitute for what is missing."""

import csv
import pickle
import re

import numpy as np
import pytest

from tests.preprocessing.hsenet_factory import SERIES, SHAPE, SLICES, change, hu_of, make_lists
from uvlm.data.questions import read_questions
from uvlm.errors import CatalogError, ImageError
from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.imaging.store import read_store
from uvlm.preprocessing.catalog import read_catalog
from uvlm.preprocessing.ingest import Options, prepare_dataset
from uvlm.preprocessing.sources.hsenet import features_of, list_lists

SPEC = PreprocessSpec(shape=SHAPE, clip=(-1000, 200))


@pytest.fixture
def folder(tmp_path):
    return make_lists(tmp_path / "lists")


def listed(folder, *names, **options):
    lists = [folder / f"{name}.json" for name in names or ("reports", "vqa")]
    return list_lists(lists, shape=SHAPE, slices=SLICES, **options)


def prepared(folder, *names):
    out = folder.parent / "out"
    return prepare_dataset(listed(folder, *names), out, Options(spec=SPEC)), out


def test_lists_of_the_same_volumes_are_one_listing(folder):
    listing = listed(folder)
    assert [study.series_id for study in listing.studies] == list(SERIES)
    assert [study.patient_id for study in listing.studies] == ["train_1", "train_2", "valid_1"]
    assert [study.split for study in listing.studies] == ["train", "train", "valid"]
    assert listing.studies[0].report == "Report of train_1_a_1."
    assert list(features_of(listing)) == list(SERIES)
    assert listing.rejected == ()
    assert pickle.loads(pickle.dumps(listing.studies[0])) == listing.studies[0]


def test_a_volume_gives_its_hu_along_true_axes(folder):
    volume = listed(folder).studies[1].image.read()
    assert volume.array.shape == (SHAPE[0], SHAPE[2], SHAPE[1])
    assert np.array_equal(volume.array.transpose(0, 2, 1), hu_of(1))
    assert "geometry is unknown" in volume.provenance.notes[0]


def test_prepared_the_hu_are_stored_unchanged_and_turned(folder):
    done, out = prepared(folder)
    assert (done.prepared, done.rejected) == (3, ())
    catalog = read_catalog(out / "catalog.csv", need=("report",))
    for number, row in enumerate(catalog.rows):
        assert np.array_equal(read_store(row.image), hu_of(number))
    assert {row.extra["geometry"] for row in catalog.rows} == {"unknown"}
    again, _ = prepared(folder)
    assert again.kept == 3


def test_the_files_may_have_y_before_x(folder):
    image = folder / f"{SERIES[0]}_3D_features.npy"
    np.save(image, np.load(image).transpose(0, 1, 3, 2))
    volume = listed(folder, axes="zyx").studies[0].image.read()
    assert np.array_equal(volume.array, hu_of(0))
    assert np.array_equal(volume.affine, np.eye(4))


def test_questions_lie_beside_the_catalog_with_every_answer(folder):
    change(folder / "vqa.json", "train", 2, anatomy="")
    done, out = prepared(folder)
    asked = [q for q in read_questions(done.catalogs[0]) if q.series_id == SERIES[0]]
    assert [(q.type, q.finding, q.answers) for q in asked] == [
        ("location", "nodule", ("lung/lung/right lung", "lung/lung/left lung"))
    ]
    with (out / "vqa_rejected.csv").open() as file:
        bad = list(csv.DictReader(file))
    assert [(b["series_id"], b["finding"], b["reason"]) for b in bad] == [
        (SERIES[0], "cyst", "no answer")
    ]


def test_a_missing_or_impossible_file_rejects_its_study_alone(folder):
    (folder / f"{SERIES[0]}_3D_features.npy").unlink()
    features = folder / f"{SERIES[1]}_biomedclip_features.npy"
    np.save(features, np.zeros((SLICES[0], SLICES[1] + 1), np.float32))
    done, out = prepared(folder)
    assert done.prepared == 1
    assert [each.series_id for each in done.rejected] == list(SERIES[:2])
    assert "_3D_features.npy: no such file" in done.rejected[0].error
    assert "slice features of (6, 6), not 6 x 5" in done.rejected[1].error
    assert [row.series_id for row in read_catalog(out / "catalog.csv").rows] == [SERIES[2]]
    assert {q.series_id for q in read_questions(out)} == {SERIES[2]}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (lambda x: x * 2 - 1, "not within 0..1"),
        (lambda x: np.where(x > 0.5, np.nan, x), "NaN or infinite"),
        (lambda x: x[:, :-1], r"an array of \(1, 19, 44, 48\), not \(1, 20, 44, 48\)"),
        (lambda x: x[0], r"an array of \(20, 44, 48\)"),
    ],
)
def test_what_is_no_such_volume_is_refused(folder, values, message):
    path = folder / f"{SERIES[0]}_3D_features.npy"
    np.save(path, values(np.load(path)))
    with pytest.raises(ImageError, match=message):
        listed(folder).studies[0].image.read()


def test_a_study_without_report_and_questions_is_rejected(folder):
    change(folder / "reports.json", "train", 0, text=" ")
    listing = listed(folder, "reports")
    assert [each.series_id for each in listing.rejected] == [SERIES[0]]
    assert "no report" in listing.rejected[0].error
    assert len(listed(folder).studies) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": "Another."}, "another report"),
        ({"biomedclip_features": "other.npy"}, "other features"),
    ],
)
def test_lists_that_disagree_are_refused(folder, changes, message):
    other = folder / "other.json"
    other.write_text((folder / "reports.json").read_text())
    change(other, "train", 1, **changes)
    with pytest.raises(CatalogError, match=rf"train\[1\]: {message} than in .*reports.json"):
        listed(folder, "reports", "other")


def test_two_images_of_one_name_are_refused(folder):
    image = str(folder / "b" / f"{SERIES[0]}.npy")
    change(folder / "reports.json", "train", 1, image=image)
    with pytest.raises(CatalogError, match=f"{re.escape(image)} has the name of"):
        listed(folder, "reports")


def test_names_of_bimcv_r_tell_patient_and_session(folder):
    name = "sub-S03047_ses-E07985_run-1_bp-chest_ct.npy"
    change(folder / "reports.json", "train", 0, image=name)
    study = listed(folder, "reports").studies[0]
    assert (study.patient_id, study.case_id) == ("sub-S03047", "sub-S03047_ses-E07985")
