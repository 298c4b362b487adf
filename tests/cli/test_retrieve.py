"""`uvlm retrieve`: an index of a catalog, searched by words, by a file and by id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.inference.bundle_factory import chest_array, tiny_bundle, write_ct
from tests.inference.tiny_embedder import tiny_embedder, two_stages
from uvlm.cli import retrieve
from uvlm.cli.retrieve import main
from uvlm.errors import BundleError, ConfigError, InputError

BUNDLE = ("--bundle", "BUNDLE")
REPORTS = {"a": "clear lungs", "b": "a nodule", "c": "fluid"}


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three studies; whatever bundle is named, it is the tiny embedder."""
    for seed, name in enumerate(REPORTS):
        write_ct(tmp_path / f"{name}.nii.gz", chest_array((20 + seed, 32, 32), seed))
    rows = [f"{name},{name}.nii.gz,valid,{text}\n" for name, text in REPORTS.items()]
    (tmp_path / "catalog.csv").write_text("series_id,path,split,report\n" + "".join(rows))

    def tiny(args: Any, index: Any = None) -> Any:
        made = tiny_embedder()
        if index is not None:
            index.check(made.fingerprint)
        return made

    monkeypatch.setattr(retrieve, "_embedder", tiny)
    return tmp_path / "catalog.csv"


@pytest.fixture
def index(catalog: Path) -> Path:
    out = catalog.parent / "index.npz"
    assert main(["index", str(catalog), *BUNDLE, "--out", str(out)]) == 0
    return out


def search(*arguments: str, capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()
    assert main(["search", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_study_is_searched_by_file_and_by_id_without_itself(index, capsys):
    by_id = search(str(index), "--id", "a", capsys=capsys)
    ct = str(index.parent / "a.nii.gz")
    by_file = search(str(index), "--study", ct, *BUNDLE, capsys=capsys)
    assert by_id["left_out"] == by_file["left_out"] == ["a"]
    assert [hit["id"] for hit in by_id["hits"]] == [hit["id"] for hit in by_file["hits"]]
    assert {hit["id"] for hit in by_id["hits"]} == {"b", "c"}
    one = search(str(index), "--id", "a", "--top", "1", capsys=capsys)
    assert one["hits"] == by_id["hits"][:1]


def test_words_find_volumes_and_reports(index, capsys):
    found = search(str(index), "--text", "a nodule", "--among", "reports", *BUNDLE, capsys=capsys)
    assert found["hits"][0] == {"rank": 1, "id": "b", "cosine": pytest.approx(1)}
    volumes = search(str(index), "--text", "a nodule", *BUNDLE, capsys=capsys)
    assert len(volumes["hits"]) == 3
    assert main(["search", str(index), "--id", "b", "--among", "reports"]) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 3
    assert "left out" not in shown


def test_a_failed_study_is_told_by_the_exit_code(catalog, capsys):
    (catalog.parent / "b.nii.gz").write_bytes(b"")
    out = catalog.parent / "index.npz"
    assert main(["index", str(catalog), *BUNDLE, "--out", str(out)]) == 3
    assert "2 studies, with reports, 1 failed" in capsys.readouterr().out
    assert "b" in json.loads(out.with_suffix(".json").read_text())["failed"]


def test_nothing_is_overwritten(index, catalog):
    before = index.read_bytes()
    with pytest.raises(InputError, match="exists already"):
        main(["index", str(catalog), *BUNDLE, "--out", str(index)])
    assert index.read_bytes() == before


def test_words_and_files_need_the_bundle(index):
    with pytest.raises(ConfigError, match="needs the bundle"):
        main(["search", str(index), "--text", "a nodule"])


def test_another_bundle_or_one_without_the_part_is_refused(index, catalog, monkeypatch, tmp_path):
    monkeypatch.undo()
    other = ("--bundle", str(tiny_bundle(tmp_path / "report", ("report",))))
    with pytest.raises(BundleError, match="made with contrastive/0123"):
        main(["search", str(index), "--text", "a nodule", *other])
    with pytest.raises(BundleError, match="no contrastive part"):
        main(["index", str(catalog), *other, "--out", str(tmp_path / "x.npz")])
    assert not (tmp_path / "x.npz").exists()


def test_a_bundle_of_both_stages_from_catalog_to_hits(catalog, monkeypatch, tmp_path, capsys):
    monkeypatch.undo()
    own = ("--bundle", str(two_stages(tmp_path / "bundle")), "--device", "cpu")
    out = str(tmp_path / "index.npz")
    assert main(["index", str(catalog), *own, "--out", out]) == 0
    found = search(out, "--text", "a nodule", *own, "--among", "reports", capsys=capsys)
    assert len(found["hits"]) == 3
    by_file = search(out, "--study", str(tmp_path / "a.nii.gz"), *own, capsys=capsys)
    assert by_file["left_out"] == ["a"]
    assert by_file["hits"] == search(out, "--id", "a", capsys=capsys)["hits"]
