"""Feature banks and runs of packed towers: slices count, and packers learn over the bank."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.data.toy_catalog import SHAPE
from tests.training.test_features import distance, losses, with_bank
from uvlm.data.bank import Bank
from uvlm.data.slice_bank import SliceBank, SliceKey
from uvlm.data.studies import load_studies
from uvlm.errors import ConfigError, InputError
from uvlm.models.bundle import load_bundle
from uvlm.models.config import InjectionConfig
from uvlm.models.tower_config import PackerConfig, TowersConfig, ViTConfig
from uvlm.training.config import RunConfig
from uvlm.training.features import fill_bank
from uvlm.training.run import train

TOWER = ViTConfig(
    shape=SHAPE, patch=(SHAPE[0] // 2, SHAPE[1] // 4, SHAPE[2] // 4), width=8, layers=1, heads=2,
    mlp=8,
)  # fmt: skip
TOWERS = TowersConfig(volume=TOWER, slices=replace(TOWER, slice_width=6))


def sliced(run: RunConfig, folder: Path, encoder: str = "0123456789abcdef") -> RunConfig:
    """`run` with a bank of features of slices, which differ from study to study."""
    studies = load_studies(run.data, ("report",))
    rows = (*studies.train, *studies.val)
    key = SliceKey(
        encoder=encoder, spec_hash=studies.spec.hash, slices=3, width=6, window=(-1000.0, 1000.0)
    )
    sizes = {row.series_id: row.image.stat().st_size for row in rows}
    bank = SliceBank.begin(folder, key, sizes)
    generator = torch.Generator().manual_seed(0)
    for row in rows:
        bank.write(row.series_id, torch.randn(3, 6, generator=generator))
    return replace(run, data=replace(run.data, slices=folder))


@pytest.fixture
def run(tiny_run: Callable[[str], RunConfig]) -> RunConfig:
    plain = tiny_run("report")
    model = replace(
        plain.model,
        encoder=TOWERS,
        injection=InjectionConfig(layers=()),
        packer=PackerConfig(kernel=(1, 2, 2)),
        mask="causal",
        markers="bos",
    )
    return replace(plain, model=model)


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "injected"])
def test_losses_with_the_bank_are_those_with_the_towers(
    run: RunConfig, tmp_path: Path, packed: bool
) -> None:
    if not packed:
        model = replace(run.model, packer=None, injection=InjectionConfig(), markers="both")
        run = replace(run, model=model)
    run = sliced(run, tmp_path / "slices")
    bank = fill_bank(replace(run, out=tmp_path / "bank"))
    tokens = Bank.open(bank).index.key.tokens
    assert tokens == 32
    plain = train(replace(run, out=tmp_path / "plain"))
    alone = replace(run, data=replace(run.data, slices=None))
    banked = train(with_bank(alone, bank, tmp_path / "banked"))
    # Half precision rounds features; a wrong slice would change the losses a thousandfold more.
    assert distance(losses(tmp_path / "banked"), losses(tmp_path / "plain")) < 1e-5
    configs = [load_bundle(folder).parts["report"].config for folder in (plain, banked)]
    assert configs[0] == configs[1]
    # The decoder is from scratch and has no beginning of a text.
    assert configs[0].markers == ("none" if packed else "both")


def test_a_bank_of_other_slices_is_refused(run: RunConfig, tmp_path: Path) -> None:
    run = sliced(run, tmp_path / "slices")
    bank = fill_bank(replace(run, out=tmp_path / "bank"))
    other = sliced(run, tmp_path / "other", encoder="f" * 16)
    with pytest.raises(InputError, match="made with features of slices"):
        train(with_bank(other, bank, tmp_path / "out"))


def test_a_bank_is_not_filled_without_slices_or_of_unequal_grids(
    run: RunConfig, tiny_run: Callable[[str], RunConfig], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="uvlm slices"):
        fill_bank(replace(run, out=tmp_path / "bank"))
    plain = tiny_run("report")
    model = replace(
        plain.model,
        injection=InjectionConfig(layers=()),
        packer=PackerConfig(kernel=(1, 2, 2), stages=(2, 3)),
    )
    with pytest.raises(ConfigError, match="stages of one grid"):
        fill_bank(replace(plain, model=model, out=tmp_path / "bank"))
