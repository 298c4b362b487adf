"""Volumes through a frozen encoder, one after the other, for a feature bank.

Shapes: D H W voxels along z y x, K visual tokens, C channels of a stage.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from uvlm.config import config_hash
from uvlm.data.dataset import Draw, StudyDataset
from uvlm.data.slice_bank import SliceBank
from uvlm.data.studies import Studies
from uvlm.errors import InputError, MemoryExhaustedError
from uvlm.models.bridge import build_bridge
from uvlm.models.config import ReportConfig
from uvlm.models.stages import StageEncoder
from uvlm.models.vision import build_encoder, vision_input
from uvlm.models.vit import SlicedVolume
from uvlm.training.config import RunConfig
from uvlm.training.memory import out_of_memory

__all__ = ["Pooler", "Records", "encoded_records", "encoder_fingerprint"]

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Pooler(nn.Module):
    """The part of a report model that a bank replaces."""

    def __init__(self, config: ReportConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = build_encoder(config.encoder)
        with torch.device("meta"):  # pooling uses none of its weights
            self.align = build_bridge(config)

    def forward(self, x: Tensor | SlicedVolume) -> dict[int, Tensor]:
        """Stage -> (1, K, C)."""
        return self.encoder.pooled(x, self.align.pool_stage, self.align.stages_used)


class Records(Dataset[dict[str, Tensor]]):
    """What to encode: `image` (1, D, H, W), and `slices` (S, F) where there is a bank of them; an
    index is (study, view)."""

    def __init__(
        self, config: RunConfig, studies: Studies, slices: SliceBank | None = None
    ) -> None:
        rows = (*studies.train, *studies.val)
        data = replace(config.data, bank=None, patch=None)
        self.seed = config.seed
        self.plain = StudyDataset(rows, data, studies.spec, slices=slices)
        self.changed = StudyDataset(rows, data, studies.spec, train=True, slices=slices)

    def __getitem__(self, index: tuple[int, int]) -> dict[str, Tensor]:
        study, view = index
        series = self.plain.rows[study].series_id
        # By name: the views of a study must not depend on its place among others.
        entropy = (self.seed, zlib.crc32(series.encode()), view)
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        dataset = self.changed if view else self.plain
        sample = dataset[Draw(study, seed)]
        return {key: sample[key] for key in ("image", "slices") if key in sample}


def encoder_fingerprint(encoder: StageEncoder) -> str:
    """16 hexadecimal digits that change with any weight or setting of an encoder."""
    digest = hashlib.sha256(config_hash(encoder.config).encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        values = tensor.detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name} {tuple(values.shape)}".encode())
        digest.update(values.numpy().data)
    return digest.hexdigest()[:16]


def encoded_records(
    config: RunConfig,
    pooler: Pooler,
    studies: Studies,
    shards: Sequence[Sequence[tuple[str, int]]],
    device: torch.device,
    slices: SliceBank | None = None,
) -> Iterator[dict[int, Tensor]]:
    """Stage -> (K, C) float16 on the CPU of each record in order; the next volumes are read
    meanwhile.

    Args:
        shards: records as (series, view)
        slices: for an encoder that looks at them

    Raises:
        InputError: features that half precision cannot hold, naming the series.
        MemoryExhaustedError: the encoder does not fit.
    """
    rows = (*studies.train, *studies.val)
    place = {row.series_id: number for number, row in enumerate(rows)}
    order = [(place[series], view) for shard in shards for series, view in shard]
    workers = config.data.workers
    volumes = DataLoader(
        Records(config, studies, slices),
        sampler=order,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=2 if workers else None,
        pin_memory=device.type == "cuda",
    )
    if config.loop.channels_last:
        pooler.encoder.channels_last = True
    series = [name for shard in shards for name, _ in shard]
    for name, study in zip(series, volumes, strict=True):
        # One at a time: a study's features must not depend on its neighbours.
        batch = {key: t[None].to(device, non_blocking=True) for key, t in study.items()}
        made = _encode(pooler, vision_input(batch), config)
        yield _halved({stage: tokens_1KC[0].cpu() for stage, tokens_1KC in made.items()}, name)


@torch.inference_mode()
def _encode(pooler: Pooler, x: Tensor | SlicedVolume, config: RunConfig) -> dict[int, Tensor]:
    precision = config.loop.precision
    dtype = DTYPES.get(precision, torch.float32)
    try:
        device = (x.volume if isinstance(x, SlicedVolume) else x).device.type
        with torch.autocast(device, dtype, enabled=precision != "no"):
            made: dict[int, Tensor] = pooler(x)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise MemoryExhaustedError(
            f"memory ran out while encoding one volume ({str(error).splitlines()[0]}). The "
            "finished shards are kept; try --loop.precision bf16, or a GPU with more memory."
        ) from error
    return made


def _halved(features: dict[int, Tensor], series: str) -> dict[int, Tensor]:
    halved = {stage: tokens_KC.to(torch.float16) for stage, tokens_KC in features.items()}
    if not all(tokens_KC.isfinite().all() for tokens_KC in halved.values()):
        raise InputError(
            f"{series}: its features are not finite or too large for half precision. Look at the "
            "volume with `uvlm inspect`; if it is sound, the encoder has diverged."
        )
    return halved
