"""Batches follow from seed and step; texts are padded so that padding is never learned."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from uvlm.data.batching import DrawSampler, collate


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
