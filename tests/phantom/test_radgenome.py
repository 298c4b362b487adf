"""The layout of RadGenome-ChestCT: true tables, masks on their images, left stays left."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from uvlm.imaging.preprocess import grid_of, prepare_labels, preset
from uvlm.imaging.readers import read_volume
from uvlm.phantom import radgenome
from uvlm.phantom.make import make_chest
from uvlm.phantom.radgenome_truth import LOBE_PATHS, region_of_sentence
from uvlm.phantom.source import class_names, read_source_folder
from uvlm.preprocessing.sources.radgenome import list_radgenome
from uvlm.preprocessing.study import Listing

SPEC = preset("paper", (48, 64, 64))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("source") / "chest"
    make_chest(out, studies=5, seed=7, shape=(32, 64, 64), min_prevalence=0.4)
    return out


@pytest.fixture(scope="module")
def written(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("radgenome")
    radgenome.write(source, out, seed=0)
    return out


@pytest.fixture(scope="module")
def listing(written: Path) -> Listing:
    return list_radgenome(written)


def centroid(affine: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """LPS mm."""
    z, y, x = np.argwhere(inside).mean(axis=0)
    return (affine @ (x, y, z, 1))[:3]


def test_the_source_module_reads_it_back(source, listing):
    truth = {study.series_id: study for study in read_source_folder(source)}
    assert {study.series_id for study in listing.studies} == set(truth)
    assert (listing.name, listing.rejected, listing.excluded) == (
        "synthetic chest studies",
        (),
        (),
    )
    for study in listing.studies:
        true = truth[study.series_id]
        assert study.split == true.split
        present = [name.lower() for name, value in true.labels.items() if value == "1"]
        assert json.loads(study.extra["disorders"]) == present
        assert study.report


def test_all_four_questions_are_asked_and_some_have_several_answers(listing):
    rows = [dict(zip(listing.study_tables["vqa.csv"][0], row, strict=True)) for row in
            listing.study_tables["vqa.csv"][1:]]  # fmt: skip
    assert {row["type"] for row in rows} == {"abnormality", "location", "presence", "size"}
    several = {row["type"] for row in rows if len(json.loads(row["answers"])) > 1}
    assert {"abnormality", "location"} <= several
    assert all(json.loads(r["millimetres"]) for r in rows if r["type"] == "size")
    assert len(listing.tables["vqa_rejected.csv"]) == 1


def test_presence_says_what_the_labels_say(source, listing):
    truth = {study.series_id: study.labels for study in read_source_folder(source)}
    rows = [row for row in listing.study_tables["vqa.csv"][1:] if row[1] == "presence"]
    assert rows
    for series, _, _, finding, answers, _ in rows:
        by_name = {name.lower(): value for name, value in truth[series].items()}
        assert json.loads(answers) == [{"1": "yes", "0": "no"}[by_name[finding]]]


def test_left_stays_left(source, listing):
    classes = class_names(source)
    value = listing.scopes[0].classes["left lung upper lobe"]
    truth = {study.series_id: study for study in read_source_folder(source)}
    for study in listing.studies:
        true = truth[study.series_id]
        image = study.image.read()
        assert study.mask is not None
        assert true.mask is not None
        mask = study.mask.read(image).volume
        original = read_volume(true.mask, labels=True)
        prepared, grid = prepare_labels(mask, SPEC), grid_of(image, SPEC)
        there = centroid(mask.affine, mask.array == value)
        stored = centroid(np.array(grid.affine), prepared == value)
        here = centroid(original.affine, original.array == classes["lung_upper_lobe_left"])
        limit = 0.01 * np.array(image.shape[::-1]) * np.array(image.spacing[::-1])
        assert (np.abs(there - here) < limit).all()
        assert (np.abs(stored - here) < limit).all()


@pytest.mark.parametrize(
    ("sentence", "path"),
    [
        ("A nodule of 5 mm is seen in the upper lobe of the left lung.",
         LOBE_PATHS["lung_upper_lobe_left"]),
        ("Consolidation is seen in the upper lobe of the left lung and the middle lobe of the "
         "right lung.", "lung/lung"),
        ("Left pleural effusion is seen, 20 mm thick.", "pleura"),
        ("Heart size is normal.", "heart"),
        ("Metallic sternotomy sutures are seen.", ""),
    ],
)  # fmt: skip
def test_sentences_meet_their_region(sentence, path):
    assert region_of_sentence(sentence) == path


def test_equal_input_gives_equal_bytes(source, written, tmp_path):
    radgenome.write(source, tmp_path, seed=0)
    files = sorted(path.relative_to(written) for path in written.rglob("*") if path.is_file())
    assert [f for f in files if (written / f).read_bytes() != (tmp_path / f).read_bytes()] == []
