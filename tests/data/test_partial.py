"""Datasets of other labels and classes train together when asked to, and only then."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.toy_catalog import LABELS, SHAPE, make_catalog
from uvlm.data.batching import collate
from uvlm.data.config import AugmentConfig, DataConfig
from uvlm.data.dataset import Draw, StudyDataset
from uvlm.data.partial import PartialRow
from uvlm.data.studies import Studies, load_studies
from uvlm.errors import CatalogError
from uvlm.imaging.store import read_store
from uvlm.preprocessing.catalog import read_catalog, write_catalog


@pytest.fixture(scope="module")
def catalogs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One with `LABELS` and organ, lesion; one whose studies know other ones in part."""
    folder = tmp_path_factory.mktemp("partial")
    (folder / "first").mkdir()
    first = make_catalog(folder / "first")
    whole = read_catalog(first)
    rows = tuple(
        replace(
            row,
            series_id=f"b{row.series_id}",
            patient_id=f"b{row.patient_id}",
            labels=(row.labels[1], float(i % 2)),
        )
        for i, row in enumerate(whole.rows)
    )
    other = replace(
        whole,
        path=folder / "second" / "catalog.csv",
        name="second",
        labels=("Effusion", "Stone"),
        segmentation={"vessel": 1, "organ": 2},
        rows=rows,
    )
    write_catalog(other)
    return first, other.path


def load(catalogs: tuple[Path, ...], *need: str, partial: bool = True) -> Studies:
    config = DataConfig(catalog=catalogs, shape=SHAPE, val_fraction=0.3, partial=partial)
    return load_studies(config, need)  # type: ignore[arg-type]


def test_labels_are_joined_first_catalog_first_and_unknown_where_absent(catalogs):
    studies = load(catalogs, "labels")
    assert studies.labels == ("Nodule", "Effusion", "Stone")
    before = {row.series_id: row.labels for path in catalogs for row in read_catalog(path).rows}
    for row in studies.train + studies.val:
        known = before[row.series_id]
        expected = (None, *known) if row.series_id.startswith("b") else (*known, None)
        assert row.labels == expected


def test_what_a_catalog_does_not_know_is_told(catalogs, caplog):
    with caplog.at_level(logging.INFO):
        load(catalogs, "labels", "mask")
    assert f"{catalogs[0]}: unknown to its studies: Stone" in caplog.text
    assert f"{catalogs[1]}: unknown to its studies: lesion" in caplog.text


def test_without_the_option_the_label_the_catalog_and_the_option_are_named(catalogs):
    with pytest.raises(CatalogError) as caught:
        load(catalogs, "labels", partial=False)
    for part in (str(catalogs[0]), str(catalogs[1]), "Stone", "Nodule", "--data.partial"):
        assert part in str(caught.value)
    with pytest.raises(CatalogError, match=r"only here: vessel; only there: lesion.*data\.partial"):
        load(catalogs, "mask", partial=False)


def test_the_option_changes_nothing_where_catalogs_agree(catalogs):
    plain, partial = (load(catalogs[:1], "labels", "mask", partial=p) for p in (False, True))
    assert plain == partial
    assert not any(isinstance(row, PartialRow) for row in partial.train)


def test_one_thing_in_two_spellings_is_refused(catalogs, tmp_path: Path):
    whole = read_catalog(catalogs[1])
    write_catalog(replace(whole, path=tmp_path / "catalog.csv", labels=("effusion", "Stone")))
    with pytest.raises(CatalogError, match="'effusion' is spelled 'Effusion' in"):
        load((catalogs[0], tmp_path / "catalog.csv"), "labels")


def test_masks_are_read_in_the_runs_values_with_what_they_were_drawn_for(catalogs):
    studies = load(catalogs, "mask")
    assert studies.classes == ("organ", "lesion", "vessel")
    config = DataConfig(shape=SHAPE, augment=AugmentConfig(spatial=False, intensity=False))
    dataset = StudyDataset(studies.train, config, studies.spec, need=("mask",))
    samples = [dataset[Draw(i, 0)] for i in range(len(dataset))]
    for row, sample in zip(studies.train, samples, strict=True):
        second = row.series_id.startswith("b")
        assert sample["known"].tolist() == [True, True, not second, second]
        assert row.mask is not None
        stored = read_store(row.mask)
        # In the second catalog 1 is vessel (3 in the run) and 2 is organ (1 in the run).
        expected = np.array([0, 3, 1] if second else [0, 1, 2])[stored]
        np.testing.assert_array_equal(sample["seg"][0].numpy(), expected)
    assert collate(samples, 0)["known"].dtype == torch.bool


def test_a_mask_with_a_value_its_catalog_does_not_name_is_refused(catalogs, tmp_path: Path):
    whole = read_catalog(catalogs[1])
    write_catalog(replace(whole, path=tmp_path / "catalog.csv", segmentation={"vessel": 1}))
    studies = load((catalogs[0], tmp_path / "catalog.csv"), "mask")
    row = next(r for r in studies.train if isinstance(r, PartialRow) and len(r.values) == 2)
    with pytest.raises(CatalogError, match="holds the value 2, its catalog names classes up to 1"):
        row.in_run(np.array([0, 2], np.int16))


def test_a_class_that_no_training_study_knows_is_refused(catalogs, tmp_path: Path):
    whole = read_catalog(catalogs[1])
    held_out = tuple(replace(row, split="valid") for row in whole.rows)
    write_catalog(replace(whole, path=tmp_path / "catalog.csv", rows=held_out))
    with pytest.raises(CatalogError, match=r"the class 'vessel': .* all held out"):
        load((catalogs[0], tmp_path / "catalog.csv"), "mask")


def test_reports_of_catalogs_that_differ_need_no_option(catalogs):
    assert load(catalogs, "report", partial=False).labels == ()


def test_balancing_reports_reads_the_labels_too(catalogs):
    config = DataConfig(catalog=catalogs, shape=SHAPE, val_fraction=0.3, balance=True)
    with pytest.raises(CatalogError, match="labels differ"):
        load_studies(config, ("report",))
    studies = load_studies(replace(config, partial=True), ("report",))
    assert {len(row.labels) for row in studies.train} == {3}


@pytest.mark.parametrize(
    "change",
    [
        {"report": "Findings: Something else."},
        {"labels": (None, None)},
        {"patient_id": "another"},
    ],
)
@pytest.mark.parametrize("part", ["train", "val"])
def test_the_digest_changes_with_what_a_study_says(catalogs, part, change):
    studies = load(catalogs[:1], "labels", "report")
    assert replace(studies, labels=("Nodule", "Other")).digest != studies.digest
    assert replace(studies, classes=("organ",)).digest != studies.digest
    first, *rest = getattr(studies, part)
    changed = replace(studies, **{part: (replace(first, **change), *rest)})
    assert changed.digest != studies.digest


def test_the_digest_ignores_where_files_lie(catalogs):
    studies = load(catalogs[:1], "labels")
    moved = tuple(replace(row, image=Path("elsewhere.b2nd")) for row in studies.train)
    assert replace(studies, train=moved).digest == studies.digest
    assert studies.labels == LABELS
