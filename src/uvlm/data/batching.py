"""Samples to batches, in an order that follows from seed and step alone.

Sample number n of a run (counted over steps, accumulation rounds, processes and places in the
batch) is study `permutation(seed, epoch)[n % studies]` with its own seed. A resumed run needs to
know only its step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Sampler

from uvlm.data.dataset import Draw, Sample, StudyDataset

__all__ = ["Batch", "DrawSampler", "collate", "training_batches", "validation_batches"]

Batch = dict[str, Any]
"""As `Sample` with a leading axis B; tokens and answer are padded on the right."""


@dataclass(frozen=True)
class DrawSampler(Sampler[list[Draw]]):
    """Lists of draws for batches `first` to `last` (counted from 0, `last` excluded).

    Of `processes` processes each takes every `processes`-th batch, beginning with its own rank.
    """

    studies: int
    batch_size: int
    seed: int
    first: int
    last: int
    rank: int = 0
    processes: int = 1

    def __len__(self) -> int:
        return max(self.last - self.first, 0)

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch, order = -1, np.empty(0, np.int64)
        for batch in range(self.first, self.last):
            start = (batch * self.processes + self.rank) * self.batch_size
            draws = []
            for n in range(start, start + self.batch_size):
                if n // self.studies != epoch:
                    epoch = n // self.studies
                    order = np.random.default_rng((self.seed, epoch)).permutation(self.studies)
                sample_seed = np.random.SeedSequence((self.seed, n)).generate_state(1)[0]
                draws.append(Draw(int(order[n % self.studies]), int(sample_seed)))
            yield draws


def collate(samples: Sequence[Sample], pad_id: int) -> Batch:
    """Stack; texts are padded on the right with `pad_id`, and padding is no answer."""
    batch: Batch = {"series_id": [sample["series_id"] for sample in samples]}
    for key in samples[0]:
        if key != "series_id":
            values: list[Tensor] = [sample[key] for sample in samples]
            if key in ("tokens", "answer"):
                filler = pad_id if key == "tokens" else False
                batch[key] = pad_sequence(values, batch_first=True, padding_value=filler)
            else:
                batch[key] = torch.stack(values)
    return batch


def training_batches(
    dataset: StudyDataset, sampler: DrawSampler, pad_id: int = 0
) -> Iterator[Batch]:
    """Batches of `sampler`, loaded in `dataset.config.workers` processes."""
    return iter(_loader(dataset, sampler, pad_id))


def validation_batches(dataset: StudyDataset, limit: int, pad_id: int = 0) -> DataLoader[Batch]:
    """The first `limit` studies in catalog order, each with a seed of its own, always the same."""
    size = dataset.config.batch_size
    draws = [Draw(i, i) for i in range(min(limit, len(dataset)))]
    batches = [draws[i : i + size] for i in range(0, len(draws), size)]
    return _loader(dataset, batches, pad_id)


def _loader(dataset: StudyDataset, batches: Any, pad_id: int) -> DataLoader[Batch]:
    workers = dataset.config.workers
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=partial(collate, pad_id=pad_id),
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
        # Its own generator: starting a loader would otherwise draw from the global random state,
        # which a resumed run must find as it was.
        generator=torch.Generator(),
    )
