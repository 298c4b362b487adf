"""Texts and labels of AbdomenAtlas into catalogs, whole and step by step."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from uvlm.imaging.preprocess import preset
from uvlm.phantom.make import make_abdomen
from uvlm.preprocessing.catalog import read_catalog
from uvlm.preprocessing.ingest import Options, prepare_dataset
from uvlm.preprocessing.preprocess_abdomen_cls_report import main
from uvlm.preprocessing.sources.abdomen_atlas import list_abdomen_atlas
from uvlm.preprocessing.sources.abdomen_tables import METADATA
from uvlm.registry import ABDOMEN_LABELS

SPEC = preset("paper", (16, 32, 32))
DIVIDED = [f"{split}_{part}_merged.csv" for split in ("iid", "ood") for part in ("train", "test")]


def run(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("abdomen") / "raw"
    make_abdomen(out, studies=6, seed=5, shape=(32, 64, 64), min_prevalence=0.5)
    return out


@pytest.fixture(scope="module")
def prepared(made, tmp_path_factory) -> Path:
    """What `uvlm prepare abdomen-atlas` writes."""
    out = tmp_path_factory.mktemp("prepared") / "out"
    prepare_dataset(list_abdomen_atlas(made), out, Options(spec=SPEC))
    return out


def words(made: Path, images: Path, out: Path) -> list[object]:
    return [
        *("--mask-only-dir", made / "mask_only", "--image-only-dir", made / "image_only"),
        *("--meta-csv", made / METADATA, "--images-dir", images),
        *("--split-dir", made / "TrainTestIDS", "--output-dir", out),
    ]


@pytest.fixture(scope="module")
def whole(made, prepared, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    assert run("all", *words(made, prepared / "imagesTr", out)) == 0
    return out


def cells(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["series_id"]: row for row in csv.DictReader(file)}


def test_all_says_what_prepare_says(prepared, whole):
    """One code: the same labels, texts and measures by both ways."""
    expected = read_catalog(prepared / "catalog.csv")
    merged = read_catalog(whole / "merged.csv", need=("labels", "report"))
    assert merged.spec == SPEC
    assert merged.extra_columns == expected.extra_columns
    for row, other in zip(merged.rows, expected.rows, strict=True):
        assert (row.series_id, row.labels, row.report) == (
            other.series_id,
            other.labels,
            other.report,
        )
        assert (row.extra, row.split) == (other.extra, other.split)
        assert row.image.samefile(other.image)


def test_every_file_reads_as_a_catalog_with_relative_paths(whole):
    names = ["reports.csv", "classification.csv", "merged.csv", *DIVIDED]
    for name in names:
        catalog = read_catalog(whole / name)
        assert catalog.labels == ABDOMEN_LABELS
        assert all(row.image.is_file() for row in catalog.rows)
        assert not any(
            Path(row["blosc2_path"]).is_absolute() for row in cells(whole / name).values()
        )
        assert (whole / f"{name[:-4]}_errors.csv").is_file() == (name not in DIVIDED)


@pytest.mark.parametrize("split", ["IID", "OOD"])
def test_the_four_files_are_the_lists(made, whole, split):
    for part in ("train", "test"):
        listed = (made / f"TrainTestIDS/{split}_{part}.csv").read_text().split()[2:]
        catalog = read_catalog(whole / f"{split.lower()}_{part}_merged.csv")
        assert [row.series_id for row in catalog.rows] == sorted(listed)
        assert {row.split for row in catalog.rows} <= {part}


def test_step_by_step_gives_the_same(made, prepared, whole, tmp_path):
    steps = tmp_path / "steps"
    table = ("--meta-csv", made / METADATA)
    reports = ("reports", *table, "--images-dir", prepared / "imagesTr", "--output-dir", steps)
    masks = ("--mask-only-dir", made / "mask_only", "--image-only-dir", made / "image_only")
    assert run(*reports) == 0
    assert run("classification", *masks, *table, "--output-dir", tmp_path / "labels") == 0
    other = ("--reports-csv", steps / "reports.csv", "--cls-csv")
    merged = tmp_path / "elsewhere/deep/merged.csv"
    assert run("merge", *other, tmp_path / "labels/classification.csv", "--output-csv", merged) == 0
    lists = ("--split-dir", made / "TrainTestIDS", "--output-dir", tmp_path / "split")
    assert run("split", "--merged-csv", merged, *lists) == 0
    for name in DIVIDED:
        one, two = read_catalog(whole / name), read_catalog(tmp_path / "split" / name)
        assert [(r.series_id, r.labels, r.report, r.extra, r.split) for r in one.rows] == [
            (r.series_id, r.labels, r.report, r.extra, r.split) for r in two.rows
        ]
        assert [r.image.resolve() for r in one.rows] == [r.image.resolve() for r in two.rows]


def test_classification_needs_no_metadata_and_no_report(made, tmp_path):
    masks = ("--mask-only-dir", made / "mask_only", "--image-only-dir", made / "image_only")
    assert run("classification", *masks, "--output-dir", tmp_path) == 0
    rows = cells(tmp_path / "classification.csv")
    assert len(rows) == 6
    assert {row[label] for row in rows.values() for label in ABDOMEN_LABELS} == {"0", "1"}


def test_verify_reads_everything_back(whole, tmp_path, capsys):
    assert run("verify", "--output-dir", whole) == 0
    assert "6 stores read" in capsys.readouterr().out
    assert run("verify", "--output-dir", tmp_path) == 2


def test_stores_may_end_in_0000_and_a_missing_one_is_recorded(made, prepared, tmp_path, capsys):
    images = tmp_path / "images"
    shutil.copytree(prepared / "imagesTr", images)
    (images / "BDMAP_00000001.b2nd").rename(images / "BDMAP_00000001_0000.b2nd")
    (images / "BDMAP_00000002.b2nd").unlink()
    out = tmp_path / "out"
    assert run("all", *words(made, images, out)) == 3
    assert "BDMAP_00000002_0000.b2nd" in capsys.readouterr().err
    assert set(cells(out / "reports_errors.csv")) == {"BDMAP_00000002"}
    merged = read_catalog(out / "merged.csv")
    assert [row.series_id[-1] for row in merged.rows] == ["1", "3", "4", "5", "6"]
    assert merged.rows[0].image.name == "BDMAP_00000001_0000.b2nd"


def test_a_broken_mask_costs_its_case_alone_and_is_told_once(made, prepared, tmp_path, capsys):
    atlas = Path(shutil.copytree(made, tmp_path / "atlas"))
    (atlas / "mask_only/BDMAP_00000003/segmentations/aorta.nii.gz").write_bytes(b"\x1f\x8b cut")
    out = tmp_path / "out"
    assert run("all", *words(atlas, prepared / "imagesTr", out)) == 3
    assert capsys.readouterr().err.count("aorta.nii.gz") == 1
    assert set(cells(out / "classification_errors.csv")) == {"BDMAP_00000003"}
    assert "BDMAP_00000003" not in cells(out / "merged.csv")


def test_a_second_run_measures_only_what_is_missing(made, prepared, tmp_path):
    out = tmp_path / "out"
    arguments = words(made, prepared / "imagesTr", out)
    assert run("all", *arguments) == 0
    before = {path.name: path.read_bytes() for path in out.glob("*.csv")}
    log = out / "classification.jsonl"
    log.write_bytes(log.read_bytes().split(b"\n", 1)[1])
    lines = len(log.read_bytes().splitlines())
    assert run("all", *arguments) == 0
    assert len(log.read_bytes().splitlines()) == lines + 1
    assert {path.name: path.read_bytes() for path in out.glob("*.csv")} == before


def test_files_of_others_are_left_alone(made, prepared, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "merged.csv").write_text("a,b\n1,2\n")
    assert run("all", *words(made, prepared / "imagesTr", out)) == 2
    assert "did not write it" in capsys.readouterr().err
    assert (out / "merged.csv").read_text() == "a,b\n1,2\n"


def test_the_description_of_another_dataset_is_left_alone(made, prepared, tmp_path, capsys):
    before = (prepared / "dataset.json").read_bytes()
    assert run("all", *words(made, prepared / "imagesTr", prepared)) == 2
    assert "another dataset" in capsys.readouterr().err
    assert (prepared / "dataset.json").read_bytes() == before
    assert not (prepared / "classification.jsonl").exists()


def test_stores_of_two_preparations_are_refused(made, prepared, tmp_path, capsys):
    prepare_dataset(
        list_abdomen_atlas(made), tmp_path / "other", Options(spec=preset("authors", (16, 32, 32)))
    )
    images = Path(shutil.copytree(prepared / "imagesTr", tmp_path / "images"))
    name = "BDMAP_00000001.b2nd"
    shutil.copyfile(tmp_path / "other/imagesTr" / name, images / name)
    assert run("all", *words(made, images, tmp_path / "out")) == 2
    assert "different ways" in capsys.readouterr().err


def test_cases_without_the_report_are_told_and_listed(made, prepared, tmp_path, capsys):
    atlas = Path(shutil.copytree(made, tmp_path / "atlas"))
    with (atlas / METADATA).open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[2]["structured report"] = ""
    with (atlas / METADATA).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    out = tmp_path / "out"
    assert run("all", *words(atlas, prepared / "imagesTr", out)) == 0
    assert "reports.csv: 5 cases, 1 left out without such a report" in capsys.readouterr().out
    listed = cells(out / "reports_errors.csv")
    assert {case: row["error"] for case, row in listed.items()} == {
        "BDMAP_00000003": "no structured report"
    }


def test_cases_without_masks_are_listed(made, prepared, tmp_path):
    atlas = Path(shutil.copytree(made, tmp_path / "atlas"))
    shutil.rmtree(atlas / "mask_only/BDMAP_00000004")
    out = tmp_path / "out"
    assert run("all", *words(atlas, prepared / "imagesTr", out)) == 3
    assert set(cells(out / "classification_errors.csv")) == {"BDMAP_00000004"}


def test_model_cards_will_say_what_the_studies_are(whole):
    for name in ("merged.csv", *DIVIDED):
        assert read_catalog(whole / name).name == "synthetic abdominal studies"


def test_nothing_usable_is_an_error(made, tmp_path, capsys):
    assert run("all", *words(made, tmp_path, tmp_path / "out")) == 2
    assert "no case can be in it" in capsys.readouterr().err


def test_another_report_can_be_chosen(made, prepared, tmp_path):
    config = tmp_path / "c.json"
    config.write_text(json.dumps({"report": "narrative"}))
    words = ("--meta-csv", made / METADATA, "--images-dir", prepared / "imagesTr")
    assert run("--config-path", config, "reports", *words, "--output-dir", tmp_path / "o") == 0
    for row in cells(tmp_path / "o/reports.csv").values():
        assert row["report"] == " ".join(row["report_narrative"].split())
