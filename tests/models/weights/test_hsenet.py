"""A published HSENet checkpoint, taken over by name, computes what the published code computes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.models.weights.hsenet_files import (
    FEATURES,
    GRID,
    SHAPE,
    SLICES,
    TEXT,
    VIT,
    State,
    clip,
    published_features,
    published_image,
    published_text,
    stage2,
    under,
    vit,
)
from uvlm.errors import BundleError
from uvlm.models.tower_config import ViTConfig
from uvlm.models.vit import SlicedVolume, ViT
from uvlm.models.weights.hsenet import VIT as NAMES
from uvlm.models.weights.hsenet import (
    ImportedContrastive,
    contrastive_from_authors,
    open_authors,
    renamed,
    vit_from_authors,
)

TOKENS = torch.tensor([2, 7, 5, 3])
TEACHER = "stage1_pretrained_CLIP."


@pytest.fixture
def study() -> SlicedVolume:
    generator = torch.Generator().manual_seed(3)
    volume = torch.randn(1, 1, *SHAPE, generator=generator)
    return SlicedVolume(volume, torch.randn(1, SLICES, FEATURES, generator=generator))


def theirs(study: SlicedVolume) -> Tensor:
    """Of a study the volume as the published code reads it: z, x, y."""
    return study.volume[0, 0].transpose(1, 2)


def saved(state: State, folder: Path) -> Path:
    path = folder / "pytorch_model.bin"
    torch.save(state, path)
    return path


def taken(state: State, folder: Path) -> ImportedContrastive:
    return contrastive_from_authors(saved(state, folder), vit=VIT, text=TEXT)


@pytest.mark.parametrize("gated", [False, True])
def test_a_transformer_computes_what_monai_does(gated, study, tmp_path):
    state = vit(gated=gated)
    config, own = vit_from_authors(open_authors(saved(state, tmp_path)), "", like=VIT)
    model = ViT(config).eval()
    model.load_state_dict(own)
    first, patches = model.features(study)
    slices = study.slices[0] if gated else None
    expected, expected_NC = published_features(state, theirs(study), slices)
    turned_NC = expected_NC.reshape(GRID[0], GRID[2], GRID[1], -1).transpose(1, 2).flatten(0, 2)
    torch.testing.assert_close(first[0], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(patches[0], turned_NC, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("slice_width", "tensors"), [(0, 138), (768, 150)])
def test_the_published_sizes_have_the_published_number_of_tensors(slice_width, tensors):
    with torch.device("meta"):
        own = ViT(ViTConfig(slice_width=slice_width)).state_dict()
    assert len({renamed(NAMES, name) for name in own}) == tensors


def test_volumes_of_m3d_are_not_turned(tmp_path):
    state = vit()
    _, own = vit_from_authors(open_authors(saved(state, tmp_path)), "", like=VIT, axes="zyx")
    assert own["patches.weight"].equal(state["patch_embedding.patch_embeddings.1.weight"])
    assert own["positions"].equal(state["patch_embedding.position_embeddings"])


def test_stage_1_embeds_images_and_reports_as_published(study, tmp_path):
    state = clip()
    found = taken(state, tmp_path)
    assert found.teacher is None
    assert found.config.temperature == "authors"
    assert found.config.duplicates == "negatives"
    assert found.model.logit_scale() == state["logit_scale"]
    check(found.model, state, study, None)


def check(model, state, study, slices):
    with torch.no_grad():
        image = model.embed_image(study)[0]
        text = model.embed_text(TOKENS[None], torch.ones(1, 4, dtype=torch.bool))[0]
    expected = published_image(state, theirs(study), slices)
    torch.testing.assert_close(image, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(text, published_text(state, TOKENS), rtol=1e-4, atol=1e-5)


def test_stage_2_gives_student_and_teacher(study, tmp_path):
    state = stage2()
    found = taken(state, tmp_path)
    teacher = {n.removeprefix(TEACHER): t for n, t in state.items() if n.startswith(TEACHER)}
    check(found.model, state, study, study.slices[0])
    check(found.teacher, teacher, study, None)
    assert not any(p.requires_grad for p in found.teacher.parameters())
    assert all(p.requires_grad for p in found.model.parameters())


def test_every_tensor_is_used_or_named(tmp_path):
    state = clip()
    record = taken(state, tmp_path).record
    left = [name for names in record.left_out.values() for name in names]
    prefix = "language_encoder."
    assert sorted(left) == [
        f"{prefix}embeddings.position_ids",
        f"{prefix}pooler.dense.bias",
        f"{prefix}pooler.dense.weight",
    ]
    assert record.used + len(left) == len(state)


def test_the_order_of_names_is_of_no_account(tmp_path):
    state = stage2()
    order = torch.randperm(len(state), generator=torch.Generator().manual_seed(1)).tolist()
    names = list(state)
    other = {names[i]: state[names[i]] for i in order}
    first, second = taken(state, tmp_path), taken(other, tmp_path)
    for one, two in ((first.model, second.model), (first.teacher, second.teacher)):
        pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
        assert all(a.equal(b) for a, b in pairs)


def test_norms_of_newer_monai_are_named_and_left_out(tmp_path):
    state = clip()
    extra = {f"vision_encoder.blocks.{i}.norm_cross_attn.weight": torch.ones(8) for i in range(2)}
    with_them = taken(state | extra, tmp_path)
    (names,) = [n for r, n in with_them.record.left_out.items() if "newer MONAI" in r]
    assert set(names) == set(extra)
    same = taken(state, tmp_path).model.state_dict()
    assert all(t.equal(same[n]) for n, t in with_them.model.state_dict().items())


def test_wrapped_names_and_safetensors_are_read(tmp_path):
    state = clip()
    path = tmp_path / "model.safetensors"
    save_file(under("module.", state), path)
    found = contrastive_from_authors(tmp_path, vit=VIT, text=TEXT)
    same = taken(state, tmp_path).model.state_dict()
    assert all(t.equal(same[n]) for n, t in found.model.state_dict().items())


@pytest.mark.parametrize(
    "name",
    [
        "vision_encoder.cls_token",
        "vision_encoder.blocks.1.attn.out_proj.bias",
        "language_encoder.encoder.layer.1.output.dense.weight",
        "mm_vision_proj.weight",
        "logit_scale",
        f"{TEACHER}vision_encoder.norm.bias",
        "vision_encoder.slice_guided_attention.Wv.bias",
    ],
)
def test_a_missing_tensor_is_named(name, tmp_path):
    state = stage2()
    del state[name]
    with pytest.raises(BundleError, match=rf"pytorch_model.bin: it lacks {name}\. Give"):
        taken(state, tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "vision_encoder.blocks.0.attn.qkv.bias",
        "vision_encoder.blocks.0.cross_attn.qkv.weight",
        "mask_token",
    ],
)
def test_an_unknown_tensor_is_named(name, tmp_path):
    with pytest.raises(BundleError, match=f"1 of its tensors belong nowhere: {name}"):
        taken(clip() | {name: torch.zeros(3)}, tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "vision_encoder.patch_embedding.patch_embeddings.1.weight",
        "vision_encoder.blocks.1.mlp.linear2.weight",
        "language_encoder.encoder.layer.1.intermediate.dense.weight",
    ],
)
def test_a_transposed_matrix_is_refused(name, tmp_path):
    state = clip()
    state[name] = state[name].T.contiguous()
    with pytest.raises(BundleError, match=rf"{name} has the shape \(\d+, \d+\), its network"):
        taken(state, tmp_path)


def test_a_text_tower_that_was_read_is_kept_and_must_fit(tmp_path):
    read = taken(clip(), tmp_path).config.text
    read = replace(read, fingerprint="0123456789abcdef", truncate="authors")
    path = tmp_path / "pytorch_model.bin"
    assert contrastive_from_authors(path, vit=VIT, text=read).config.text == read
    other = replace(
        read, architecture=read.architecture.replace('"vocab_size": 20', '"vocab_size": 21')
    )
    with pytest.raises(BundleError, match=r"word_embeddings.weight has the shape \(20, 8\)"):
        contrastive_from_authors(path, vit=VIT, text=other)


def test_sizes_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(BundleError, match=r"cannot be built \(heads \(12\) must divide"):
        contrastive_from_authors(saved(clip(), tmp_path))


def test_a_tensor_that_is_not_finite_is_refused(tmp_path):
    state = clip()
    state["mm_language_proj.bias"][0] = float("nan")
    with pytest.raises(BundleError, match=r"mm_language_proj.bias holds values"):
        taken(state, tmp_path)


def test_a_folder_without_weights_and_a_broken_file_are_refused(tmp_path):
    with pytest.raises(BundleError, match=r"it has neither model.safetensors nor pytorch_model"):
        contrastive_from_authors(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no")
    with pytest.raises(BundleError, match="no safetensors file"):
        contrastive_from_authors(tmp_path)
