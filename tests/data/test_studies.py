"""Catalogs are joined when they agree, divided by patient, and refused with a reason."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.toy_catalog import LABELS, SHAPE, SPEC, make_catalog
from uvlm.data.config import DataConfig
from uvlm.data.studies import load_studies
from uvlm.errors import CatalogError, ConfigError
from uvlm.preprocessing.catalog import read_catalog, write_catalog


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    (tmp_path / "toy").mkdir()
    return make_catalog(tmp_path / "toy")


def config(*catalogs: Path, **change: object) -> DataConfig:
    return DataConfig(catalog=catalogs, shape=SHAPE, val_fraction=0.3, **change)


def test_held_out_studies_are_left_out_and_the_rest_divided(catalog):
    studies = load_studies(config(catalog), ("mask", "labels", "report"))
    used = {row.series_id for row in studies.train + studies.val}
    assert used == {f"toy_{i}_1" for i in range(10)}
    assert studies.classes == ("organ", "lesion")
    assert studies.labels == LABELS
    assert studies.spec == SPEC


def test_two_catalogs_are_joined(catalog, tmp_path: Path):
    whole = read_catalog(catalog)
    other = tmp_path / "other" / "catalog.csv"
    rows = tuple(
        replace(row, series_id=f"b{row.series_id}", patient_id=f"b{row.patient_id}")
        for row in whole.rows
    )
    write_catalog(replace(whole, path=other, name="more", rows=rows))
    studies = load_studies(config(catalog, other), ("mask",))
    assert len(studies.train + studies.val) == 20
    assert studies.trained_on == f"toy + more ({len(studies.train)} series)"


def test_labels_may_differ_where_they_are_not_needed(catalog, tmp_path: Path):
    whole = read_catalog(catalog)
    rows = tuple(replace(r, series_id=f"b{r.series_id}", labels=r.labels[:1]) for r in whole.rows)
    other = replace(whole, path=tmp_path / "other" / "catalog.csv", labels=LABELS[:1], rows=rows)
    write_catalog(other)
    studies = load_studies(config(other.path, catalog), ("mask",))
    assert len(studies.train + studies.val) == 20
    assert load_studies(config(catalog, other.path), ("report",)).labels == ()
    with pytest.raises(CatalogError, match="labels differ"):
        load_studies(config(catalog, other.path), ("labels",))


def test_a_series_in_two_catalogs_is_refused(catalog, tmp_path: Path):
    (tmp_path / "other").mkdir()
    other = make_catalog(tmp_path / "other")
    with pytest.raises(CatalogError, match="toy_0_1 is also in"):
        load_studies(config(catalog, other), ("report",))


def test_labels_no_training_study_knows_are_left_out(catalog, caplog):
    whole = read_catalog(catalog)
    rows = tuple(replace(row, labels=(row.labels[0], None)) for row in whole.rows)
    write_catalog(replace(whole, rows=rows))
    studies = load_studies(config(catalog), ("labels",))
    assert studies.labels == (LABELS[0],)
    assert {len(row.labels) for row in studies.train + studies.val} == {1}
    assert LABELS[1] in caplog.text


def change_dataset(catalog: Path, key: str, value: object) -> None:
    path = catalog.parent / "dataset.json"
    content = json.loads(path.read_text())
    content[key] = value
    if key == "spec":
        content["spec_hash"] = None
    path.write_text(json.dumps(content))


def test_no_catalog_is_refused():
    with pytest.raises(ConfigError, match=r"--data\.catalog"):
        load_studies(config(), ())


def test_a_catalog_without_its_description_is_refused(catalog):
    (catalog.parent / "dataset.json").unlink()
    with pytest.raises(CatalogError, match="preprocessing is unknown"):
        load_studies(config(catalog), ())


def test_another_shape_is_refused_with_the_flag_that_helps(catalog):
    with pytest.raises(CatalogError, match=r"--data\.shape 8 16 16"):
        load_studies(replace(config(catalog), shape=(16, 16, 16)), ())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("region", "abdomen", "body region"),
        ("segmentation", {"organ": 2, "lesion": 1}, "segmentation classes"),
        ("spec", {"shape": list(SHAPE), "antialias": False}, "preprocessing"),
    ],
)
def test_catalogs_that_disagree_are_refused(catalog, tmp_path: Path, key, value, message):
    (tmp_path / "other").mkdir()
    other = make_catalog(tmp_path / "other")
    change_dataset(other, key, value)
    with pytest.raises(CatalogError, match=message):
        load_studies(config(catalog, other), ("mask",))


def test_masks_with_gaps_in_their_values_are_refused(catalog):
    change_dataset(catalog, "segmentation", {"organ": 1, "lesion": 7})
    with pytest.raises(CatalogError, match=r"\[1, 7\]"):
        load_studies(config(catalog), ("mask",))


def test_too_few_studies_to_divide_are_refused(catalog):
    whole = read_catalog(catalog)
    write_catalog(replace(whole, rows=whole.rows[:1]))
    with pytest.raises(CatalogError, match="left for training"):
        load_studies(config(catalog), ())


def ask(catalog: Path, *series: str, answers: tuple[str, ...] = ("right lung",)) -> None:
    lines = ["series_id,type,anatomy,finding,answers"]
    cell = json.dumps(list(answers)).replace('"', '""')
    lines += [f'{name},location,,nodule,"{cell}"' for name in series]
    (catalog.parent / "vqa.csv").write_text("\n".join(lines) + "\n")


def test_studies_without_a_question_are_left_out_after_the_division(catalog, caplog):
    whole = load_studies(config(catalog), ())
    asked = [whole.train[0].series_id, whole.train[1].series_id, whole.val[0].series_id]
    ask(catalog, asked[2], *asked)
    studies = load_studies(config(catalog), ("question",))
    assert [row.series_id for row in studies.train] == asked[:2]
    assert [row.series_id for row in studies.val] == asked[2:]
    assert [len(studies.questions[name]) for name in asked] == [1, 1, 2]
    assert studies.questions[asked[0]][0].answers == ("right lung",)
    assert "left out: 7 of 10 series have no question" in caplog.text


def test_held_out_questions_are_not_read_into_training(catalog):
    ask(catalog, *(f"toy_{number}_1" for number in range(12)))
    questions = load_studies(config(catalog), ("question",)).questions
    assert questions.keys() == {f"toy_{number}_1" for number in range(10)}


def test_questions_are_part_of_the_digest(catalog):
    names = [f"toy_{number}_1" for number in range(10)]
    before = load_studies(config(catalog), ()).digest
    ask(catalog, *names)
    first = load_studies(config(catalog), ("question",)).digest
    ask(catalog, *names, answers=("left lung",))
    assert len({before, first, load_studies(config(catalog), ("question",)).digest}) == 3


def test_questions_that_are_missing_or_of_other_studies_are_refused(catalog):
    with pytest.raises(CatalogError, match=r"vqa\.csv"):
        load_studies(config(catalog), ("question",))
    ask(catalog, "elsewhere_1")
    with pytest.raises(CatalogError, match="0 series are left for training"):
        load_studies(config(catalog), ("question",))


def test_the_text_of_a_text_encoder_is_the_report(catalog):
    assert load_studies(config(catalog), ("text",)) == load_studies(config(catalog), ("report",))
