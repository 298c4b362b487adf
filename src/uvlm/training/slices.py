"""Fill a slice bank: axial slices of every study through a frozen 2D encoder, once.

Slices are cut from the prepared volumes, which all lie in LPS order, and stay in memory: no
pictures are written. What the volumes' preprocessing averaged or clipped away, no slice shows.

Shapes: S slices, P pixels along both sides, F numbers of a slice.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from uvlm.data.slice_bank import SliceBank, SliceKey
from uvlm.errors import CatalogError, ConfigError, MemoryExhaustedError
from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.imaging.slices import cut_slices
from uvlm.imaging.store import StoredArray
from uvlm.inference.runtime import device_named
from uvlm.models.slice_encoder import SliceEncoder
from uvlm.models.slice_weights import read_slice_encoder
from uvlm.models.tower_config import SliceEncoderConfig
from uvlm.preprocessing.catalog import Catalog, Row, read_catalog
from uvlm.training.memory import out_of_memory

__all__ = ["fill_slice_bank"]

log = logging.getLogger(__name__)


def fill_slice_bank(
    catalogs: Sequence[Path],
    encoder: Path,
    out: Path,
    *,
    settings: SliceEncoderConfig | None = None,
    device: str = "auto",
    workers: int = 0,
    rank: int = 0,
    processes: int = 1,
) -> Path:
    """Compute what is missing of the bank `out`; `processes` of them may do it together.

    Args:
        catalogs: prepared alike; a bank that has other studies keeps them
        encoder: folder of the 2D encoder, see `read_slice_encoder`
        settings: whose number of slices and window are taken; all else is the encoder's
        device: "auto" takes a GPU if there is one, each process its own
        workers: loader processes that read and cut the volumes; 0 does it in this one
        rank: of this process; takes every `processes`-th study

    Raises:
        CatalogError: a catalog is faulty, they disagree, or a volume has another shape.
        ConfigError: the encoder, the window or another setting cannot be used.
        ImageError: a volume is damaged.
        InputError: the folder holds something else, or features are not finite.
        MemoryExhaustedError: the encoder does not fit.
    """
    if not 0 <= rank < processes or workers < 0:
        raise ConfigError(
            f"rank must be 0 to {processes - 1}, one for each process, and workers at least 0; got "
            f"{rank} and {workers}."
        )
    found = [read_catalog(path) for path in catalogs]
    spec, rows = _agreed_spec(found), _rows(found)
    config, model = read_slice_encoder(encoder, settings)
    _tell_clipped(spec, config)
    key = SliceKey(
        encoder=model.fingerprint,
        spec_hash=spec.hash,
        slices=config.slices,
        width=config.width,
        window=config.window,
    )
    where = _device(device, rank)
    bank = SliceBank.begin(out, key, {r.series_id: r.image.stat().st_size for r in rows})
    missing = set(bank.missing([row.series_id for row in rows]))
    todo = [row for row in rows[rank::processes] if row.series_id in missing]
    bank.clear_leftovers([row.series_id for row in todo])
    features = _encoded(todo, spec, config, model.to(where), where, workers)
    with tqdm(total=len(todo), desc="slices", unit="study", disable=None) as bar:
        for row, features_SF in zip(todo, features, strict=True):
            bank.write(row.series_id, features_SF)
            bar.update()
    left = len(bank.missing([row.series_id for row in rows]))
    rest = f", {left} of {len(rows)} still to come" if left else "; the bank is complete"
    log.info("%s: slices of %d studies encoded here%s", out, len(todo), rest)
    return out


def _device(name: str, rank: int) -> torch.device:
    if name == "auto" and torch.cuda.is_available():
        local = int(os.environ.get("LOCAL_RANK", rank))
        return torch.device("cuda", local % torch.cuda.device_count())
    return device_named(name)


class _Cut(Dataset[Tensor]):
    """Slices (S, P, P) uint8 of studies."""

    def __init__(self, rows: Sequence[Row], spec: PreprocessSpec, config: SliceEncoderConfig):
        self.rows, self.spec, self.config = rows, spec, config

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        row, config = self.rows[index], self.config
        stored = StoredArray(row.image)
        if stored.shape != self.spec.shape:
            raise CatalogError.about(
                row.image,
                f"the volume of {row.series_id} is {stored.shape}, its catalog says "
                f"{self.spec.shape}",
                "Prepare the dataset again.",
            )
        cut = cut_slices(
            stored.read(), slices=config.slices, size=config.size, window=config.window
        )
        return torch.from_numpy(cut)


def _encoded(
    rows: Sequence[Row],
    spec: PreprocessSpec,
    config: SliceEncoderConfig,
    model: SliceEncoder,
    device: torch.device,
    workers: int,
) -> Iterator[Tensor]:
    """(S, F) of each study in order; the next volumes are read meanwhile."""
    cuts = DataLoader(
        _Cut(rows, spec, config),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=2 if workers else None,
        pin_memory=device.type == "cuda",
    )
    for slices_SPP in cuts:
        yield _encode(model, slices_SPP[None].to(device, non_blocking=True))[0]


@torch.inference_mode()
def _encode(model: SliceEncoder, slices_1SPP: Tensor) -> Tensor:
    try:
        features_1SF: Tensor = model(slices_1SPP)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise MemoryExhaustedError(
            f"memory ran out while encoding the slices of one study ({str(error).splitlines()[0]})."
            " The finished studies are kept; try --device cpu, or a GPU with more memory."
        ) from error
    return features_1SF


def _agreed_spec(catalogs: Sequence[Catalog]) -> PreprocessSpec:
    """How all volumes were prepared, and so how they lie."""
    if not catalogs:
        raise ConfigError("no catalog was given. Name one or more.")
    first = catalogs[0]
    for catalog in catalogs:
        if catalog.spec is None:
            raise CatalogError.about(
                catalog.path,
                "there is no dataset.json beside it, so which axis of its volumes is axial is "
                "unknown",
                "Prepare the dataset with `uvlm prepare`.",
            )
        if catalog.spec != first.spec:
            raise CatalogError.about(
                catalog.path,
                f"its preprocessing differs from that of {first.path}",
                "Make a bank for each, or prepare the datasets alike.",
            )
    assert first.spec is not None
    return first.spec


def _rows(catalogs: Sequence[Catalog]) -> list[Row]:
    """Of all catalogs; features are remembered by series."""
    home: dict[str, Catalog] = {}
    for catalog in catalogs:
        for row in catalog.rows:
            other = home.setdefault(row.series_id, catalog)
            if other is not catalog:
                raise CatalogError.about(
                    catalog.path,
                    f"its series {row.series_id} is also in {other.path}",
                    "Give each its own series_id, or make a bank for each catalog.",
                )
    return [row for catalog in catalogs for row in catalog.rows]


def _tell_clipped(spec: PreprocessSpec, config: SliceEncoderConfig) -> None:
    if spec.clip is None:
        return
    (low, high), (black, white) = spec.clip, config.window
    if low > black or high < white:
        log.warning(
            "the volumes were clipped to %g..%g HU: slices in the window %g..%g show nothing "
            "beyond; a catalog prepared with a wider clip would",
            *(low, high, black, white),
        )
