"""Batches follow from seed and step; texts are padded so that padding is never learned."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from uvlm.data.batching import DrawSampler, collate, training_sampler
from uvlm.data.config import DataConfig
from uvlm.preprocessing.catalog import Row


def draws(first: int, last: int, **change: int) -> list:
    settings = {"studies": 10, "batch_size": 4, "seed": 1} | change
    return list(DrawSampler(first=first, last=last, **settings))


def test_a_resumed_sampler_continues_the_sequence():
    assert draws(7, 20) == draws(0, 20)[7:]


def test_every_study_comes_once_per_epoch():
    flat = [draw.study for batch in draws(0, 10) for draw in batch]
    assert all(Counter(flat[i : i + 10]) == dict.fromkeys(range(10), 1) for i in (0, 10, 20, 30))


def test_epochs_differ_in_order_and_samples_in_seed():
    flat = [draw for batch in draws(0, 5) for draw in batch]
    assert [d.study for d in flat[:10]] != [d.study for d in flat[10:]]
    assert len({d.seed for d in flat}) == 20


def test_another_seed_gives_another_sequence():
    assert draws(0, 5) != draws(0, 5, seed=2)


def test_processes_share_the_sequence_without_overlap():
    alone = [d for batch in draws(0, 6) for d in batch]
    both = [draws(0, 3, processes=2, rank=rank) for rank in (0, 1)]
    together = [d for pair in zip(*both, strict=True) for batch in pair for d in batch]
    assert together == alone


@pytest.fixture
def texts() -> list:
    return [
        {
            "series_id": name,
            "tokens": torch.tensor(ids),
            "answer": torch.tensor([False] + [True] * (len(ids) - 1)),
        }
        for name, ids in (("a", [5, 6, 7]), ("b", [5, 8]))
    ]


def test_short_texts_are_padded_on_the_right(texts):
    batch = collate(texts, pad_id=9)
    assert batch["tokens"].tolist() == [[5, 6, 7], [5, 8, 9]]


def test_padding_is_no_answer(texts):
    assert collate(texts, pad_id=9)["answer"].tolist() == [
        [False, True, True],
        [False, True, False],
    ]


def test_unknown_labels_stay_unknown():
    samples = [{"series_id": "a", "labels": torch.tensor([1.0, float("nan")])}]
    assert collate(samples, pad_id=0)["labels"].isnan().tolist() == [[False, True]]


def test_half_precision_is_stacked_inside_mixed_precision_too():
    samples = [{"series_id": "a", "features": {1: torch.ones(3, 2).half()}}] * 2
    with torch.autocast("cpu", torch.bfloat16):
        features = collate(samples, pad_id=0)["features"]
    assert features[1].dtype == torch.float16


def test_features_of_a_bank_are_stacked_stage_by_stage():
    samples = [
        {"series_id": name, "features": {2: torch.full((3, 4), value), 1: torch.zeros(3, 2)}}
        for name, value in (("a", 1.0), ("b", 2.0))
    ]
    features = collate(samples, pad_id=0)["features"]
    assert {stage: tuple(value.shape) for stage, value in features.items()} == {
        1: (2, 3, 2),
        2: (2, 3, 4),
    }
    assert features[2][:, 0, 0].tolist() == [1, 2]


LENGTHS = [30, 900, 40, 700, 60, 650, 35, 800, 45, 750, 55]


def row(number: int) -> Row:
    return Row(
        series_id=f"s{number}",
        case_id="c",
        patient_id="p",
        split=None,
        image=Path("x.b2nd"),
        mask=None,
        labels=(float(number == 0), float(number % 2)),
        report="x" * LENGTHS[number],
    )


ROWS = [row(number) for number in range(len(LENGTHS))]


def sampler(**change: Any) -> DrawSampler:
    config = DataConfig(batch_size=change.pop("batch_size", 2), **change.pop("data", {}))
    settings = {"seed": 3, "first": 0, "last": 20} | change
    return training_sampler(ROWS, config, **settings)


@pytest.mark.parametrize(
    "data", [{}, {"balance": True}, {"bucket": True}, {"balance": True, "bucket": True}]
)
def test_a_step_has_the_same_studies_however_it_is_divided(data):
    """One process with a batch of 4, two with 2, one with 2 and two rounds, two with 1 and two."""

    def steps(processes: int, size: int, rounds: int) -> list:
        ranks = [
            list(
                sampler(
                    batch_size=size,
                    data=data,
                    last=20 * rounds,
                    rank=rank,
                    processes=processes,
                    accumulate=rounds,
                )
            )
            for rank in range(processes)
        ]
        flat = [d for batches in zip(*ranks, strict=True) for batch in batches for d in batch]
        return [sorted(flat[i : i + 4]) for i in range(0, len(flat), 4)]

    assert steps(1, 4, 1) == steps(2, 2, 1) == steps(1, 2, 2) == steps(2, 1, 2)


@pytest.mark.parametrize("data", [{"balance": True}, {"bucket": True}])
def test_a_resumed_balanced_or_bucketed_sampler_continues(data):
    assert list(sampler(data=data, first=7)) == list(sampler(data=data))[7:]


def test_options_change_the_order_and_only_then():
    plain = list(DrawSampler(studies=11, batch_size=2, seed=3, first=0, last=20))
    assert list(sampler()) == plain
    assert list(sampler(data={"balance": True})) != plain
    assert list(sampler(data={"bucket": True})) != plain


def test_bucketing_goes_by_the_length_of_the_reports():
    assert sampler().lengths is None
    lengths = sampler(data={"bucket": True}).lengths
    assert lengths is not None
    assert lengths.tolist() == LENGTHS


def test_texts_of_a_text_encoder_are_padded_and_masked_by_their_length():
    samples = [
        {"series_id": name, "text": torch.tensor(ids), "group": torch.tensor(group)}
        for name, ids, group in (("a", [1, 9, 2], -(2**62)), ("b", [1, 9], 5))
    ]
    batch = collate(samples, pad_id=9)
    assert batch["text"].tolist() == [[1, 9, 2], [1, 9, 9]]
    assert batch["text_mask"].tolist() == [[True, True, True], [True, True, False]]
    assert batch["group"].tolist() == [-(2**62), 5]
    assert batch["text_mask"].dtype == torch.bool


def test_features_of_slices_are_stacked():
    samples = [{"series_id": name, "slices": torch.ones(3, 2)} for name in ("a", "b")]
    assert collate(samples, pad_id=0)["slices"].shape == (2, 3, 2)
