"""A catalog becomes an index by a contrastive model, one failure apart from the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.inference.bundle_factory import chest_array, tiny_bundle, write_ct
from tests.inference.tiny_embedder import CUT, GATED, UNET, VIT, tiny_embedder, two_stages
from uvlm.errors import BundleError, InputError
from uvlm.evaluation.tasks.retrieval import RetrievalInputs, evaluate_retrieval
from uvlm.imaging.preprocess import prepare
from uvlm.inference.batch.listed import list_studies
from uvlm.inference.embedder import ContrastiveEmbedder, embedder, load_embedder
from uvlm.inference.retrieve import build_index, embed_study
from uvlm.inference.study import read_study
from uvlm.models.bundle import load_bundle
from uvlm.models.slice_encoder import SliceEncoder

REPORTS = {"a": "clear lungs", "b": "a nodule", "c": "fluid"}


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    for seed, name in enumerate(REPORTS):
        write_ct(tmp_path / f"{name}.nii.gz", chest_array((20 + seed, 32, 32), seed))
    rows = [f"{name},{name}.nii.gz,valid,{text}\n" for name, text in REPORTS.items()]
    path = tmp_path / "catalog.csv"
    path.write_text("series_id,blosc2_path,split,report\n" + "".join(rows))
    return path


@pytest.mark.parametrize("encoder", [VIT, UNET], ids=["vit", "unet"])
def test_every_study_finds_itself_by_its_file(catalog, encoder):
    found = tiny_embedder(encoder)
    index = build_index(found, list_studies(catalog))
    assert index.ids == ("a", "b", "c")
    assert index.fingerprint == found.fingerprint
    for name in index.ids:
        path = catalog.parent / f"{name}.nii.gz"
        (hit,) = index.search(embed_study(found, path), 1)
        assert hit.cosine == pytest.approx(1, abs=1e-5)
        # The mean of normalised maps is much alike as long as nothing is learned.
        assert encoder is UNET or hit.id == name
        assert index.same_study("other", list_studies(path)[0].item.signed().signature) == {name}


def test_words_find_reports_that_say_them(catalog):
    found = tiny_embedder()
    index = build_index(found, list_studies(catalog))
    for name, text in REPORTS.items():
        (hit,) = index.search(found.embed_text(text), 1, among="reports")
        assert hit.id == name


def test_evaluation_reads_the_index(catalog):
    build_index(tiny_embedder(), list_studies(catalog)).save(catalog.parent / "index.npz")
    result = evaluate_retrieval(
        RetrievalInputs(references=catalog, predictions=catalog.parent / "index.npz", resamples=10)
    )
    assert tuple(result.ids) == ("a", "b", "c")


def test_without_a_report_of_each_study_there_are_none(catalog):
    catalog.write_text(catalog.read_text().replace("fluid", ""))
    index = build_index(tiny_embedder(), list_studies(catalog))
    assert index.text is None
    assert index.ids == ("a", "b", "c")


def test_a_folder_has_no_reports(catalog):
    catalog.unlink()
    index = build_index(tiny_embedder(), list_studies(catalog.parent))
    assert (index.ids, index.text) == (("a", "b", "c"), None)
    with pytest.raises(InputError, match="a folder has no split"):
        list_studies(catalog.parent, "valid")


def test_a_bad_study_is_left_out_and_said(catalog):
    (catalog.parent / "b.nii.gz").write_bytes(b"")
    catalog.write_text(catalog.read_text() + "d,,,words\n")
    index = build_index(tiny_embedder(), list_studies(catalog))
    assert index.ids == ("a", "c")
    assert list(index.failed) == ["b", "d"]
    assert "b.nii.gz" in index.failed["b"]
    index.save(catalog.parent / "index.npz")


def test_no_study_at_all_is_an_error(tmp_path):
    (tmp_path / "bad.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"no study can be embedded. The first: .*bad\.nii\.gz"):
        build_index(tiny_embedder(), list_studies(tmp_path))


def test_an_encoder_with_a_gate_needs_slices(catalog):
    found, studies = tiny_embedder(GATED), list_studies(catalog)
    with pytest.raises(BundleError, match="the 2D encoder is not in it"):
        build_index(found, studies)
    with pytest.raises(InputError, match="slices"):
        found.embed_volume(np.zeros(found.spec.shape, np.float32))
    rng = np.random.default_rng(0)
    bank: dict[str, Any] = {
        name: rng.normal(size=(3, GATED.slice_width)).astype(np.float32) for name in "ac"
    }

    def slices(name: str) -> Any:
        if name not in bank:
            raise InputError(f"bank: there are no features of {name}. Make them.")
        return bank[name]

    index = build_index(found, studies, slices=slices)
    assert (index.ids, list(index.failed)) == (("a", "c"), ["b"])
    bank["a"] = -bank["a"]
    other = build_index(found, studies, slices=slices)
    assert not np.allclose(other.image[0], index.image[0])
    assert np.allclose(other.image[1], index.image[1])


def test_a_bundle_with_its_2d_encoder_needs_no_bank(catalog):
    plain = tiny_embedder(GATED)
    found = ContrastiveEmbedder(plain.model, plain.spec, None, "x", slice_encoder=SliceEncoder(CUT))
    path = catalog.parent / "a.nii.gz"
    vector = embed_study(found, path)
    hu = prepare(read_study(path).volume, found.spec).array
    features = found.slice_features(hu)
    assert features.shape == (3, GATED.slice_width)
    np.testing.assert_array_equal(vector, embed_study(found, path, slices=features))
    assert not np.allclose(vector, embed_study(found, path, slices=-features))


def test_texts_need_words_and_a_vocabulary():
    found = tiny_embedder()
    with pytest.raises(InputError, match="the text to search by is empty"):
        found.embed_text(" ")
    bare = ContrastiveEmbedder(found.model, found.spec, None, "x")
    with pytest.raises(BundleError, match="no vocabulary"):
        bare.embed_text("a nodule")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return two_stages(tmp_path / "bundle")


def test_a_bundle_gives_the_embedder_of_each_stage(bundle, catalog):
    second, first = load_embedder(bundle), load_embedder(bundle, part="contrastive")
    assert (second.gated, first.gated) == (True, False)
    fingerprint = load_bundle(bundle).fingerprint
    assert second.fingerprint == f"contrastive_2e3/{fingerprint}"
    assert first.fingerprint == f"contrastive/{fingerprint}"
    index = build_index(second, list_studies(catalog))
    assert (index.ids, index.text is None) == (("a", "b", "c"), False)
    path = catalog.parent / "a.nii.gz"
    whole = embedder(load_bundle(bundle))
    np.testing.assert_array_equal(embed_study(whole, path), embed_study(second, path))
    np.testing.assert_allclose(index.image[0], embed_study(second, path), atol=1e-6)
    with pytest.raises(BundleError, match=r"made with contrastive_2e3/\w+, the bundle is contra"):
        index.check(first.fingerprint)


def test_a_bundle_without_a_contrastive_part_embeds_nothing(tmp_path):
    folder = tiny_bundle(tmp_path / "report", ("report",))
    with pytest.raises(BundleError, match="no contrastive part; it holds report"):
        embedder(load_bundle(folder))
    with pytest.raises(BundleError, match="no contrastive part; it holds report"):
        load_embedder(folder)
