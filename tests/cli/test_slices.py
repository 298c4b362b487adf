"""`uvlm slices`: catalogs and a 2D encoder in, a bank out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.toy_catalog import make_catalog
from tests.models.tiny_slice_encoder import WIDTH, tiny_slice_encoder
from uvlm.cli.slices import main
from uvlm.data.slice_bank import SliceBank
from uvlm.errors import ConfigError
from uvlm.preprocessing.catalog import read_catalog


def test_processes_of_a_launcher_fill_a_bank_together(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    catalog, out = make_catalog(tmp_path, studies=4), tmp_path / "bank"
    encoder = tiny_slice_encoder(tmp_path / "encoder")
    arguments = [str(catalog), "--encoder", str(encoder), "--out", str(out), "--device", "cpu"]
    arguments += ["--slices", "2", "--window", "-500", "300"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.strip() == str(out)
    bank, rows = SliceBank.open(out), read_catalog(catalog).rows
    assert len(bank.missing([row.series_id for row in rows])) == 2
    assert main([*arguments, "--rank", "0"]) == 0
    bank.check(rows, slices=2, width=WIDTH)
    assert bank.index.key.window == (-500.0, 300.0)
    assert bank.read(rows[0].series_id).shape == (2, WIDTH)


def test_what_was_not_given_is_named(tmp_path: Path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path / "catalog.csv")])
    assert stopped.value.code == 2
    assert "--encoder, --out" in capsys.readouterr().err


def test_a_folder_without_an_encoder_is_refused(tmp_path: Path):
    catalog = make_catalog(tmp_path, studies=2)
    with pytest.raises(ConfigError, match=r"neither open_clip_model.safetensors"):
        main([str(catalog), "--encoder", str(tmp_path), "--out", str(tmp_path / "bank")])
    assert not (tmp_path / "bank").exists()


def test_help_needs_no_torch():
    code = (
        "import sys\n"
        "from uvlm.cli.slices import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "finally:\n"
        "    assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "uvlm slices" in done.stdout
