"""A published checkpoint, taken over, computes what the published code computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.models.weights.published import (
    FEATURES,
    LABELS,
    SHAPE,
    WIDTH,
    Published,
    published_logits,
    published_probabilities,
    stock_unet,
    tokenizer,
)
from uvlm.errors import BundleError
from uvlm.imaging.preprocess import preset
from uvlm.inference.generate import generate
from uvlm.models.uvlm import ClassificationModel, ReportModel
from uvlm.models.weights import Imported, import_checkpoint
from uvlm.text.prompts import AUTHORS_PROMPT

TOKENS = [60, 61, 200, 62, 150]
VARIANTS = {
    "shipped": Published(inject=False, skip=0, per_stage=3),
    "injection": Published(),
    "every stage, one layer each": Published(skip=0, per_stage=1),
    "more tokens": Published(source=-2),
    "more tokens, no injection": Published(inject=False, source=-2),
    "gate": Published(gate=True),
}


@pytest.fixture(scope="module")
def volume() -> Tensor:
    return torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def stages(volume: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return list(stock_unet().encoder(volume))


def taken_over(settings: Published, folder: Path, **changes: Tensor) -> Imported:
    tokenizer().save(folder)
    path = settings.save(folder / "fold_0" / "checkpoint_best.pth", settings.weights() | changes)
    return import_checkpoint(path)


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_are_those_of_the_published_code(
    name: str, tmp_path: Path, volume: Tensor, stages: list[Tensor]
) -> None:
    settings = VARIANTS[name]
    found = taken_over(settings, tmp_path)
    model = found.bundle.modules["report"]
    assert isinstance(model, ReportModel)
    with torch.no_grad():
        ours = model(volume, torch.tensor([TOKENS]))[0]
    theirs = published_logits(
        settings, settings.weights(), [s[0] for s in stages], TOKENS, model.config.marker_ids
    )
    # float32 against float64 through six layers; logits are of order 10.
    torch.testing.assert_close(ours.double(), theirs, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("quirk", ["mask", "rotary", "place", "padding"])
def test_each_deviation_matters(
    quirk: str, tmp_path: Path, volume: Tensor, stages: list[Tensor]
) -> None:
    """Without it the logits are far from the published ones, so the test above sees it."""
    settings = Published(source=-2)
    found = taken_over(settings, tmp_path)
    model = found.bundle.modules["report"]
    config = model.config
    plain = {
        "mask": replace(config, mask="vision_bidirectional"),
        "rotary": replace(config, decoder=replace(config.decoder, rotary="halves")),
        "place": replace(config, injection=replace(config.injection, place="before")),
        "padding": replace(config, injection=replace(config.injection, padding="end")),
    }[quirk]
    other = ReportModel(plain).eval()
    other.load_state_dict(model.state_dict())
    theirs = published_logits(
        settings, settings.weights(), [s[0] for s in stages], TOKENS, config.marker_ids
    )
    with torch.no_grad():
        ours = other(volume, torch.tensor([TOKENS]))[0].double()
    assert (ours - theirs).abs().max() > 0.05


@pytest.mark.parametrize("name", ["injection", "more tokens", "gate"])
def test_text_written_with_the_cache_is_that_without(
    name: str, tmp_path: Path, stages: list[Tensor]
) -> None:
    model = taken_over(VARIANTS[name], tmp_path).bundle.modules["report"]
    with torch.no_grad():
        plan = model.visual_plan(stages)
    slow, fast = (
        generate(model, plan, TOKENS, max_new_tokens=8, eos_id=-1, cached=cached)
        for cached in (False, True)
    )
    assert slow == fast


def test_a_gradient_reaches_every_projection_and_gate_but_the_last(
    tmp_path: Path, volume: Tensor
) -> None:
    """What enters the last layer after its attention never reaches text: the published flaw."""
    model = taken_over(VARIANTS["gate"], tmp_path).bundle.modules["report"].train()
    model(volume, torch.tensor([TOKENS])).square().mean().backward()
    align, last = model.align, VARIANTS["gate"].layers
    still = {name for name, p in align.named_parameters() if not p.grad.any()}
    assert still == {name for name, _ in align.named_parameters() if f"gates.{last}." in name}
    assert len(align.projections) == 3  # one per stage, not one per layer
    assert len(align.gates) == last


def test_class_logits_are_those_of_the_published_head(
    tmp_path: Path, volume: Tensor, stages: list[Tensor]
) -> None:
    settings = Published(mode="only_cls")
    found = taken_over(settings, tmp_path)
    model = found.bundle.modules["classification"]
    assert isinstance(model, ClassificationModel)
    assert model.config.classes == LABELS
    with torch.no_grad():
        ours = model(volume)[0].double()
    theirs = published_probabilities(settings.weights(), stages[-1][0])
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert found.bundle.tokenizer is None


def test_both_heads_share_one_encoder(tmp_path: Path) -> None:
    found = taken_over(Published(mode="both"), tmp_path)
    modules = found.bundle.modules
    assert list(modules) == ["classification", "report"]
    assert modules["report"].encoder is modules["classification"].encoder


def test_the_parts_say_how_to_prepare_a_study_and_what_to_ask(tmp_path: Path) -> None:
    bundle = taken_over(Published(), tmp_path).bundle
    part = bundle.parts["report"]
    assert part.spec == preset("authors", SHAPE)
    assert part.region == "chest"
    assert "Dataset201_Toy" in part.trained_on
    assert bundle.prompt == AUTHORS_PROMPT


def test_every_tensor_is_used_or_a_copy_or_named(tmp_path: Path) -> None:
    settings = Published(mode="both")
    found = taken_over(settings, tmp_path)
    assert found.record.used + found.record.repeated == len(settings.weights())
    assert not found.record.left_out


def test_projections_that_are_never_read_are_named(tmp_path: Path) -> None:
    settings = VARIANTS["shipped"]
    record = taken_over(settings, tmp_path).record
    ((reason, names),) = record.left_out.items()
    assert "injects" in reason
    assert {name.split(".")[1] for name in names} == {"0", "1", "2"}
    assert record.used + record.repeated + len(names) == len(settings.weights())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module.{name}",
        lambda name: f"module._orig_mod.{name}",
        lambda name: name.replace("llm_model.", "llm_model._orig_mod."),
    ],
    ids=["compiled", "parallel", "both", "a part compiled"],
)
def test_wrappers_around_modules_change_nothing(wrap: Callable[[str], str], tmp_path: Path) -> None:
    settings = Published(mode="both")
    tokenizer().save(tmp_path)
    weights = settings.weights()
    plain = import_checkpoint(settings.save(tmp_path / "a" / "x.pth", weights))
    wrapped = {wrap(name): tensor for name, tensor in weights.items()}
    other = import_checkpoint(settings.save(tmp_path / "b" / "x.pth", wrapped))
    assert plain.record == other.record
    state = other.bundle.modules["report"].state_dict()
    for name, tensor in plain.bundle.modules["report"].state_dict().items():
        assert torch.equal(tensor, state[name])


# Bad input


def refused(settings: Published, folder: Path, match: str, **changes: Tensor) -> None:
    with pytest.raises(BundleError, match=match):
        taken_over(settings, folder, **changes)


def test_an_output_matrix_of_its_own_is_refused(tmp_path: Path) -> None:
    untied = torch.zeros(300, WIDTH)
    refused(
        Published(),
        tmp_path,
        r"two copies of llm_report_gen.llm_model.token_embedding.weight that differ",
        **{"llm_report_gen.llm_model.lm_head.weight": untied},
    )


def test_a_second_class_head_is_refused(tmp_path: Path) -> None:
    name = "cls_head_list.1.pooling.class_query"
    refused(Published(mode="only_cls"), tmp_path, "several class heads", **{name: torch.ones(2, 8)})


def test_another_number_of_queries_than_labels_is_refused(tmp_path: Path) -> None:
    name = "cls_head_list.0.pooling.class_query"
    match = "5 queries and 3 outputs, its plan 3 labels"
    refused(Published(mode="only_cls"), tmp_path, match, **{name: torch.ones(5, FEATURES[-1])})


def test_learned_shrinking_is_refused(tmp_path: Path) -> None:
    refused(
        Published(), tmp_path, "not by averaging", **{"pool_embed_list.0.proj.bias": torch.ones(6)}
    )


def test_another_number_of_layers_than_planned_is_refused(tmp_path: Path) -> None:
    weights = Published(per_stage=1).weights()
    path = Published(per_stage=2).save(tmp_path / "x.pth", weights)
    with pytest.raises(BundleError, match="its decoder has 3 layers, its plan 6"):
        import_checkpoint(path)


def test_visual_tokens_of_a_skipped_stage_are_refused(tmp_path: Path) -> None:
    path = Published(skip=3, source=-1).save(tmp_path / "x.pth")
    skipped = replace(Published(skip=3), source=-2)
    other = skipped.save(tmp_path / "y.pth", Published(skip=3).weights())
    tokenizer().save(tmp_path)
    import_checkpoint(path)
    with pytest.raises(BundleError, match="stage 3, which has no projection"):
        import_checkpoint(other)


def test_a_decoder_without_its_tokenizer_is_refused(tmp_path: Path) -> None:
    path = Published().save(tmp_path / "deep" / "er" / "x.pth")
    with pytest.raises(BundleError, match=r"300 different tokens.*--tokenizer"):
        import_checkpoint(path)
    assert import_checkpoint(path, only_encoder=True).bundle.tokenizer is None


def test_a_tokenizer_larger_than_the_vocabulary_is_refused(tmp_path: Path) -> None:
    refused(replace(Published(), vocabulary=20), tmp_path, "20 tokens, the tokenizer")


def test_the_variant_with_qwen3_gives_its_encoder_only(tmp_path: Path) -> None:
    settings = Published()
    path = settings.save(tmp_path / "x.pth")
    content = torch.load(path, weights_only=False)
    setup = content["init_args"]["plans"]["configurations"]["3d_fullres"]
    setup["architecture"]["network_class_name"] = "uvlm.networks.uvlm_qwen3.UVLM_Qwen3"
    torch.save(content, path)
    with pytest.raises(BundleError, match=r"fine-tuned Qwen3.*--encoder-only"):
        import_checkpoint(path)
    found = import_checkpoint(path, only_encoder=True)
    assert list(found.bundle.parts) == ["encoder"]
    ((reason, names),) = found.record.left_out.items()
    assert "only the encoder" in reason
    assert not any(name.startswith("encoder.") for name in names)
