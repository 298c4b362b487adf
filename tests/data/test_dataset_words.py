"""What a text encoder and a decoder of answers learn from: texts, questions, features of slices."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.toy_catalog import SHAPE, SPEC, make_study
from uvlm.data.config import AugmentConfig, DataConfig
from uvlm.data.dataset import Draw, StudyDataset, report_group
from uvlm.data.questions import QuestionRow
from uvlm.errors import CatalogError
from uvlm.imaging.preprocess import prepare, preset
from uvlm.imaging.store import meta_of, read_store, write_store
from uvlm.imaging.volume import Provenance, Volume
from uvlm.preprocessing.catalog import Row
from uvlm.text.prompts import Example

PLAIN = AugmentConfig(spatial=False, intensity=False)
WHOLE = DataConfig(shape=SHAPE, augment=PLAIN)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    folder = tmp_path_factory.mktemp("toy")
    return [make_study(folder, number, held_out=False) for number in range(2)]


class Slices:
    """Of each study features that count the slices."""

    def read(self, series: str) -> torch.Tensor:
        return torch.arange(4.0).reshape(4, 1).half()


def encode_text(report: str, rng: np.random.Generator | None) -> list[int]:
    return [1, 0 if rng is None else int(rng.integers(1, 1000)), len(report)]


def asked(row: Row, *answers: str, finding: str = "nodule") -> QuestionRow:
    return QuestionRow(
        series_id=row.series_id, type="location", anatomy="", finding=finding, answers=answers
    )


def questions(rows: list[Row]) -> dict[str, tuple[QuestionRow, ...]]:
    return {
        row.series_id: (asked(row, "a", "b"), asked(row, "c", finding="effusion")) for row in rows
    }


def answered(rows: list[Row], *, seed: int = 0, train: bool = False) -> tuple[str, str, int | None]:
    """(finding, answer, what the wording was drawn with) of a sample."""
    seen: list[tuple[str, str, int | None]] = []

    def encode(row: QuestionRow, answer: str, rng: np.random.Generator | None) -> Example:
        seen.append((row.finding, answer, None if rng is None else int(rng.integers(2**31))))
        return Example(ids=[5, 6, 7], prompt=slice(0, 1), answer=slice(1, 3))

    dataset = StudyDataset(
        rows,
        WHOLE,
        SPEC,
        need=("question",),
        train=train,
        questions=questions(rows),
        encode_question=encode,
    )
    sample = dataset[Draw(0, seed)]
    assert sample["tokens"].tolist() == [5, 6, 7]
    assert sample["answer"].tolist() == [False, True, True]
    return seen[0]


def test_equal_reports_are_of_one_group_whatever_their_white_space():
    assert report_group("No nodule.") == report_group("  No\n nodule. ")
    assert report_group("No nodule.") != report_group("A nodule.")
    # Of another process, machine and day: Python's own hash would differ.
    assert report_group("No nodule.") == -6025251553141970535


def test_a_text_is_encoded_with_its_group(rows):
    dataset = StudyDataset(rows, WHOLE, SPEC, need=("text",), encode_text=encode_text)
    sample = dataset[Draw(0, 3)]
    assert sample["text"].tolist() == [1, 0, len(rows[0].report or "")]
    assert (sample["text"].dtype, sample["group"].dtype) == (torch.int64, torch.int64)
    assert sample["group"].item() == report_group(rows[0].report or "")


def test_training_draws_the_text_from_the_draw_alone(rows):
    def texts(**more: Any) -> list[int]:
        dataset = StudyDataset(
            rows, WHOLE, SPEC, train=True, encode_text=encode_text, **{"need": ("text",)} | more
        )
        return [dataset[Draw(0, seed)]["text"][1].item() for seed in range(10)]

    assert texts() == texts(need=("text", "mask"), slices=Slices())
    assert len(set(texts())) > 5


def test_validation_asks_the_first_question_and_takes_the_first_answer(rows):
    assert {answered(rows, seed=seed) for seed in range(20)} == {("nodule", "a", None)}


def test_training_asks_every_question_and_takes_every_answer(rows):
    drawn = [answered(rows, seed=seed, train=True) for seed in range(400)]
    shares = Counter((finding, answer) for finding, answer, _ in drawn)
    # Each question is as likely, and so is each of its answers.
    assert shares.keys() == {("nodule", "a"), ("nodule", "b"), ("effusion", "c")}
    assert 160 < shares["effusion", "c"] < 240
    assert 70 < shares["nodule", "a"] < 130
    assert len({wording for *_, wording in drawn}) > 390
    assert drawn[:5] == [answered(rows, seed=seed, train=True) for seed in range(5)]


def test_features_of_slices_come_with_the_volume(rows):
    sample = StudyDataset(rows, WHOLE, SPEC, slices=Slices())[Draw(0, 0)]
    assert sample["slices"].flatten().tolist() == [0, 1, 2, 3]
    assert sample["slices"].dtype == torch.float32


def test_a_mirrored_volume_has_its_slices_turned_over(rows):
    config = replace(WHOLE, augment=replace(PLAIN, mirror=(0,)))
    dataset = StudyDataset(rows, config, SPEC, train=True, slices=Slices())
    plain = StudyDataset(rows, WHOLE, SPEC)[Draw(0, 0)]["image"]
    seen = set()
    for seed in range(20):
        sample = dataset[Draw(0, seed)]
        turned = sample["slices"][0].item() == 3
        assert torch.equal(sample["image"], plain.flip(1) if turned else plain)
        seen.add(turned)
    assert seen == {True, False}


@pytest.mark.parametrize("need", ["report", "text", "question"])
def test_words_without_what_encodes_them_are_refused(rows, need):
    with pytest.raises(ValueError, match=f"need '{need}' lacks what encodes it"):
        StudyDataset(rows, WHOLE, SPEC, need=(need,))


def test_a_report_and_a_question_at_once_are_refused(rows):
    encoders: dict[str, Any] = {"encode": print, "encode_question": print}
    with pytest.raises(ValueError, match="not both"):
        StudyDataset(rows, WHOLE, SPEC, need=("report", "question"), **encoders)


def test_a_study_without_a_question_is_refused_by_name(rows):
    few: Any = questions(rows[:1]) | {rows[1].series_id: ()}
    with pytest.raises(CatalogError, match="series toy_1_1 has no question, as 1 of 2"):
        StudyDataset(rows, WHOLE, SPEC, need=("question",), questions=few, encode_question=Any)


def test_a_patch_is_scaled_by_the_lowest_and_highest_voxel_of_its_volume(rows, tmp_path: Path):
    spec = preset("hsenet", SHAPE)
    hu = np.random.default_rng(0).normal(-600, 300, SHAPE).astype(np.float32)
    note = Provenance(path="ct", format="nifti", checksum="0")
    prepared = prepare(Volume(array=hu, affine=np.eye(4), provenance=note), spec)
    write_store(tmp_path / "ct.b2nd", prepared.array, meta_of(prepared))
    there = [replace(rows[0], image=tmp_path / "ct.b2nd")]
    whole = StudyDataset(there, WHOLE, spec)[Draw(0, 0)]["image"]
    np.testing.assert_allclose(whole[0], prepared.normalised(), atol=1e-6)
    patches = StudyDataset(there, replace(WHOLE, patch=(2, 4, 4)), spec)
    windows = whole[0].unfold(0, 2, 1).unfold(1, 4, 1).unfold(2, 4, 1)
    patch = patches[Draw(0, 5)]["image"][0]
    assert (windows == patch).flatten(3).all(-1).any()
    assert read_store(tmp_path / "ct.b2nd").dtype == np.int16
