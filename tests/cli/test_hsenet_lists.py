"""`uvlm prepare hsenet` and `uvlm export --to hsenet`: HSENet's files in and out."""

import numpy as np
import pytest

from tests.preprocessing.hsenet_factory import SERIES, SHAPE, SLICES, hu_of, make_lists
from uvlm.cli.main import main
from uvlm.data.slice_bank import SliceBank
from uvlm.imaging.store import read_store
from uvlm.preprocessing.catalog import read_catalog

SIZES = ("--shape", *map(str, SHAPE), "--feature-shape", *map(str, SLICES))


@pytest.fixture
def folder(tmp_path):
    return make_lists(tmp_path / "lists")


def prepare(folder, *options):
    lists = [str(folder / name) for name in ("reports.json", "vqa.json")]
    out = folder.parent / "out"
    return main(["prepare", "hsenet", *lists, "--out", str(out), *SIZES, *options]), out


def test_lists_become_catalog_questions_and_bank(folder, capsys):
    code, out = prepare(folder)
    assert code == 0
    shown = capsys.readouterr()
    assert "slices: slice features, 6 x 5 of each study" in shown.out
    assert "3 volumes have no geometry" in shown.err
    catalog = read_catalog(out / "catalog.csv")
    assert catalog.spec is not None
    assert (catalog.spec.shape, catalog.spec.clip) == (SHAPE, (-1000.0, 200.0))
    assert not catalog.spec.foreground
    assert np.array_equal(read_store(catalog.rows[2].image), hu_of(2))
    assert (out / "vqa.csv").is_file()
    assert SliceBank.open(out / "slices").missing(SERIES) == []
    assert prepare(folder)[0] == 0


def test_a_missing_file_costs_its_study_and_the_exit_code(folder, capsys):
    (folder / f"{SERIES[0]}_biomedclip_features.npy").unlink()
    code, out = prepare(folder, "--slices", str(folder.parent / "bank"))
    assert code == 3
    assert "no such file" in (out / "errors.csv").read_text()
    assert SliceBank.open(folder.parent / "bank").missing(SERIES) == [SERIES[0]]


def test_broken_json_is_the_users_error(folder, capsys):
    (folder / "vqa.json").write_text("{")
    assert prepare(folder)[0] == 2
    assert "vqa.json: no JSON" in capsys.readouterr().err


def test_volumes_of_another_shape_are_not_exported(folder, tmp_path, capsys):
    prepare(folder)
    catalog, out = str(tmp_path / "out" / "catalog.csv"), str(tmp_path / "export")
    assert main(["export", catalog, "--to", "hsenet", "--out", out]) == 2
    assert "not (32, 256, 256)" in capsys.readouterr().err


def test_options_of_lists_go_with_lists_only(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["export", "b", "--to", "torch", "--out", str(tmp_path / "o"), "--axes", "zyx"])
    assert "go with --to hsenet only" in capsys.readouterr().err
