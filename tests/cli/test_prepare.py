"""`uvlm prepare SOURCE`: exit codes, what is printed, and the options that all sources share."""

import csv
import json
import shlex
import subprocess
import sys

import pytest

from tests.preprocessing.ct_rate_factory import SERIES, make_ct_rate, volume_path
from uvlm.cli.main import main
from uvlm.cli.prepare import SOURCES
from uvlm.imaging.preprocess import preset
from uvlm.preprocessing.catalog import read_catalog

SHAPE = ("--shape", 8, 16, 16)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_ct_rate(tmp_path_factory.mktemp("made"), series=SERIES[:2])


def run(*arguments, source="ct-rate"):
    return main(["prepare", source, *map(str, arguments)])


def test_a_whole_dataset_exits_with_0(made, tmp_path, capsys):
    out = tmp_path / "out"
    options = ("--out", out, "--preset", "authors", *SHAPE)
    assert run(made, *options) == 0
    assert f"{out / 'catalog.csv'}: 2 series\n" in capsys.readouterr().out
    assert read_catalog(out / "catalog.csv").spec == preset("authors", (8, 16, 16))
    assert run(made, *options) == 0
    assert ": 2 series, 2 of them kept from an earlier run" in capsys.readouterr().out


def test_hsenets_preprocessing_has_a_shape_of_its_own(made, tmp_path):
    assert run(made, "--out", tmp_path / "out", "--preset", "hsenet") == 0
    assert read_catalog(tmp_path / "out" / "catalog.csv").spec == preset("hsenet", (32, 256, 256))


def test_the_same_folder_typed_in_another_way_is_the_same(made, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    assert run(made, "--out", out, *SHAPE) == 0
    monkeypatch.chdir(made.parent)
    assert run(made.name, "--out", out, *SHAPE) == 0
    assert "2 of them kept" in capsys.readouterr().out


def test_several_workers_do_the_same(made, tmp_path, capsys):
    assert run(made, "--out", tmp_path / "one", *SHAPE) == 0
    assert run(made, "--out", tmp_path / "two", *SHAPE, "--workers", 2, "--memory-gb", 2) == 0
    one, two = (tmp_path / name / "catalog.csv" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_a_rejected_series_exits_with_3_and_says_where_to_look(tmp_path, capsys):
    root = make_ct_rate(tmp_path / "source", series=SERIES[:2])
    volume_path(root, SERIES[0]).write_bytes(b"")
    out = tmp_path / "out"
    assert run(root, "--out", out, *SHAPE) == 3
    assert str(out / "errors.csv") in capsys.readouterr().err
    assert len(read_catalog(out / "catalog.csv").rows) == 1
    assert json.loads((out / "run.json").read_text())["outcome"] == "partial"


def test_series_left_out_are_told_with_the_reason(tmp_path, capsys):
    root = make_ct_rate(tmp_path / "source", series=SERIES[:2])
    (root / "dataset/metadata").mkdir(exist_ok=True)
    (root / "dataset/metadata/no_chest_train.txt").write_text(f"{SERIES[0]}.nii.gz\n")
    assert run(root, "--out", tmp_path / "out", *SHAPE) == 0
    assert "1 series left out: " in capsys.readouterr().out


def test_another_folder_exits_with_2(tmp_path, capsys):
    assert run(tmp_path, "--out", tmp_path / "out") == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_folder_to_write_to_is_required(made, capsys):
    with pytest.raises(SystemExit) as stop:
        run(made)
    assert stop.value.code == 2
    assert "--out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--workers", 0), "workers must be at least 1"),
        (("--memory-gb", 0.01), "memory_gb is 0.01"),
        (("--shape", 0, 1, 1), "shape must be three positive numbers"),
        (("--nnunet", 1000), "1 to 999"),
        (("--held-out", "absent.txt"), "absent.txt: cannot be read"),
    ],
)
def test_impossible_options_exit_with_2_before_any_work(made, tmp_path, capsys, options, message):
    assert run(made, "--out", tmp_path / "out", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_held_out_patients_are_test_patients(made, tmp_path, capsys):
    names = tmp_path / "names.txt"
    names.write_text("train_1_a_1.nii.gz\nsomeone\n")
    out = tmp_path / "out"
    assert run(made, "--out", out, *SHAPE, "--held-out", names) == 0
    assert {row.split for row in read_catalog(out / "catalog.csv").rows} == {"test"}
    assert "WARNING: 1 of 2 held-out names are unknown" in capsys.readouterr().err


def test_an_nnunet_dataset_is_made_of_ct_rate_only_when_asked_for(tmp_path):
    root = make_ct_rate(tmp_path / "source", series=SERIES[:4])
    shape = ("--shape", 32, 32, 32)
    assert run(root, "--out", tmp_path / "plain", *shape) == 0
    assert not (tmp_path / "plain/nnUNet_preprocessed").exists()
    assert run(root, "--out", tmp_path / "asked", *shape, "--nnunet", 321) == 0
    (folder,) = (tmp_path / "asked/nnUNet_preprocessed").iterdir()
    assert folder.name.startswith("Dataset321_")
    assert (folder / "dataset.json").is_file()


def test_an_nnunet_dataset_without_masks_exits_with_2(tmp_path, capsys):
    root = make_ct_rate(tmp_path / "source", series=SERIES[:2], masks=False)
    assert run(root, "--out", tmp_path / "out", "--nnunet", 321) == 2
    assert "no study has a mask" in capsys.readouterr().err


def test_a_plan_writes_nothing(made, tmp_path, capsys):
    assert run(made, "--plan", *SHAPE, "--out", tmp_path / "out") == 0
    assert capsys.readouterr().out.split()[:2] == ["studies", "2"]
    assert not (tmp_path / "out").exists()


def test_a_dry_run_of_a_folder_writes_nothing(tmp_path, capsys):
    root = make_ct_rate(tmp_path / "source", series=SERIES[:2], masks=False)
    (tmp_path / "raw").mkdir()
    for name in SERIES[:2]:
        volume_path(root, name).rename(tmp_path / "raw" / f"{name}.nii.gz")
    table = tmp_path / "table.csv"
    with table.open("w", newline="") as file:
        rows = [("name", "report"), *((name, "Findings: clear.") for name in SERIES[:2])]
        csv.writer(file).writerows(rows)
    arguments = (tmp_path / "raw", "--table", table)
    assert run(*arguments, "--dry-run", "--patient-column", "-", source="folder") == 0
    said = capsys.readouterr().out
    assert "name" in said
    words = [*map(str, arguments), "--patient-column", "-"]
    assert f"uvlm prepare folder {shlex.join(words)} --out OUT" in said
    assert {path.name for path in tmp_path.iterdir()} == {"source", "raw", "table.csv"}
    assert run(*arguments, "--out", tmp_path / "out", *SHAPE, source="folder") == 0
    assert len(read_catalog(tmp_path / "out/catalog.csv", need=["report"]).rows) == 2


def test_an_unknown_source_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit) as stop:
        run(source="ctrate")
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert all(source in told for source in SOURCES)


@pytest.mark.parametrize("source", ["", *SOURCES])
def test_help_loads_nothing_heavy(source):
    heavy = {"torch", "scipy.signal", "pandas", "matplotlib", "nnunetv2", "SimpleITK", "blosc2"}
    code = (
        "import sys; from uvlm.cli.main import main\n"
        f"try: main(['prepare', *{source.split()!r}, '--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        f"assert not {heavy!r} & set(sys.modules), {heavy!r} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "INPUT" in done.stdout if source else all(name in done.stdout for name in SOURCES)
