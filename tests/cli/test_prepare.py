"""`uvlm prepare ct-rate` and its exit codes."""

import subprocess
import sys

import pytest

from tests.preprocessing.ct_rate_factory import SERIES, make_ct_rate, volume_path
from uvlm.cli.main import main
from uvlm.imaging.preprocess import preset
from uvlm.preprocessing.catalog import read_catalog


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_ct_rate(tmp_path_factory.mktemp("made"), series=SERIES[:2])


def run(*arguments):
    return main(["prepare", "ct-rate", *map(str, arguments)])


def test_a_whole_dataset_exits_with_0(made, tmp_path, capsys):
    out = tmp_path / "out"
    options = ("--out", out, "--preset", "authors", "--shape", 8, 16, 16)
    assert run(made, *options) == 0
    assert "2 series" in capsys.readouterr().out
    assert read_catalog(out / "catalog.csv").spec == preset("authors", (8, 16, 16))
    assert run(made, *options) == 0
    assert "2 of them kept" in capsys.readouterr().out


def test_a_rejected_series_exits_with_3_and_says_where_to_look(made, tmp_path, capsys):
    root = make_ct_rate(tmp_path / "source", series=SERIES[:2])
    volume_path(root, SERIES[0]).write_bytes(b"")
    out = tmp_path / "out"
    assert run(root, "--out", out, "--shape", 8, 16, 16) == 3
    assert str(out / "errors.csv") in capsys.readouterr().err
    assert len(read_catalog(out / "catalog.csv").rows) == 1


def test_another_folder_exits_with_2(tmp_path, capsys):
    assert run(tmp_path, "--out", tmp_path / "out") == 2
    assert "neither train_fixed nor valid_fixed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_help_needs_no_torch():
    code = (
        "import sys; from uvlm.cli.main import main\n"
        "try: main(['prepare', 'ct-rate', '--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'torch', 'numpy', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
