"""Fill a feature bank for a report run, and open it for that run.

With a frozen encoder a study's features never change: computing them once takes the encoder out of
every step, 35 times the work of the decoder at the paper's size (17 with Qwen3's vocabulary).

Shapes: D H W voxels along z y x, K visual tokens, C channels of a stage.
"""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from uvlm.config import config_hash
from uvlm.data.bank import Bank, missing_shards
from uvlm.data.bank_files import (
    BankIndex,
    BankKey,
    clear_leftovers,
    records_per_shard,
    write_index,
    write_shard,
)
from uvlm.data.config import AugmentConfig
from uvlm.data.slice_bank import SliceBank
from uvlm.data.studies import Studies, load_studies
from uvlm.errors import ConfigError, InputError
from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.models.bridge import Bridge
from uvlm.models.bundle import load_bundle
from uvlm.models.bundle_files import Split
from uvlm.models.config import PretrainedConfig, ReportConfig
from uvlm.models.handover import check_split
from uvlm.models.pretrained_base import read_base
from uvlm.models.stages import StageEncoder
from uvlm.models.tower_handover import take_over
from uvlm.models.uvlm import ReportModel
from uvlm.training.config import RunConfig
from uvlm.training.encoding import Pooler, encoded_records, encoder_fingerprint
from uvlm.training.session import open_slices
from uvlm.training.tasks.report import ReportTask

__all__ = ["VIEWS", "check_bank", "fill_bank"]

log = logging.getLogger(__name__)

VIEWS = 4
"""Views of a training study where the run augments: one as it is and three changed ones."""


def fill_bank(
    config: RunConfig, *, views: int | None = None, rank: int = 0, processes: int = 1
) -> Path:
    """Compute what is missing of the bank `config.out`; `processes` of them may do it together.

    Args:
        config: a report run with a frozen encoder; `out` is the bank's folder
        views: of each training study, the volume as it is included; None takes `VIEWS` where the
            run augments, else 1. Validation studies have the one.
        rank: of this process; takes every `processes`-th shard

    Raises:
        ConfigError, CatalogError, BundleError: as `train`.
        InputError: the folder holds something else, or there is not enough room on the disk.
        MemoryExhaustedError: the encoder does not fit.
    """
    report, out, views = _check(config, views, rank, processes)
    studies = load_studies(config.data, ReportTask.need)
    pooler = _pooler(config, report, studies)
    device = _device(config, rank)
    augment = config.data.augment if views > 1 else None
    slices = open_slices(config, studies)
    index = _index(pooler, studies, views, augment, config.seed, slices)
    index = write_index(out, index.shared_by(processes))
    missing = missing_shards(out, index)
    _check_room(out, index.key, sum(map(index.records_in, missing)))
    todo = [number for number in missing if number % processes == rank]
    clear_leftovers(out, todo)
    everything, size = index.records, index.per_shard
    records = [everything[number * size : (number + 1) * size] for number in todo]
    volumes = sum(map(len, records))
    pooler.encoder.to(device)
    features = encoded_records(config, pooler.eval(), studies, records, device, slices)
    with tqdm(total=volumes, desc="features", unit="volume", disable=None) as bar:
        for number, shard in zip(todo, records, strict=True):
            made = []
            for _ in shard:
                made.append(next(features))
                bar.update()
            write_shard(out, number, index.key, made)
    left = len(missing_shards(out, index))
    rest = f", {left} of {index.shards} shards still to come" if left else "; the bank is complete"
    log.info("%s: %d volumes encoded here%s", out, volumes, rest)
    return out


def check_bank(bank: Bank, config: RunConfig, model: ReportModel, studies: Studies) -> Bank:
    """`bank`, giving the stages that the run needs, if it is of the run's encoder and studies.

    Args:
        model: of the run, its encoder with the weights that stay

    Raises:
        InputError: the bank was made with another encoder, preprocessing, token grid or
            augmentation, or lacks a study.
    """
    augment = config.data.augment if config.data.augment.active else None
    wanted = _key(model.encoder, model.align, studies.spec, augment, config.seed)
    # A run over the bank needs no slices; if it names some, they must be those.
    known = SliceBank.open(config.data.slices) if config.data.slices else None
    wanted = replace(wanted, slices=_made_with(known) if known else bank.index.key.slices)
    bank.check(wanted, studies.train, studies.val)
    return bank.only(model.align.stages_used)


def _check(
    config: RunConfig, views: int | None, rank: int, processes: int
) -> tuple[ReportConfig, Path, int]:
    """Network, folder and number of views, if a bank serves such a run."""
    if not isinstance(config.model, ReportConfig) or config.optim.encoder_lr != 0:
        raise ConfigError(
            f"a feature bank serves report runs over a frozen encoder; this is a {config.task} run "
            f"with optim.encoder_lr {config.optim.encoder_lr:g}. Name a report recipe, with "
            "--optim.encoder-lr 0."
        )
    if config.out is None:
        raise ConfigError("no folder for the bank was given. Name one with --out.")
    if not 0 <= rank < processes:
        raise ConfigError(f"rank must be 0 to {processes - 1}, one for each process, got {rank}.")
    active = config.data.augment.active
    views = (VIEWS if active else 1) if views is None else views
    if views < 1 or (views > 1) != active:
        raise ConfigError(
            f"{views} views serve no run: without augmentation there is one, with it there must be "
            "2 or more. Change --views or data.augment."
        )
    return config.model, config.out, views


def _pooler(config: RunConfig, report: ReportConfig, studies: Studies) -> Pooler:
    """With the weights that the run itself would begin with."""
    if isinstance(report.decoder, PretrainedConfig):
        report = replace(report, decoder=read_base(report.decoder))  # for its number of layers
    torch.manual_seed(config.seed)
    pooler = Pooler(replace(report, shape=studies.spec.shape))
    if config.init is None:
        log.warning("the features are of an untrained encoder; give a trained one with --init")
        return pooler
    bundle = load_bundle(config.init, base=getattr(report.decoder, "base", None))
    check_split(bundle, Split(val_fraction=config.data.val_fraction))
    take_over(pooler, bundle, studies.spec)
    return pooler


def _device(config: RunConfig, rank: int) -> torch.device:
    if config.loop.device == "cpu" or not torch.cuda.is_available():
        if config.loop.precision == "fp16":
            raise ConfigError("loop.precision fp16 needs a GPU; choose bf16 or no.")
        return torch.device("cpu")
    local = int(os.environ.get("LOCAL_RANK", rank))
    return torch.device("cuda", local % torch.cuda.device_count())


def _key(
    encoder: StageEncoder,
    align: Bridge,
    spec: PreprocessSpec,
    augment: AugmentConfig | None,
    seed: int,
    slices: SliceBank | None = None,
) -> BankKey:
    config = align.config
    stages = sorted(align.stages_used)
    grids = {stage: align.pooled_grid(stage) for stage in stages}
    if len(set(grids.values())) > 1:
        raise ConfigError(
            f"a feature bank holds stages of one grid; those packed have {grids}. Pack stages of "
            "one grid (packer.stages), or train without a bank."
        )
    return BankKey(
        encoder=encoder_fingerprint(encoder),
        spec_hash=spec.hash,
        token_grid=grids[stages[0]],
        # "projected" pads what the projections made; the tokens before them are as with "end".
        padding="spatial" if config.injection.padding == "spatial" else "end",
        stages=tuple((n, config.encoder.features[n - 1]) for n in stages),
        augment=augment,
        seed=seed,
        slices=_made_with(slices),
    )


def _made_with(slices: SliceBank | None) -> str:
    return "" if slices is None else config_hash(slices.index.key)


def _index(
    pooler: Pooler,
    studies: Studies,
    views: int,
    augment: AugmentConfig | None,
    seed: int,
    slices: SliceBank | None,
) -> BankIndex:
    seed = seed if augment else 0
    key = _key(pooler.encoder, pooler.align, studies.spec, augment, seed, slices)
    rows = (*studies.train, *studies.val)
    return BankIndex(
        key=key,
        views={row.series_id: views for row in studies.train}
        | {row.series_id: 1 for row in studies.val},
        image_bytes={row.series_id: row.image.stat().st_size for row in rows},
        per_shard=records_per_shard(key),
    )


def _check_room(out: Path, key: BankKey, records: int) -> None:
    needed, free = records * key.record_bytes, shutil.disk_usage(out).free
    if needed > free:
        raise InputError.about(
            out,
            f"{needed / 1e9:.1f} GB of features are still to be written, {free / 1e9:.1f} GB are "
            "free",
            "Free some room, or begin anew in a folder on a larger disk or with fewer --views.",
        )
