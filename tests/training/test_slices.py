"""Slices of every study end in the bank, whatever kills the run on its way."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.data.toy_catalog import make_catalog
from tests.models.tiny_slice_encoder import SIZE, WIDTH, tiny_slice_encoder
from uvlm.data.slice_bank import SliceBank
from uvlm.errors import CatalogError, ConfigError, ImageError, InputError, MemoryExhaustedError
from uvlm.imaging.slices import cut_slices
from uvlm.imaging.store import read_store
from uvlm.models.slice_weights import read_slice_encoder
from uvlm.models.tower_config import SliceEncoderConfig
from uvlm.preprocessing.catalog import read_catalog, write_catalog
from uvlm.training import slices as module
from uvlm.training.slices import fill_slice_bank

SETTINGS = SliceEncoderConfig(slices=3, window=(-900.0, 500.0))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_slice_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return make_catalog(tmp_path / "data", studies=4)


def contents(bank: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in bank.iterdir() if not p.name.startswith(".")}


def test_features_are_those_of_the_encoder_over_the_prepared_volume(
    catalog: Path, encoder: Path, tmp_path: Path
):
    out = fill_slice_bank([catalog], encoder, tmp_path / "bank", settings=SETTINGS)
    bank = SliceBank.open(out)
    rows = read_catalog(catalog).rows
    bank.check(rows, slices=3, width=WIDTH)
    _, model = read_slice_encoder(encoder)
    assert bank.encoder == model.fingerprint
    for row in rows:
        cut = cut_slices(read_store(row.image), slices=3, size=SIZE, window=SETTINGS.window)
        expected = model(torch.from_numpy(cut)[None])[0].half()
        torch.testing.assert_close(bank.read(row.series_id), expected, rtol=0, atol=0)


KILLED = """
import os, signal, sys
from pathlib import Path
from uvlm.models.tower_config import SliceEncoderConfig
from uvlm.training.slices import fill_slice_bank

catalog, encoder, out = map(Path, sys.argv[1:])
calls, sync = [0], os.fsync

def sync_half(file):
    calls[0] += 1
    if calls[0] == 4:  # the index, two studies, then the third
        os.ftruncate(file, os.fstat(file).st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    sync(file)

os.fsync = sync_half
settings = SliceEncoderConfig(slices=3, window=(-900.0, 500.0))
fill_slice_bank([catalog], encoder, out, settings=settings)
"""


def test_a_killed_fill_makes_only_what_is_missing(
    catalog: Path, encoder: Path, tmp_path: Path, monkeypatch
):
    """Killed by SIGKILL in the middle of writing its third study."""
    command = [sys.executable, "-c", KILLED, str(catalog), str(encoder), str(tmp_path / "bank")]
    done = subprocess.run(command, capture_output=True, timeout=100, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    assert len(list((tmp_path / "bank").glob("*.safetensors"))) == 2
    with pytest.raises(InputError, match="2 of 4 studies are missing"):
        SliceBank.open(tmp_path / "bank").check(read_catalog(catalog).rows)
    encoded = []
    encode = module._encode
    monkeypatch.setattr(module, "_encode", lambda *args: encoded.append(1) or encode(*args))
    fill_slice_bank([catalog], encoder, tmp_path / "bank", settings=SETTINGS)
    assert len(encoded) == 2
    fill_slice_bank([catalog], encoder, tmp_path / "whole", settings=SETTINGS)
    assert contents(tmp_path / "whole") == contents(tmp_path / "bank")
    assert not list((tmp_path / "bank").glob(".*.tmp"))
    monkeypatch.setattr(module, "_encode", None)  # a complete bank encodes nothing
    fill_slice_bank([catalog], encoder, tmp_path / "bank", settings=SETTINGS)


def test_processes_and_loaders_make_the_same_bank(catalog: Path, encoder: Path, tmp_path: Path):
    whole = fill_slice_bank([catalog], encoder, tmp_path / "whole", settings=SETTINGS)
    for rank in (1, 0):
        workers = rank  # one process reads by itself, the other has a loader
        shared = fill_slice_bank(
            *([catalog], encoder, tmp_path / "shared"),
            settings=SETTINGS,
            workers=workers,
            rank=rank,
            processes=2,
        )
    assert contents(whole) == contents(shared)


def test_another_encoder_needs_another_bank(catalog: Path, encoder: Path, tmp_path: Path):
    out = fill_slice_bank([catalog], encoder, tmp_path / "bank", settings=SETTINGS)
    other = tiny_slice_encoder(tmp_path / "other", seed=1)
    with pytest.raises(InputError, match=r"encoder is \w{16} there"):
        fill_slice_bank([catalog], other, out, settings=SETTINGS)
    with pytest.raises(InputError, match="slices is 3 there, 4 here"):
        fill_slice_bank([catalog], encoder, out, settings=replace(SETTINGS, slices=4))


def test_a_damaged_volume_stops_the_fill_and_what_was_made_is_kept(
    catalog: Path, encoder: Path, tmp_path: Path
):
    last = read_catalog(catalog).rows[-1].image
    whole = last.read_bytes()
    last.write_bytes(whole[:-10])
    with pytest.raises(ImageError, match=last.name):
        fill_slice_bank([catalog], encoder, tmp_path / "bank", settings=SETTINGS)
    assert len(list((tmp_path / "bank").glob("*.safetensors"))) == 3
    last.write_bytes(whole)
    fill_slice_bank([catalog], encoder, tmp_path / "bank", settings=SETTINGS)
    SliceBank.open(tmp_path / "bank").check(read_catalog(catalog).rows)


def test_catalogs_that_cannot_be_cut_are_refused(catalog: Path, encoder: Path, tmp_path: Path):
    def fill(*catalogs: Path) -> None:
        fill_slice_bank(catalogs, encoder, tmp_path / "bank")

    with pytest.raises(ConfigError, match="no catalog"):
        fill()
    with pytest.raises(CatalogError, match=r"toy_0_1 is also in"):
        fill(catalog, catalog)
    read = read_catalog(catalog)
    assert read.spec is not None
    other = catalog.parent.parent / "other" / "catalog.csv"
    other.parent.mkdir()
    write_catalog(replace(read, path=other, spec=replace(read.spec, shape=(8, 8, 8))))
    with pytest.raises(CatalogError, match="preprocessing differs"):
        fill(catalog, other)
    with pytest.raises(CatalogError, match=r"is \(8, 16, 16\), its catalog says \(8, 8, 8\)"):
        fill(other)
    (catalog.parent / "dataset.json").unlink()
    with pytest.raises(CatalogError, match="which axis of its volumes is axial is unknown"):
        fill(catalog)


@pytest.mark.parametrize(
    ("settings", "changes", "message"),
    [
        (SETTINGS, {"rank": 2, "processes": 2}, "rank must be 0 to 1"),
        (SETTINGS, {"workers": -1}, "workers at least 0"),
        (replace(SETTINGS, slices=0), {}, "at least 1"),
        (replace(SETTINGS, window=(5.0, -5.0)), {}, "window must be"),
        (SETTINGS, {"device": "abacus"}, "device 'abacus' is not available"),
    ],
)
def test_impossible_settings_leave_no_bank(
    catalog: Path, encoder: Path, tmp_path: Path, settings, changes, message
):
    with pytest.raises(ConfigError, match=message):
        fill_slice_bank([catalog], encoder, tmp_path / "bank", settings=settings, **changes)
    assert not (tmp_path / "bank").exists()


def test_memory_that_runs_out_is_told_as_such(
    catalog: Path, encoder: Path, tmp_path: Path, monkeypatch
):
    def refuse(*_: object) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(module.SliceEncoder, "forward", refuse)
    with pytest.raises(MemoryExhaustedError, match="finished studies are kept"):
        fill_slice_bank([catalog], encoder, tmp_path / "bank", settings=SETTINGS)


def test_a_window_beyond_the_clip_is_told(catalog: Path, encoder: Path, tmp_path: Path, caplog):
    wide = replace(SETTINGS, window=(-2000.0, 500.0))
    fill_slice_bank([catalog], encoder, tmp_path / "wide", settings=wide)
    assert "clipped to -1024..3071 HU" in caplog.text
    caplog.clear()
    fill_slice_bank([catalog], encoder, tmp_path / "bank", settings=SETTINGS)
    assert "clipped" not in caplog.text
