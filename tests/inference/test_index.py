"""An index finds the same studies whatever number is asked for, and belongs to one bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from uvlm.errors import BundleError, ConfigError, InputError
from uvlm.evaluation.embeddings import read_embeddings
from uvlm.inference.index import Index

COUNT, WIDTH = 60, 8


@pytest.fixture
def index() -> Index:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(COUNT, WIDTH))
    image[50:] = image[:10]  # ties
    ids = tuple(f"s{number:02}" for number in rng.permutation(COUNT))
    signatures = tuple(f"file of {name}" for name in ids)
    text = rng.normal(size=(COUNT, WIDTH))
    own = {"fingerprint": "aa", "spec_hash": "bb", "signatures": signatures}
    return Index(ids=ids, image=image, text=text, **own)


def ids(hits: list) -> list[str]:
    return [hit.id for hit in hits]


@pytest.mark.parametrize("among", ["volumes", "reports"])
def test_a_shorter_list_is_the_head_of_a_longer(index, among):
    query = np.random.default_rng(1).normal(size=WIDTH)
    fifty = index.search(query, 50, among=among)
    assert index.search(query, 5, among=among) == fifty[:5]
    assert len(index.search(query, 1000, among=among)) == COUNT
    assert [hit.rank for hit in fifty] == list(range(1, 51))
    name = index.ids[7]
    assert index.search_like(name, 5) == index.search_like(name, 50)[:5]


def test_the_nearest_is_found_by_its_cosine(index):
    found = index.search(7 * index.image[20], 3)
    assert found[0].id == index.ids[20]
    assert found[0].cosine == pytest.approx(1)
    by_hand = sorted(index.image @ index.image[20])[::-1]
    assert [hit.cosine for hit in found] == pytest.approx(by_hand[:3], abs=1e-6)


def test_equally_near_studies_come_by_id(index):
    hits = index.search(index.image[3], 2)
    assert ids(hits) == sorted([index.ids[3], index.ids[53]])
    assert hits[0].cosine == hits[1].cosine


def test_order_of_the_studies_means_nothing(index):
    turned = Index(ids=index.ids[::-1], image=index.image[::-1], fingerprint="aa", spec_hash="bb")
    assert turned.search_like("s05", 60) == index.search_like("s05", 60)


def test_a_volume_is_not_found_by_itself(index):
    for name in index.ids:
        assert name not in ids(index.search_like(name, COUNT))
    assert len(index.search_like("s00", COUNT)) == COUNT - 1


def test_a_volume_may_find_its_own_report(index):
    assert "s00" in ids(index.search_like("s00", COUNT, among="reports"))
    assert "s00" in ids(index.search_like("s00", COUNT, query="reports"))
    assert "s00" not in ids(index.search_like("s00", COUNT, query="reports", among="reports"))


def test_a_study_is_known_by_name_or_by_its_files(index):
    assert index.same_study("folder/s07.nii.gz") == {"s07"}
    assert index.same_study("ct", "file of s08") == {"s08"}
    assert index.same_study("ct", "file of others") == set()
    assert index.same_study("ct") == set()


def test_what_is_saved_is_what_is_loaded(index, tmp_path):
    written = index.save(tmp_path / "new" / "chest.npz")
    assert [path.name for path in written] == ["chest.json", "chest.npz"]
    loaded = Index.load(tmp_path / "new" / "chest.npz")
    assert (loaded.ids, loaded.fingerprint, loaded.spec_hash) == (index.ids, "aa", "bb")
    assert loaded.signatures == index.signatures
    assert ids(loaded.search_like("s04", 9)) == ids(index.search_like("s04", 9))
    assert read_embeddings(tmp_path / "new" / "chest.npz").text is not None


def test_nothing_is_overwritten(index, tmp_path):
    (tmp_path / "chest.json").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        index.save(tmp_path / "chest.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["chest.json"]
    with pytest.raises(InputError, match=r"does not end in \.npz"):
        index.save(tmp_path / "chest")


def damage(folder: Path, how: str) -> None:
    file, beside = folder / "chest.npz", folder / "chest.json"
    if how == "cut":
        file.write_bytes(file.read_bytes()[:200])
    elif how == "other":
        np.savez(file, ids=np.array(["a"]), image=np.ones((1, 3)))
    elif how == "no description":
        beside.unlink()
    elif how == "words":
        beside.write_text("words")
    elif how == "list":
        beside.write_text("[1]")
    else:
        beside.write_text(beside.read_text().replace('"format": 1', '"format": 2'))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("cut", r"chest\.npz: no readable \.npz"),
        ("other", r"chest\.npz: it is not the file that chest\.json describes"),
        ("no description", r"there is no chest\.json beside it"),
        ("words", r"chest\.json: damaged"),
        ("list", r"chest\.json: damaged"),
        ("format", r"chest\.json: of format 2"),
    ],
)
def test_a_damaged_index_is_refused(index, tmp_path, how, message):
    index.save(tmp_path / "chest.npz")
    damage(tmp_path, how)
    with pytest.raises(InputError, match=message):
        Index.load(tmp_path / "chest.npz")


def test_the_index_of_another_bundle_is_refused(index):
    index.check("aa")
    with pytest.raises(BundleError, match="made with aa, the bundle is cc"):
        index.check("cc")


def test_impossible_queries_are_refused(index):
    plain = Index(ids=("a",), image=np.ones((1, 3)), fingerprint="", spec_hash="")
    with pytest.raises(ConfigError, match="top must be at least 1"):
        index.search(index.image[0], 0)
    with pytest.raises(InputError, match="its vectors have 8 numbers, the query 3"):
        index.search([1.0, 2.0, 3.0])
    with pytest.raises(InputError, match="no direction"):
        index.search(np.zeros(WIDTH))
    with pytest.raises(InputError, match="it holds no reports"):
        plain.search(np.ones(3), among="reports")
    with pytest.raises(InputError, match="no study 'z'"):
        plain.search_like("z")


def test_vectors_that_fit_no_studies_are_refused():
    own = {"fingerprint": "", "spec_hash": ""}
    with pytest.raises(InputError, match="study 'a' twice"):
        Index(ids=("a", "a"), image=np.ones((2, 3)), **own)
    with pytest.raises(InputError, match="1 ids and 2 image vectors"):
        Index(ids=("a",), image=np.ones((2, 3)), **own)
    with pytest.raises(InputError, match="that of 'b' is not finite"):
        Index(ids=("a", "b"), image=np.array([[1.0], [np.nan]]), **own)
