"""The command lines of the U-VLM README for CT-RATE, on synthetic and on spoilt data."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.preprocessing.ct_rate_factory import (
    SERIES,
    make_ct_rate,
    to_version_1,
    volume_path,
    write_metadata,
    write_tables,
)
from uvlm.errors import UvlmError
from uvlm.imaging.store import read_store
from uvlm.preprocessing.catalog import read_catalog
from uvlm.preprocessing.preprocess_ct_rate_cls_report import main
from uvlm.registry import CT_RATE_LABELS

NEED = ("labels", "report")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "ct_rate_config.json"
    path.write_text(json.dumps({"shape": [12, 24, 24], "name": "my CT-RATE"}))
    return ["--config-path", str(path)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders under names of their own, as a user may have them."""
    root = tmp_path_factory.mktemp("made")
    dataset = make_ct_rate(root / "download", masks=False) / "dataset"
    (dataset / "train_fixed").rename(root / "volumes")
    (dataset / "valid_fixed").rename(root / "val")
    (dataset / "radiology_text_reports").rename(root / "reports")
    (dataset / "multi_abnormality_labels").rename(root / "classification")
    return root


def everything(root, out):
    return [
        "all",
        *("--train-input-dir", str(root / "volumes"), "--val-input-dir", str(root / "val")),
        *("--output-dir", str(out)),
        *("--reports-input-dir", str(root / "reports")),
        *("--cls-input-dir", str(root / "classification")),
    ]


@pytest.fixture(scope="module")
def prepared(made, config, tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared") / "out"
    assert main([*config, *everything(made, out)]) == 0
    return out


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_all_writes_a_catalog_and_one_per_split(prepared):
    catalog = read_catalog(prepared / "catalog.csv", NEED)
    assert (len(catalog.rows), catalog.name) == (5, "my CT-RATE")
    assert (catalog.labels, catalog.spec.shape) == (CT_RATE_LABELS, (12, 24, 24))
    train = read_catalog(prepared / "train_merged.csv", NEED)
    val = read_catalog(prepared / "val_merged.csv", NEED)
    assert train.rows + val.rows == catalog.rows
    assert {row.split for row in val.rows} == {"valid"}
    assert (train.spec, train.name) == (catalog.spec, catalog.name)


def test_all_keeps_what_is_done(made, config, prepared, capsys):
    files = sorted(path for path in prepared.rglob("*.b2nd"))
    before = [path.stat().st_mtime_ns for path in files]
    assert main([*config, *everything(made, prepared)]) == 0
    assert [path.stat().st_mtime_ns for path in files] == before
    assert "train_merged.csv: 4 series" in capsys.readouterr().out


def test_all_never_replaces_merged_files_of_others(made, config, tmp_path, capsys):
    (tmp_path / "train_merged.csv").write_text("mine\n")
    assert main([*config, *everything(made, tmp_path)]) == 2
    assert "did not write" in capsys.readouterr().err
    assert (tmp_path / "train_merged.csv").read_text() == "mine\n"
    assert [path.name for path in tmp_path.iterdir()] == ["train_merged.csv"]


def test_the_steps_one_by_one_give_the_same_catalog(made, config, prepared, tmp_path, capsys):
    out = tmp_path / "steps"
    assert run(*config, "resize", "--input-dir", made / "volumes", "--output-dir", out) == 0
    reports, labels = out / "reports.csv", tmp_path / "labels.csv"
    table = made / "reports" / "train_reports.csv"
    stores = ["--blosc2-dir", out / "imagesTr"]
    assert run(*config, "reports", "--input-csv", table, "--output-csv", reports, *stores) == 0
    table = made / "classification" / "train_predicted_labels.csv"
    assert run(*config, "classification", "--input-csv", table, "--output-csv", labels) == 0
    for merged in (out / "merged.csv", tmp_path / "elsewhere" / "merged.csv"):
        inputs = ["--reports-csv", reports, "--labels-csv", labels]
        assert run(*config, "merge", *inputs, "--output-csv", merged) == 0
        catalog = read_catalog(merged, NEED)
        wanted = read_catalog(prepared / "train_merged.csv", NEED)
        assert (catalog.spec, catalog.labels) == (wanted.spec, wanted.labels)
        assert (catalog.name, catalog.region) == ("my CT-RATE", "chest")
        found = {row.series_id: row for row in catalog.rows}
        for row in wanted.rows:
            again = found[row.series_id]
            assert (again.labels, again.report, again.split) == (row.labels, row.report, row.split)
            assert (again.case_id, again.patient_id) == (row.case_id, row.patient_id)
            np.testing.assert_array_equal(read_store(again.image), read_store(row.image))
    # Once more over their own output, as after new volumes.
    assert run(*config, "merge", *inputs, "--output-csv", merged) == 0
    assert read_catalog(out / "catalog.csv").labels == CT_RATE_LABELS
    assert run("verify", "--output-dir", out) == 0
    assert "4 series, 4 stores read" in capsys.readouterr().out


def test_studies_that_say_what_they_are_are_not_called_ct_rate(tmp_path, config):
    folder = make_ct_rate(tmp_path / "made", masks=False) / "dataset"
    (folder / "source.txt").write_text("studies of our own\n")
    size = ["--target-size", "8", "16", "16"]
    for name, settings in (("studies of our own", []), ("my CT-RATE", config)):
        out = tmp_path / name
        arguments = ["resize", "--input-dir", folder / "train_fixed", "--output-dir", out, *size]
        assert run(*settings, *arguments) == 0
        assert read_catalog(out / "catalog.csv").name == name
    table = folder / "radiology_text_reports/train_reports.csv"
    reports, labels = tmp_path / "reports.csv", tmp_path / "labels.csv"
    stores = ["--blosc2-dir", tmp_path / "studies of our own" / "imagesTr"]
    assert run("reports", "--input-csv", table, "--output-csv", reports, *stores) == 0
    table = folder / "multi_abnormality_labels/train_predicted_labels.csv"
    assert run("classification", "--input-csv", table, "--output-csv", labels) == 0
    merged = tmp_path / "elsewhere" / "merged.csv"
    inputs = ["--reports-csv", reports, "--labels-csv", labels]
    assert run("merge", *inputs, "--output-csv", merged) == 0
    assert read_catalog(merged).name == "studies of our own"


def test_version_1_is_found_by_its_values_with_the_metadata_beside_it(made, config, tmp_path):
    root = make_ct_rate(tmp_path / "one", masks=False)
    to_version_1(root)
    folder = root / "dataset"
    (folder / "train").rename(folder / "volumes")
    arguments = ["resize", "--input-dir", folder / "volumes", "--output-dir"]
    assert run(*config, *arguments, tmp_path / "without") == 2
    write_metadata(root, SERIES)
    assert run(*config, *arguments, tmp_path / "out") == 0
    (folder / "metadata").rename(tmp_path / "tables")
    given = ["--metadata-input-dir", tmp_path / "tables"]
    assert run(*config, *arguments, tmp_path / "given", *given) == 0
    files = [tmp_path / name / "imagesTr/train_1_a_1.b2nd" for name in ("out", "given")]
    np.testing.assert_array_equal(*map(read_store, files))
    missing = ["--metadata-input-dir", tmp_path / "nowhere"]
    assert run(*config, *arguments, tmp_path / "again", *missing) == 2


def test_options_of_the_command_line_win_over_the_file(made, config, tmp_path):
    size = ["--target-size", "8", "16", "16", "--num-workers", "1"]
    arguments = ["resize", "--input-dir", made / "val", "--output-dir", tmp_path / "out", *size]
    assert run(*config, *arguments) == 0
    assert read_catalog(tmp_path / "out/catalog.csv").spec.shape == (8, 16, 16)


def test_a_series_that_kills_its_process_does_not_kill_the_command(
    made, config, monkeypatch, tmp_path
):
    asked = []

    def note(listing, out, options):
        asked.append(options)
        raise UvlmError("noted")

    monkeypatch.setattr("uvlm.preprocessing.ingest.prepare_dataset", note)
    assert run(*config, "resize", "--input-dir", made / "val", "--output-dir", tmp_path) == 1
    assert [(options.workers, options.isolated) for options in asked] == [(1, True)]


def test_one_split_is_enough_and_none_is_not(made, config, tmp_path, capsys):
    tables = ["--reports-input-dir", made / "reports", "--cls-input-dir", made / "classification"]
    out = ["--output-dir", tmp_path / "out"]
    assert run(*config, "all", "--val-input-dir", made / "val", *tables, *out) == 0
    assert len(read_catalog(tmp_path / "out/val_merged.csv").rows) == 1
    assert read_catalog(tmp_path / "out/train_merged.csv").rows == ()
    assert run(*config, "all", *tables, *out) == 2
    assert "--train-input-dir" in capsys.readouterr().err


def test_what_cannot_be_used_is_told_and_the_exit_code_is_3(made, config, tmp_path, capsys):
    root = shutil.copytree(made, tmp_path / "spoilt")
    next((root / "volumes").rglob("train_2_a_1.nii.gz")).write_bytes(b"\x1f\x8bcut off")
    assert main([*config, *everything(root, tmp_path / "out")]) == 3
    assert "train_2_a_1: " in capsys.readouterr().err
    assert len(read_catalog(tmp_path / "out/train_merged.csv").rows) == 3


def test_a_step_leaves_out_what_has_no_row_and_says_so(made, config, prepared, tmp_path, capsys):
    write_tables(tmp_path, SERIES[1:])
    folder = tmp_path / "dataset"
    table = folder / "radiology_text_reports/train_reports.csv"
    stores = ["--blosc2-dir", prepared / "imagesTr"]
    reports, labels = tmp_path / "reports.csv", tmp_path / "labels.csv"
    assert run(*config, "reports", "--input-csv", table, "--output-csv", reports, *stores) == 3
    assert "train_1_a_1: no row in train_reports.csv" in capsys.readouterr().err
    with reports.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["series_id"] for row in rows] == ["train_10_a_1", "train_1_b_2", "train_2_a_1"]
    write_tables(tmp_path, SERIES[2:])
    table = folder / "multi_abnormality_labels/train_predicted_labels.csv"
    assert run(*config, "classification", "--input-csv", table, "--output-csv", labels) == 0
    merge = ["merge", "--reports-csv", reports, "--labels-csv", labels]
    assert run(*config, *merge, "--output-csv", tmp_path / "merged.csv") == 3
    assert "train_1_b_2: no row in labels.csv" in capsys.readouterr().err
    assert len(read_catalog(tmp_path / "merged.csv").rows) == 2


@pytest.mark.parametrize("name", ["reports", "classification", "merge"])
def test_a_step_never_replaces_another_file(made, config, prepared, tmp_path, capsys, name):
    mine = tmp_path / "mine.csv"
    mine.write_text("a,b\n1,2\n")
    inputs = {
        "reports": [
            *("--input-csv", made / "reports/train_reports.csv"),
            *("--blosc2-dir", prepared / "imagesTr"),
        ],
        "classification": ["--input-csv", made / "classification/train_predicted_labels.csv"],
        "merge": [
            *("--reports-csv", prepared / "catalog.csv"),
            *("--labels-csv", tmp_path / "labels.csv"),
        ],
    }
    labels = ["--input-csv", made / "classification/train_predicted_labels.csv"]
    assert run("classification", *labels, "--output-csv", tmp_path / "labels.csv") == 0
    assert run(*config, name, *inputs[name], "--output-csv", mine) == 2
    assert "did not write it" in capsys.readouterr().err
    assert mine.read_text() == "a,b\n1,2\n"


def test_merging_into_a_dataset_of_another_preprocessing_is_refused(
    made, config, prepared, tmp_path, capsys
):
    other = tmp_path / "other"
    size = ["--target-size", "8", "16", "16"]
    assert run("resize", "--input-dir", made / "val", "--output-dir", other, *size) == 0
    labels = tmp_path / "labels.csv"
    table = made / "classification/train_predicted_labels.csv"
    assert run("classification", "--input-csv", table, "--output-csv", labels) == 0
    reports = ["--reports-csv", prepared / "train_merged.csv", "--labels-csv", labels]
    assert run("merge", *reports, "--output-csv", other / "merged.csv") == 2
    assert "prepared in different ways" in capsys.readouterr().err
    assert not (other / "merged.csv").exists()


@pytest.mark.parametrize(
    ("cell", "message"),
    [({"Lymphadenopathy": "TODO_DATA_PATH/0"}, "column 'Lymphadenopathy': the label 'TODO_DATA_")],
)
def test_a_label_that_is_a_path_is_refused_by_every_step(
    made, config, tmp_path, capsys, cell, message
):
    write_tables(tmp_path, SERIES, **cell)
    tables = tmp_path / "dataset/multi_abnormality_labels"
    table = tables / "train_predicted_labels.csv"
    out = tmp_path / "labels.csv"
    assert run(*config, "classification", "--input-csv", table, "--output-csv", out) == 2
    arguments = everything(made, tmp_path / "out")
    arguments[-1] = str(tables)
    assert main([*config, *arguments]) == 2
    assert capsys.readouterr().err.count(message) == 2
    assert not out.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("Dataset201_UVLM_ChestClsReport_Test", "TODO_DATA_PATH/0"),
        ("Dataset202_UVLM_AbdomenAll_Test", "a quoted field is not properly closed"),
    ],
)
def test_the_published_examples_are_refused_for_what_is_wrong_with_them(
    config, tmp_path, capsys, real_data, name, wanted
):
    table = real_data / "uvlm_examples" / name / "train_merged.csv"
    out = tmp_path / "out.csv"
    assert run(*config, "classification", "--input-csv", table, "--output-csv", out) == 2
    assert wanted in capsys.readouterr().err
    assert not out.exists()


def test_verify_finds_what_is_damaged_missing_or_of_another_preprocessing(
    prepared, tmp_path, capsys
):
    out = shutil.copytree(prepared, tmp_path / "out")
    assert run("verify", "--output-dir", out) == 0
    first = out / "imagesTr" / "train_1_a_1.b2nd"
    whole = first.read_bytes()
    middle = len(whole) // 2
    first.write_bytes(whole[:middle] + bytes(8) + whole[middle + 8 :])
    assert run("verify", "--output-dir", out) == 3
    assert "train_1_a_1.b2nd" in capsys.readouterr().err
    first.write_bytes(whole)
    description = json.loads((out / "dataset.json").read_text())
    description["spec"]["shape"] = [16, 24, 24]
    del description["spec_hash"]
    (out / "dataset.json").write_text(json.dumps(description))
    assert run("verify", "--output-dir", out) == 3
    assert "prepared by specification" in capsys.readouterr().err
    first.unlink()
    assert run("verify", "--output-dir", out) == 2
    assert "there is no file" in capsys.readouterr().err
    assert run("verify", "--output-dir", tmp_path / "nothing") == 2


def test_folders_and_settings_that_are_wrong_are_the_users_mistake(made, config, tmp_path, capsys):
    arguments = ["resize", "--input-dir", tmp_path / "nowhere", "--output-dir", tmp_path / "out"]
    assert run(*config, *arguments) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err
    bad = tmp_path / "bad.json"
    bad.write_text('{"target_size": [1, 2, 3]}')
    assert run("--config-path", bad, *arguments) == 2
    assert f"{bad}: unknown key 'target_size'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit) as stop:
        run("debug")
    assert stop.value.code == 2


def test_it_runs_as_a_module_and_helps_without_loading_much(capsys):
    code = (
        "import sys, runpy\n"
        "sys.argv[1:] = ['--help']\n"
        "try:\n"
        "    name = 'uvlm.preprocessing.preprocess_ct_rate_cls_report'\n"
        "    runpy.run_module(name, run_name='__main__')\n"
        "finally:\n"
        "    assert not {'torch', 'pandas', 'matplotlib', 'nnunetv2'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for command in ("all", "resize", "reports", "classification", "merge", "verify"):
        assert command in done.stdout


def test_volumes_are_where_the_factory_puts_them(made):
    """The fixture renames; a change of the factory must not empty these tests."""
    name = volume_path(made / "download", "train_1_a_1").name
    assert len(list(made.rglob(name))) == 1
