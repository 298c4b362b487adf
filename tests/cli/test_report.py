"""`uvlm report`: files, exit codes, and what bad input leaves behind: nothing."""

from __future__ import annotations

import csv
import gzip
import json
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from pydicom.dataset import Dataset

from tests.imaging.dicom_factory import write_series
from tests.inference.batch.in_process import use_no_processes
from tests.inference.bundle_factory import chest_array, tiny_bundle, write_ct
from tests.models.tiny_base import report_config, report_model, tiny_base
from uvlm.cli.main import main
from uvlm.imaging.preprocess import preset
from uvlm.models.bundle import Part, save_bundle
from uvlm.models.pretrained import base_tokenizer


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "all")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    use_no_processes(monkeypatch)


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    return write_ct(tmp_path / "chest.nii.gz")


def report(*inputs: Path, bundle: Path, out: Path) -> int:
    names = [str(path) for path in inputs]
    common = ["--model", str(bundle), "--out", str(out), "--max-new-tokens", "5"]
    return main(["report", *names, *common, "--device", "cpu"])


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_one_study_gives_four_files(bundle, ct, tmp_path, capsys):
    assert report(ct, bundle=bundle, out=tmp_path / "out") == 0
    names = ["chest.html", "chest.json", "chest.md", "chest_mask.nii.gz"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert "chest.md" in capsys.readouterr().out
    image, mask = nib.load(ct), nib.load(tmp_path / "out/chest_mask.nii.gz")
    assert mask.shape == image.shape
    np.testing.assert_array_equal(mask.affine, image.affine)


def test_existing_results_stop_the_run_before_it_starts(bundle, ct, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "chest.md").write_text("mine")
    assert report(ct, bundle=bundle, out=out) == 2
    assert "exists already" in capsys.readouterr().err
    assert [(p.name, p.read_text()) for p in out.iterdir()] == [("chest.md", "mine")]


def test_a_bundle_of_adapters_needs_the_model_they_belong_to(ct, tmp_path, capsys):
    base = tiny_base(tmp_path / "Qwen3-Tiny", positions=2048)
    model = report_model(report_config(base))
    spec = preset("paper", shape=model.config.shape)
    part = Part(task="report", config=model.config, spec=spec, region="chest", trained_on="-")
    folder = tmp_path / "bundle"
    save_bundle(folder, {"report": part}, {"report": model}, base_tokenizer(base))
    assert report(ct, bundle=folder, out=tmp_path / "out") == 2
    assert "--base" in capsys.readouterr().err
    common = ["--model", str(folder), "--out", str(tmp_path / "out"), "--max-new-tokens", "5"]
    assert main(["report", str(ct), *common, "--base", str(base), "--device", "cpu"]) == 0
    assert names_in(tmp_path / "out") == ["chest.html", "chest.json", "chest.md"]


def bad_inputs(folder: Path) -> dict[str, Path]:
    """Name -> a file that is not a CT."""
    good = write_ct(folder / "good.nii.gz")
    data = good.read_bytes()
    contents = {
        "empty.nii.gz": b"",
        "truncated.nii.gz": data[: len(data) // 2],
        "text.nii.gz": b"these are words, not voxels\n" * 50,
    }
    paths = {}
    for name, content in contents.items():
        paths[name] = folder / name
        paths[name].write_bytes(content)
    image = nib.load(good)
    array = np.asarray(image.dataobj)
    arrays = {
        "flat.nii.gz": array[:, :, :1],
        "time.nii.gz": np.stack([array, array], axis=-1),
        "nan.nii.gz": np.where(array > 300, np.nan, array).astype(np.float32),
        "infinite.nii.gz": np.where(array > 300, np.inf, array).astype(np.float32),
        "mask.nii.gz": (array > 0).astype(np.uint8),
        "colour.nii.gz": np.zeros(array.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")]),
        "shifted.nii.gz": array + 1024,
    }
    for name, values in arrays.items():
        paths[name] = folder / name
        nib.save(nib.Nifti1Image(values, image.affine), paths[name])
    paths["spacing.nii"] = folder / "spacing.nii"
    nib.save(image, paths["spacing.nii"])
    header = bytearray(paths["spacing.nii"].read_bytes())
    header[76 + 4 : 76 + 8] = bytes(4)  # pixdim[1]
    paths["spacing.nii"].write_bytes(bytes(header))
    return paths


BAD = (
    "empty.nii.gz",
    "truncated.nii.gz",
    "text.nii.gz",
    "flat.nii.gz",
    "time.nii.gz",
    "nan.nii.gz",
    "infinite.nii.gz",
    "mask.nii.gz",
    "colour.nii.gz",
    "shifted.nii.gz",
    "spacing.nii",
)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_study_is_one_error_and_leaves_nothing(bundle, tmp_path, capsys, name):
    path = bad_inputs(tmp_path)[name]
    before = path.read_bytes()
    assert report(path, bundle=bundle, out=tmp_path / "out") == 2
    assert name in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert path.read_bytes() == before


def test_nothing_written_or_said_names_the_patient(bundle, tmp_path, capsys, caplog):
    secrets = {
        "PatientName": "Rossi^Anna",
        "PatientID": "P-4711",
        "PatientAddress": "Via Roma 7",
        "AccessionNumber": "ACC-0815",
        "InstitutionName": "San Luca",
        "StudyDescription": "follow-up of Anna",
        "ImageComments": "seen by Bianchi",
    }

    def identify(data: Dataset, z: int) -> None:
        for name, value in secrets.items():
            setattr(data, name, value)

    def damage(data: Dataset, z: int) -> None:
        identify(data, z)
        data.add_new("PixelSpacing", "LO", ["Rossi^Anna", "P-4711"])

    write_series(tmp_path / "good", chest_array(), change=identify)
    write_series(tmp_path / "bad", chest_array(), change=damage)
    out = tmp_path / "out"
    assert report(tmp_path / "good", tmp_path / "bad", bundle=bundle, out=out) == 3
    shown = capsys.readouterr()
    texts = [shown.out, shown.err, caplog.text]
    texts += [path.read_text() for path in out.iterdir() if not path.name.endswith(".gz")]
    texts.append(gzip.decompress((out / "good_mask.nii.gz").read_bytes()).decode("latin-1"))
    words = {word for value in secrets.values() for word in re.split(r"[\^ ]", value)}
    found = {word for word in words if len(word) > 3 and any(word in text for text in texts)}
    assert found == set()


def test_the_rest_goes_on_past_bad_studies(bundle, ct, tmp_path):
    paths = bad_inputs(tmp_path)
    out = tmp_path / "out"
    assert report(paths["empty.nii.gz"], ct, paths["mask.nii.gz"], bundle=bundle, out=out) == 3
    with (out / "errors.csv").open(newline="") as file:
        assert [row["study"] for row in csv.DictReader(file)] == ["empty", "mask"]
    with (out / "results.csv").open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["empty", "chest", "mask"]
    assert {"chest.json", "chest.md", "chest_mask.nii.gz"} <= set(names_in(out))
    assert names_in(out)[-3:] == ["errors.csv", "results.csv", "results.jsonl"]


def test_the_same_command_again_does_nothing_and_says_so(bundle, ct, tmp_path, capsys):
    (tmp_path / "bad").mkdir()
    bad = bad_inputs(tmp_path / "bad")
    out = tmp_path / "out"
    assert report(ct, bad["empty.nii.gz"], bundle=bundle, out=out) == 3
    assert "1 of 2 studies have a report, 1 failed; 2 done now" in capsys.readouterr().out
    assert report(ct, bad["empty.nii.gz"], bundle=bundle, out=out) == 3
    assert "0 were to do" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["report", "classify", "segment"])
def test_a_batch_s_folder_is_not_written_into_by_others(bundle, ct, tmp_path, capsys, command):
    out = tmp_path / "out"
    out.mkdir()
    (out / ".run.json").write_text("{}")
    common = ["--model", str(bundle), "--out", str(out), "--device", "cpu"]
    assert main([command, str(ct), *common]) == 2
    assert "it holds the reports of a batch" in capsys.readouterr().err
    assert names_in(out) == []


def test_a_catalog_and_a_folder_are_many_studies(bundle, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "b"):
        write_ct(folder / f"{name}.nii.gz")
    assert report(folder, bundle=bundle, out=tmp_path / "one") == 0
    (folder / "catalog.csv").write_text("series_id,blosc2_path\nfirst,a.nii.gz\nx,b.nii.gz\n")
    assert report(folder / "catalog.csv", bundle=bundle, out=tmp_path / "other") == 0
    for out, names in (("one", "ab"), ("other", ("first", "x"))):
        assert {f"{name}.json" for name in names} <= set(names_in(tmp_path / out))
    first, a = (tmp_path / name for name in ("other/first.json", "one/a.json"))
    first, a = (json.loads(path.read_text()) for path in (first, a))
    assert (first["study"], first["probabilities"]) == ("first", a["probabilities"])


def test_a_bad_row_of_a_catalog_is_that_study_s_error(bundle, ct, tmp_path, capsys):
    catalog = tmp_path / "catalog.csv"
    catalog.write_text("id,path\na,chest.nii.gz\nb,\nA,chest.nii.gz\n")
    out = tmp_path / "out"
    assert report(catalog, bundle=bundle, out=out) == 3
    assert "1 of 3 studies have a report, 2 failed; 1 done now" in capsys.readouterr().out
    with (out / "errors.csv").open(newline="") as file:
        errors = {row["study"]: row["error"] for row in csv.DictReader(file)}
    assert list(errors) == ["b", "A_row4"]
    assert all(f"catalog.csv: row {n}, column" in errors[k] for n, k in ((3, "b"), (4, "A_row4")))
    catalog.write_text("id,path\nb,\n")
    assert report(catalog, bundle=bundle, out=tmp_path / "none") == 2
    catalog.write_text("id,file_name\nb,chest.nii.gz\n")
    assert report(catalog, bundle=bundle, out=tmp_path / "never") == 2
    assert "no column of paths" in capsys.readouterr().err
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("option", [("--workers", "2"), ("--device", "cpu"), ("--engine", "ray")])
def test_gpus_leave_no_other_choice_of_workers(bundle, ct, tmp_path, capsys, option):
    arguments = ["report", str(ct), "--model", str(bundle), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--gpu-config", "0:2", *option]) == 2
    assert "leave --workers, --device and --engine out" in capsys.readouterr().err


def test_gpus_of_a_machine_without_are_refused(bundle, ct, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    arguments = ["report", str(ct), "--model", str(bundle), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--gpu-config", "0:2"]) == 2
    assert "Use --workers N" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_only_bad_studies_are_2(bundle, tmp_path):
    paths = bad_inputs(tmp_path)
    out = tmp_path / "out"
    assert report(paths["empty.nii.gz"], paths["text.nii.gz"], bundle=bundle, out=out) == 2
    assert names_in(out) == ["errors.csv", "results.csv", "results.jsonl"]


@pytest.mark.parametrize("damage", ["missing", "altered", "absent"])
def test_a_damaged_bundle_is_named_and_nothing_is_written(bundle, ct, tmp_path, capsys, damage):
    copy = tmp_path / "bundle"
    if damage != "absent":
        shutil.copytree(bundle, copy)
    if damage == "missing":
        (copy / "labels.json").unlink()
    if damage == "altered":
        weights = copy / "model.safetensors"
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(bytes(data))
    assert report(ct, bundle=copy, out=tmp_path / "out") == 2
    named = {"missing": "labels.json", "altered": "model.safetensors", "absent": "bundle"}
    assert named[damage] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_bundle_without_a_report_part_is_refused(ct, tmp_path, capsys):
    bundle = tiny_bundle(tmp_path / "bundle", ("segmentation",))
    assert report(ct, bundle=bundle, out=tmp_path / "out") == 2
    assert "it holds segmentation" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_another_region_is_said_on_screen_and_on_top_of_the_files(ct, tmp_path, capsys):
    bundle = tiny_bundle(tmp_path / "bundle", region="abdomen")
    assert report(ct, bundle=bundle, out=tmp_path / "out") == 0
    assert "WARNING: Another body region" in capsys.readouterr().out
    content = json.loads((tmp_path / "out/chest.json").read_text())
    assert content["warnings"][0].startswith("Another body region")
    assert content["report"].startswith("WARNING: Another body region")


@pytest.mark.parametrize("command", ["report", "classify", "segment"])
def test_help_explains_the_command(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert "--model BUNDLE" in capsys.readouterr().out


def test_a_report_of_no_tokens_is_refused(bundle, ct, tmp_path, capsys):
    arguments = ["report", str(ct), "--model", str(bundle), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--max-new-tokens", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
