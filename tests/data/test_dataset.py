"""A sample is the patch asked for, standardised as at inference, and depends on its draw alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import blosc2
import numpy as np
import pytest
import torch

from tests.data.toy_catalog import CLASSES, LABELS, SHAPE, SPEC, make_catalog
from uvlm.data.config import AugmentConfig, DataConfig
from uvlm.data.dataset import Draw, StudyDataset
from uvlm.errors import CatalogError, ConfigError
from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.imaging.store import read_store
from uvlm.preprocessing.catalog import Row, read_catalog
from uvlm.text.prompts import Example

PLAIN = AugmentConfig(spatial=False, intensity=False)
WHOLE = DataConfig(shape=SHAPE, augment=PLAIN)
PATCHES = DataConfig(shape=SHAPE, patch=(4, 6, 6), augment=PLAIN)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    return list(read_catalog(make_catalog(tmp_path_factory.mktemp("toy"))).rows)


def test_a_whole_volume_is_standardised_by_its_own_mean_and_deviation(rows):
    image = StudyDataset(rows, WHOLE, SPEC)[Draw(0, 0)]["image"]
    stored = read_store(rows[0].image).astype(np.float32)
    assert image.shape == (1, *SHAPE)
    assert image.dtype == torch.float32
    np.testing.assert_allclose(image[0], (stored - stored.mean()) / stored.std(), atol=1e-5)


def test_a_patch_is_part_of_the_standardised_volume(rows):
    whole = StudyDataset(rows, WHOLE, SPEC)[Draw(0, 0)]["image"]
    patches = StudyDataset(rows, PATCHES, SPEC)
    windows = whole[0].unfold(0, 4, 1).unfold(1, 6, 1).unfold(2, 6, 1)
    for seed in range(5):
        patch = patches[Draw(0, seed)]["image"][0]
        assert patch.shape == (4, 6, 6)
        assert (windows == patch).flatten(3).all(-1).any()


def test_only_the_patch_is_decoded(rows, monkeypatch):
    asked = []
    import uvlm.data.dataset as module

    class Spy(module.StoredArray):
        def __getitem__(self, region):
            asked.append(region)
            return super().__getitem__(region)

    monkeypatch.setattr(module, "StoredArray", Spy)
    StudyDataset(rows, PATCHES, SPEC)[Draw(0, 0)]
    (region,) = asked
    assert [s.stop - s.start for s in region] == [4, 6, 6]


def test_the_same_draw_gives_the_same_sample_whatever_came_before(rows):
    config = replace(PATCHES, augment=AugmentConfig(mirror=(0, 1)))

    def build() -> StudyDataset:
        return StudyDataset(rows, config, SPEC, need=("mask",), train=True)

    used = build()
    for seed in range(6):
        used[Draw(0, seed)]
    first, second = used[Draw(0, 9)], build()[Draw(0, 9)]
    assert torch.equal(first["image"], second["image"])
    assert torch.equal(first["seg"], second["seg"])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_patches_are_centred_on_random_classes_as_often_as_asked(rows, share):
    """A small patch around a voxel of the small lesion holds it; a random one rarely does."""
    config = replace(PATCHES, patch=(2, 2, 2), foreground=share)
    dataset = StudyDataset(rows, config, SPEC, need=("mask",), train=True)
    found = [int((dataset[Draw(0, seed)]["seg"] == 2).any()) for seed in range(300)]
    # Half of the centred patches are centred on the lesion (one of two classes), and some of
    # those centred on the organ touch it.
    assert (np.mean(found) > 0.45) == bool(share)
    if not share:
        assert np.mean(found) < 0.25


def test_validation_patches_ignore_the_masks(rows):
    config = replace(PATCHES, patch=(2, 2, 2), foreground=1.0)
    dataset = StudyDataset(rows, config, SPEC, need=("mask",), train=False)
    found = [int((dataset[Draw(0, seed)]["seg"] == 2).any()) for seed in range(300)]
    assert np.mean(found) < 0.25


def test_augmented_patches_keep_their_size_and_classes(rows):
    config = replace(PATCHES, augment=AugmentConfig(mirror=(0, 1)))
    dataset = StudyDataset(rows, config, SPEC, need=("mask",), train=True)
    for seed in range(30):
        sample = dataset[Draw(0, seed)]
        assert sample["image"].shape == sample["seg"].shape == (1, 4, 6, 6)
        assert set(sample["seg"].unique().tolist()) <= {0, *CLASSES.values()}
        assert sample["image"].isfinite().all()


def test_unknown_labels_are_nan(rows):
    labels = StudyDataset(rows, WHOLE, SPEC, need=("labels",))[Draw(1, 0)]["labels"]
    assert labels[0] == 0
    assert labels[1].isnan()


def test_a_report_becomes_tokens_with_its_answer_marked(rows):
    def encode(text: str, spacing: str | None) -> Example:
        assert (text, spacing) == (rows[0].report, None)
        return Example(ids=[5, 6, 7, 2], prompt=slice(0, 2), answer=slice(2, 4))

    sample = StudyDataset(rows, WHOLE, SPEC, need=("report",), encode=encode)[Draw(0, 0)]
    assert sample["tokens"].tolist() == [5, 6, 7, 2]
    assert sample["answer"].tolist() == [False, False, True, True]


def told(
    rows: list[Row], study: int, *, seed: int = 0, train: bool = False, **config
) -> str | None:
    """What a sample's prompt is told of the findings."""
    seen: list[str | None] = []

    def encode(text: str, sentence: str | None) -> Example:
        seen.append(sentence)
        return Example(ids=[5, 6], prompt=slice(0, 1), answer=slice(1, 2))

    dataset = StudyDataset(
        rows,
        replace(WHOLE, **config),
        SPEC,
        need=("report",),
        encode=encode,
        train=train,
        findings=LABELS,
    )
    dataset[Draw(study, seed)]
    return seen[0]


def test_the_labels_that_are_present_are_told(rows):
    assert told(rows, 0) == "Findings: nodule, effusion."
    assert told(rows, 2) == "Findings: nodule."
    assert told([replace(rows[1], labels=(0.0, 0.0))], 0) == "Findings: none."


def test_what_is_unknown_is_not_denied(rows):
    assert rows[1].labels == (0.0, None)
    assert told(rows, 1) is None
    assert told(rows, 1, train=True, findings_flipped=1.0, findings_hidden=0.0) == (
        "Findings: nodule."
    )


def test_validation_is_told_the_truth(rows):
    config = {"findings_hidden": 1.0, "findings_flipped": 1.0}
    assert told(rows, 0, **config) == "Findings: nodule, effusion."
    assert told(rows, 0, train=True, **config) is None


def test_in_training_lists_are_hidden_and_labels_wrong_as_often_as_asked(rows):
    sick = [replace(rows[0], labels=(1.0, 0.0))]
    seen = [
        told(sick, 0, seed=seed, train=True, findings_hidden=0.2, findings_flipped=0.1)
        for seed in range(600)
    ]
    given = [sentence for sentence in seen if sentence is not None]
    assert 0.15 < 1 - len(given) / len(seen) < 0.25
    assert 0.06 < np.mean(["nodule" not in sentence for sentence in given]) < 0.14
    assert 0.06 < np.mean(["effusion" in sentence for sentence in given]) < 0.14


def test_the_list_depends_on_the_draw_alone_and_leaves_the_image_as_it_is(rows):
    config = {"findings_hidden": 0.5, "findings_flipped": 0.5}
    first = [told(rows, 0, seed=seed, train=True, **config) for seed in range(20)]
    again = [told(rows, 0, seed=seed, train=True, **config) for seed in range(20)]
    assert first == again
    assert len(set(first)) > 2
    augmented = replace(WHOLE, augment=AugmentConfig())

    def image(findings: tuple[str, ...]) -> torch.Tensor:
        dataset = StudyDataset(rows, augmented, SPEC, train=True, findings=findings)
        return dataset[Draw(0, 3)]["image"]

    torch.testing.assert_close(image(LABELS), image(()), rtol=0, atol=0)


@pytest.mark.parametrize("change", [{"findings_hidden": 1.1}, {"findings_flipped": -0.1}])
def test_shares_of_findings_beyond_0_and_1_are_refused(change):
    with pytest.raises(ConfigError, match="findings_hidden and findings_flipped"):
        replace(WHOLE, **change)


def test_another_shape_is_refused_with_both(rows):
    dataset = StudyDataset(rows, DataConfig(shape=(8, 8, 8), augment=PLAIN), SPEC)
    with pytest.raises(CatalogError, match=r"\(8, 16, 16\), the run expects \(8, 8, 8\)"):
        dataset[Draw(0, 0)]


def test_another_preparation_is_refused(rows):
    other = PreprocessSpec(shape=SHAPE, antialias=False)
    with pytest.raises(CatalogError, match=other.hash):
        StudyDataset(rows, WHOLE, other)[Draw(0, 0)]


def test_a_file_without_metadata_is_standardised_from_its_content(rows, tmp_path: Path):
    path = tmp_path / "plain.b2nd"
    array = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
    blosc2.save_array(array, str(path))
    image = StudyDataset([replace(rows[0], image=path)], WHOLE, SPEC)[Draw(0, 0)]["image"]
    assert abs(image.mean()) < 1e-4
    assert image.std(correction=0) == pytest.approx(1, abs=1e-4)
