"""Samples to batches, in an order that follows from seed and step alone.

Sample number n of a run (counted over steps, accumulation rounds, processes and places in the
batch) is study `epoch_order(studies, seed, epoch)[n % studies]` with its own seed. A resumed run
needs to know only its step, and the studies of a step are the same however it is divided into
processes and rounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Sampler

from uvlm.data.config import DataConfig
from uvlm.data.dataset import Draw, Sample, StudyDataset
from uvlm.data.order import epoch_order, study_weights
from uvlm.preprocessing.catalog import Row

__all__ = [
    "Batch",
    "DrawSampler",
    "collate",
    "training_batches",
    "training_sampler",
    "validation_batches",
]

Batch = dict[str, Any]
"""As `Sample` with a leading axis B; tokens, answer and text are padded on the right, text_mask
(B, T) bool says where text is none of its padding, and a dictionary of tensors becomes one of
batches."""


@dataclass(frozen=True)
class DrawSampler(Sampler[list[Draw]]):
    """Lists of draws for batches `first` to `last` (counted from 0, `last` excluded).

    Of `processes` processes each takes every `processes`-th batch, beginning with its own rank.
    `weights` and `lengths` are those of `epoch_order`; what is alike in length is a step of
    `accumulate` batches on every process.
    """

    studies: int
    batch_size: int
    seed: int
    first: int
    last: int
    rank: int = 0
    processes: int = 1
    accumulate: int = 1
    weights: NDArray[np.float64] | None = field(default=None, repr=False, compare=False)
    lengths: NDArray[np.int64] | None = field(default=None, repr=False, compare=False)

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
                    order = self._order(epoch)
                sample_seed = np.random.SeedSequence((self.seed, n)).generate_state(1)[0]
                draws.append(Draw(int(order[n % self.studies]), int(sample_seed)))
            yield draws

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return epoch_order(
            self.studies,
            self.seed,
            epoch,
            weights=self.weights,
            lengths=self.lengths,
            group=self.batch_size * self.processes * self.accumulate,
        )


def training_sampler(
    rows: Sequence[Row],
    config: DataConfig,
    *,
    seed: int,
    first: int,
    last: int,
    rank: int = 0,
    processes: int = 1,
    accumulate: int = 1,
) -> DrawSampler:
    """The draws of a run from its training rows, balanced and bucketed as `config` says.

    Args:
        first, last: batches of each process, counted from 0, `last` excluded
        accumulate: batches of each process per optimiser step

    Raises:
        ConfigError: there is nothing to balance by.
    """
    return DrawSampler(
        studies=len(rows),
        batch_size=config.batch_size,
        seed=seed,
        first=first,
        last=last,
        rank=rank,
        processes=processes,
        accumulate=accumulate,
        weights=study_weights(rows) if config.balance else None,
        # Characters stand for tokens: a tokenizer would have to read every report first.
        lengths=np.array([len(row.report or "") for row in rows]) if config.bucket else None,
    )


def collate(samples: Sequence[Sample], pad_id: int) -> Batch:
    """Stack; texts are padded on the right with `pad_id`, and padding is no answer."""
    batch: Batch = {"series_id": [sample["series_id"] for sample in samples]}
    for key in samples[0]:
        if key != "series_id":
            batch[key] = _stack(key, [sample[key] for sample in samples], pad_id)
    if "text" in batch:
        # By length, for a text may hold the padding's id itself.
        whole = [torch.ones(len(sample["text"]), dtype=torch.bool) for sample in samples]
        batch["text_mask"] = pad_sequence(whole, batch_first=True)
    return batch


def _stack(key: str, values: list[Any], pad_id: int) -> Tensor | dict[Any, Tensor]:
    if key in ("tokens", "answer", "text"):
        filler = False if key == "answer" else pad_id
        return pad_sequence(values, batch_first=True, padding_value=filler)
    if isinstance(values[0], dict):
        # Validation loads inside mixed precision, where the CPU cannot join what is in fp16.
        with torch.autocast("cpu", enabled=False):
            return {name: torch.stack([value[name] for value in values]) for name in values[0]}
    return torch.stack(values)


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
