"""The data preparation commands of the published README run as written there, on made studies."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.preprocessing.nnunet_raw_factory import make_chest_raw
from uvlm.cli.main import main
from uvlm.preprocessing.catalog import Catalog, read_catalog

SEED_README = Path(__file__).resolve().parents[3] / "shared/seeds/uvlm_readme.md"
SHAPE = [16, 32, 32]

COMMANDS = {
    "ct_rate_all": """
python -m uvlm.preprocessing.preprocess_ct_rate_cls_report \\
    --config-path /path/to/ct_rate_config.json \\
    all --train-input-dir /path/to/train --val-input-dir /path/to/val \\
        --output-dir /path/to/output \\
        --reports-input-dir /path/to/reports \\
        --cls-input-dir /path/to/classification
""",
    "ct_rate_resize": """
python -m uvlm.preprocessing.preprocess_ct_rate_cls_report \\
    --config-path /path/to/ct_rate_config.json \\
    resize --input-dir /path/to/nii_files --output-dir /path/to/output
""",
    "ct_rate_reports": """
python -m uvlm.preprocessing.preprocess_ct_rate_cls_report \\
    --config-path /path/to/ct_rate_config.json \\
    reports --input-csv /path/to/reports.csv --output-csv /path/to/output.csv \\
            --blosc2-dir /path/to/imagesTr
""",
    "abdomen_seg_all": """
python -m uvlm.preprocessing.preprocess_abdomen_seg \\
    --config-path /path/to/abdomen_atlas_config.json \\
    all --input-dir /path/to/AbdomenAtlas \\
        --raw-output-dir /path/to/nnUNet_raw \\
        --preprocessed-output-dir /path/to/nnUNet_preprocessed
""",
    "abdomen_cls_report_all": """
python -m uvlm.preprocessing.preprocess_abdomen_cls_report \\
    --config-path /path/to/abdomen_atlas_config.json \\
    all --mask-only-dir /path/to/mask_only \\
        --image-only-dir /path/to/image_only \\
        --meta-csv /path/to/metadata.csv \\
        --images-dir /path/to/preprocessed_images \\
        --split-dir /path/to/TrainTestIDS \\
        --output-dir /path/to/output
""",
    "rexgrounding_all": """
python -m uvlm.preprocessing.preprocess_rexgrounding_seg \\
    --config-path /path/to/rexgrounding_ct_config.json \\
    all --raw-input-dir /path/to/nnUNet_raw \\
        --output-dir /path/to/nnUNet_preprocessed
""",
}
"""In the order of the README, which is also an order in which they can be run."""

PLACE = "/path/to/"


def words(command: str) -> list[str]:
    return shlex.split(command.replace("\\\n", " "))


def run(name: str, places: dict[str, Path]) -> str:
    """Run a command with its `/path/to/X` replaced by `places[X]`; its standard output."""
    command = words(COMMANDS[name])
    filled = [str(places[w[len(PLACE) :]]) if w.startswith(PLACE) else w for w in command]
    done = subprocess.run(
        [sys.executable, *filled[1:]], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def configuration(folder: Path, name: str) -> Path:
    """The shipped configuration at a shape that suits small studies."""
    shipped = Path(__file__).resolve().parents[2] / "src/uvlm/preprocessing/configs" / name
    path = folder / name
    path.write_text(json.dumps({**json.loads(shipped.read_text()), "shape": SHAPE}))
    return path


def make(folder: Path, region: str) -> Path:
    shape = ["--shape", "32", "64", "64"]
    words = ["phantom", "make", str(folder), "--studies", "8", "--seed", "5", "--region", region]
    assert main([*words, *shape]) == 0
    return folder


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("chest") / "raw", "chest")


@pytest.fixture(scope="module")
def abdomen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("abdomen") / "raw", "abdomen")


@pytest.mark.skipif(
    not SEED_README.exists(), reason="needs the published README beside the project"
)
def test_these_are_the_published_commands():
    text = SEED_README.read_text(encoding="utf-8")
    section = text[text.index("### Data Preparation") : text.index("### Training Workflow")]
    blocks = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    lines = [
        shlex.split(line, comments=True)
        for block in blocks
        for line in block.replace("\\\n", " ").splitlines()
    ]
    assert [line for line in lines if line] == [words(command) for command in COMMANDS.values()]


@pytest.fixture(scope="module")
def ct_rate(chest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `all` writes."""
    root, out = chest / "dataset", tmp_path_factory.mktemp("ct_rate") / "out"
    places = {
        "ct_rate_config.json": configuration(out.parent, "ct_rate_config.json"),
        "train": root / "train_fixed",
        "val": root / "valid_fixed",
        "output": out,
        "reports": root / "radiology_text_reports",
        "classification": root / "multi_abnormality_labels",
    }
    run("ct_rate_all", places)
    return out


def prepared(catalog: Path) -> Catalog:
    read = read_catalog(catalog)
    assert read.spec is not None
    assert list(read.spec.shape) == SHAPE
    return read


def test_ct_rate_all_writes_a_catalog_per_split(ct_rate):
    train = prepared(ct_rate / "train_merged.csv")
    valid = prepared(ct_rate / "val_merged.csv")
    assert {row.split for row in train.rows} == {"train"}
    assert {row.split for row in valid.rows} == {"valid"}
    assert len(train.rows) + len(valid.rows) == 8
    assert all(row.report and None not in row.labels for row in train.rows)


def test_ct_rate_steps_give_the_same_volumes_and_reports(chest, ct_rate, tmp_path):
    config = configuration(tmp_path, "ct_rate_config.json")
    train = chest / "dataset/train_fixed"
    resized = tmp_path / "resized"
    run(
        "ct_rate_resize",
        {"ct_rate_config.json": config, "nii_files": train, "output": resized},
    )
    whole = {path.name: path for path in (ct_rate / "imagesTr").glob("train_*.b2nd")}
    parts = {path.name: path for path in (resized / "imagesTr").glob("*.b2nd")}
    assert parts.keys() == whole.keys()
    reports = tmp_path / "reports.csv"
    run(
        "ct_rate_reports",
        {
            "ct_rate_config.json": config,
            "reports.csv": chest / "dataset/radiology_text_reports/train_reports.csv",
            "output.csv": reports,
            "imagesTr": resized / "imagesTr",
        },
    )
    with reports.open(newline="", encoding="utf-8") as file:
        written = {row["series_id"]: row["report"] for row in csv.DictReader(file)}
    catalog = read_catalog(ct_rate / "train_merged.csv")
    assert written == {row.series_id: row.report for row in catalog.rows}


@pytest.fixture(scope="module")
def abdomen_seg(abdomen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`nnUNet_preprocessed`, with `nnUNet_raw` beside it."""
    folder = tmp_path_factory.mktemp("abdomen_seg")
    out = folder / "nnUNet_preprocessed"
    places = {
        "abdomen_atlas_config.json": configuration(folder, "abdomen_atlas_config.json"),
        "AbdomenAtlas": abdomen,
        "nnUNet_raw": folder / "nnUNet_raw",
        "nnUNet_preprocessed": out,
    }
    run("abdomen_seg_all", places)
    return out


ATLAS = "Dataset145_AbdomenAtlas3.0Mini"


def test_abdomen_segmentation_writes_raw_and_preprocessed_datasets(abdomen, abdomen_seg):
    raw = abdomen_seg.parent / "nnUNet_raw" / ATLAS
    ids = {path.name for path in (abdomen / "image_only").iterdir()}
    assert {path.name[: -len(".nii.gz")] for path in (raw / "labelsTr").iterdir()} == ids
    folds = json.loads((abdomen_seg / ATLAS / "splits_final.json").read_text())
    held_out = (abdomen / "TrainTestIDS/IID_test.csv").read_text().split()[2:]
    assert len(folds) == 5
    assert held_out
    used = {case for fold in folds for part in ("train", "val") for case in fold[part]}
    assert used == ids - set(held_out)


def test_abdomen_reports_and_labels_split_into_four_catalogs(abdomen, abdomen_seg, tmp_path):
    places = {
        "abdomen_atlas_config.json": configuration(tmp_path, "abdomen_atlas_config.json"),
        "mask_only": abdomen / "mask_only",
        "image_only": abdomen / "image_only",
        "metadata.csv": abdomen / "AbdomenAtlas3.0MiniWithMeta.csv",
        "preprocessed_images": abdomen_seg / ATLAS / "uvlm/imagesTr",
        "TrainTestIDS": abdomen / "TrainTestIDS",
        "output": tmp_path / "output",
    }
    run("abdomen_cls_report_all", places)
    for name in ("iid", "ood"):
        parts = [
            read_catalog(tmp_path / f"output/{name}_{p}_merged.csv") for p in ("train", "test")
        ]
        ids = [{row.series_id for row in part.rows} for part in parts]
        assert not ids[0] & ids[1]
        assert len(ids[0] | ids[1]) == 8
        assert all(row.report and None not in row.labels for part in parts for row in part.rows)


def test_rexgrounding_writes_a_preprocessed_dataset(chest, tmp_path):
    raw = make_chest_raw(chest, tmp_path / "nnUNet_raw")
    places = {
        "rexgrounding_ct_config.json": configuration(tmp_path, "rexgrounding_ct_config.json"),
        "nnUNet_raw": raw,
        "nnUNet_preprocessed": tmp_path / "out",
    }
    run("rexgrounding_all", places)
    dataset = tmp_path / "out/Dataset141_ReXGroundingCT"
    assert len(prepared(dataset / "uvlm/catalog.csv").rows) == 8
    assert len(json.loads((dataset / "splits_final.json").read_text())) == 5
