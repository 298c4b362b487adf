"""A pretrained decoder injects, masks, caches and learns as the decoder from scratch does."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models.tiny import random_stages, random_tokens
from tests.models.tiny_base import KINDS, report_config, report_model, tiny_base
from uvlm.errors import ConfigError
from uvlm.inference.generate import generate_batch
from uvlm.models.config import InjectionConfig, PretrainedConfig, ReportConfig
from uvlm.models.injection import VisualPlan
from uvlm.models.pretrained import PretrainedDecoder
from uvlm.models.pretrained_hooks import KEY
from uvlm.models.uvlm import ReportModel

EVERY_CASE = [(kind, tuning) for kind in KINDS for tuning in ("lora", "full")]
PROMPT = [7, 8, 9]
NEVER = -1
EXACT = {"atol": 2e-5, "rtol": 1e-5}
"""32-bit sums in another order; the states are of size 1, the logits of size 10."""


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    return {kind: tiny_base(root / kind, kind) for kind in KINDS}


def build(bases: dict[str, Path], kind: str, tuning: str = "lora", **fields: Any) -> ReportModel:
    return report_model(replace(report_config(bases[kind], tuning=tuning), **fields))


def batch(model: ReportModel, *, stages: list[Tensor] | None = None) -> tuple[VisualPlan, Tensor]:
    stages = random_stages(model.config) if stages is None else stages
    return model.visual_plan(stages), random_tokens(model.config)


def loss_of(model: ReportModel, plan: VisualPlan, tokens: Tensor) -> Tensor:
    logits = model.decode(plan, tokens[:, :-1]).float()
    return nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def from_folder(folder: Path, config: ReportConfig) -> Any:
    """The base as transformers itself loads it, with room for tokens it lacks."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    if model.config.vocab_size < config.decoder.vocab_size:
        model.resize_token_embeddings(config.decoder.vocab_size)
    return model


# What it computes


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [None, ((2, 4), (5, 1))])
def test_every_layer_computes_what_the_base_layer_does_with_mask_and_injection(
    bases: dict[str, Path], kind: str, layers: Any
) -> None:
    """The oracle walks the layers of transformers' own model one by one, with a mask written out
    pair by pair."""
    model = build(bases, kind, "full", injection=InjectionConfig(layers=layers)).eval()
    base = from_folder(bases[kind], model.config)
    plan, tokens = batch(model)
    embeddings, layout = model.embed(plan, tokens)
    length, vision = len(layout), range(1, 1 + layout.num_vision)
    mask = torch.full((1, 1, length, length), -torch.inf)
    for q in range(length):
        for k in range(length):
            if k <= q or (q in vision and k in vision):
                mask[..., q, k] = 0
    h = embeddings
    positions = torch.arange(length)[None]
    for number, layer in enumerate(base.model.layers, start=1):
        h = h.clone()
        if number in plan.per_layer:
            h[:, 1 : 1 + layout.num_vision] += plan.per_layer[number]
        table = base.model.rotary_emb(h, positions)
        h = layer(h, attention_mask=mask, position_ids=positions, position_embeddings=table)
    expected = base.model.norm(h)
    assert sorted(plan.per_layer) == ([1, 2, 3, 4] if layers is None else [2, 5])
    torch.testing.assert_close(model.decoder.hidden(embeddings, layout, plan), expected, **EXACT)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_fresh_adapters_change_nothing(bases: dict[str, Path], kind: str) -> None:
    config = replace(
        report_config(bases[kind]), mask="causal", injection=InjectionConfig(layers=())
    )
    model = report_model(config).eval()
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            parameter.zero_()
    base = from_folder(bases[kind], config)
    known = torch.randint(5, 290, (2, 9))  # no new token
    h = model.decoder.embedding(known)
    plan = VisualPlan(prefix=h[:, 1:4], mask="causal")
    found, _ = model.decoder(h, plan.layout(4), plan)
    expected = base(known).logits[:, 5:]
    new = list(config.decoder.new_tokens)
    kept = [i for i in range(expected.shape[-1]) if i not in new]
    torch.testing.assert_close(found[..., kept], expected[..., kept], **EXACT)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_vision_sees_both_ways_and_text_only_backwards(bases: dict[str, Path], kind: str) -> None:
    model = build(bases, kind).eval()
    plan, tokens = batch(model)
    embeddings, layout = model.embed(plan, tokens)

    def changed(position: int, mask: str) -> list[int]:
        """Positions whose state changes when the input at `position` does."""
        other = embeddings.clone()
        other[:, position] += 1
        seen = replace(layout, mask=mask)
        before, after = (model.decoder.hidden(e, seen, plan) for e in (embeddings, other))
        return (before - after).abs().amax((0, 2)).gt(1e-6).nonzero().flatten().tolist()

    last, length = layout.vision.stop - 1, len(layout)
    assert changed(last, "vision_bidirectional") == list(range(1, length))
    assert changed(last, "causal") == list(range(last, length))
    for text in (0, layout.text.start - 1, layout.text.start + 2):
        assert changed(text, "vision_bidirectional") == list(range(text, length))


@torch.no_grad()
def test_padding_at_the_end_changes_nothing_before_it(bases: dict[str, Path]) -> None:
    model = build(bases, "qwen3").eval()
    plan, tokens = batch(model)
    padded = torch.cat((tokens, torch.zeros(2, 3, dtype=torch.long)), dim=1)
    short, long = model.decode(plan, tokens), model.decode(plan, padded)
    torch.testing.assert_close(long[:, : tokens.shape[1]], short, **EXACT)


@torch.no_grad()
def test_it_computes_in_the_16_bits_of_its_base(tmp_path: Path) -> None:
    model = report_model(report_config(tiny_base(tmp_path, dtype="bfloat16"))).eval()
    plan, tokens = batch(model)
    logits = model.decode(plan, tokens)
    types = {name: p.dtype for name, p in model.named_parameters()}
    assert logits.dtype == torch.bfloat16
    assert {types[name] for name in types if "lora_" in name} == {torch.float32}
    assert types["decoder.model.model.embed_tokens.weight"] == torch.bfloat16
    wide = report_model(report_config(tmp_path, tuning="full"))
    assert {p.dtype for p in wide.parameters()} == {torch.float32}


LONG = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 64}
LONG |= {"short_factor": [1.1, 1.3], "long_factor": [2.0, 4.0], "partial_rotary_factor": 0.5}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 1e4, "original_max_position_embeddings": 64}
LLAMA3 |= {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "rope_theta": 1e6, "original_max_position_embeddings": 64}


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "rope", "positions"),
    [
        ("phi3", LONG, 64),
        ("llama", LLAMA3, 512),
        ("qwen3", YARN | {"factor": 8.0}, 512),
    ],
)
def test_stretched_positions_are_those_of_the_base(
    tmp_path: Path, kind: str, rope: dict[str, Any], positions: int
) -> None:
    """As Phi-4-mini, Llama 3 and long Qwen3 have them."""
    folder = tiny_base(tmp_path, kind)
    file = folder / "config.json"
    content = json.loads(file.read_text()) | {"rope_parameters": rope}
    content |= {k: rope[k] for k in ("original_max_position_embeddings",) if kind == "phi3"}
    file.write_text(json.dumps(content))
    plain = replace(report_config(folder, tuning="full"), injection=InjectionConfig(layers=()))
    model = report_model(plain).eval()
    assert model.decoder.positions == positions
    known = torch.randint(5, 290, (2, 60))
    h = model.decoder.embedding(known)
    plan = VisualPlan(prefix=h[:, 1:17], mask="causal")
    found = model.decoder.hidden(h, plan.layout(42), plan)
    expected = from_folder(folder, plain).model(known).last_hidden_state
    torch.testing.assert_close(found, expected, **EXACT)


def test_rotary_tables_stay_in_32_bits(tmp_path: Path) -> None:
    model = report_model(report_config(tiny_base(tmp_path, dtype="bfloat16")))
    tables = [b for name, b in model.decoder.named_buffers() if "inv_freq" in name]
    assert tables
    assert {table.dtype for table in tables} == {torch.float32}
    expected = 10_000.0 ** -(torch.arange(0, 8, 2) / 8)
    torch.testing.assert_close(tables[0], expected)


# Decoding


@pytest.mark.parametrize(("kind", "tuning"), EVERY_CASE)
def test_cached_equals_uncached_token_for_token(
    bases: dict[str, Path], kind: str, tuning: str
) -> None:
    model = build(bases, kind, tuning).eval()
    with torch.no_grad():
        plan, _ = batch(model)
    cached, uncached = (
        generate_batch(model, plan, PROMPT, max_new_tokens=16, eos_id=NEVER, cached=cached)
        for cached in (True, False)
    )
    assert cached == uncached
    assert len(set(cached[0])) > 3
    assert cached[0] != cached[1]


@torch.no_grad()
def test_cached_steps_give_the_logits_of_the_whole_sequence(bases: dict[str, Path]) -> None:
    model = build(bases, "phi3").eval()
    plan, tokens = batch(model)
    embeddings, layout = model.embed(plan, tokens)
    whole, _ = model.decoder(embeddings, layout, plan)
    cache = model.decoder.new_cache(2, len(layout))
    pieces = []
    for num_text in (2, 3, 5, 6):  # the prompt, one token, two at once, one token
        part = replace(layout, num_text=num_text)
        chunk = embeddings[:, cache.length : len(part)]
        pieces.append(model.decoder(chunk, part, None if cache.length else plan, cache)[0])
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, **EXACT)


@pytest.mark.parametrize(("kind", "tuning"), EVERY_CASE)
def test_generate_of_transformers_writes_what_our_loop_writes(
    bases: dict[str, Path], kind: str, tuning: str
) -> None:
    model = build(bases, kind, tuning).eval()
    prompt = torch.tensor([PROMPT, PROMPT])
    with torch.no_grad():
        plan, _ = batch(model)
        embeddings, layout = model.embed(plan, prompt)
        with model.decoder.seeing(layout, plan):
            found = model.decoder.model.generate(
                inputs_embeds=embeddings,
                attention_mask=torch.ones(embeddings.shape[:2], dtype=torch.long),
                do_sample=False,
                max_new_tokens=12,
                eos_token_id=None,
                pad_token_id=0,
            )
    ours = generate_batch(model, plan, PROMPT, max_new_tokens=12, eos_id=NEVER)
    assert found.tolist() == ours


@torch.no_grad()
@pytest.mark.parametrize(
    ("how", "each"),
    [
        ({"num_beams": 3}, 1),
        ({"num_beams": 3, "num_return_sequences": 2}, 2),
        ({"do_sample": True, "top_k": 1, "num_return_sequences": 2}, 2),
    ],
    ids=["beams", "several of the beams", "several"],
)
def test_studies_that_generate_repeats_keep_their_visual_tokens(
    bases: dict[str, Path], how: dict[str, Any], each: int
) -> None:
    """Each row is what its study gives alone."""
    model = build(bases, "qwen3").eval()
    plan, _ = batch(model)

    def written(rows: slice) -> list[list[int]]:
        some = replace(
            plan,
            prefix=plan.prefix[rows],
            per_layer={layer: tokens[rows] for layer, tokens in plan.per_layer.items()},
        )
        prompt = torch.tensor([PROMPT]).expand(len(some.prefix), -1)
        embeddings, layout = model.embed(some, prompt)
        with model.decoder.seeing(layout, some):
            found = model.decoder.model.generate(
                inputs_embeds=embeddings,
                attention_mask=torch.ones(embeddings.shape[:2], dtype=torch.long),
                max_new_tokens=10,
                eos_token_id=None,
                pad_token_id=0,
                **({"do_sample": False} | how),
            )
        rows_written: list[list[int]] = found.tolist()
        return rows_written

    first, second = written(slice(0, 1)), written(slice(1, 2))
    assert first[0] != second[0]
    assert len(first) == len(second) == each
    assert written(slice(0, 2)) == first + second


# Learning


@pytest.mark.parametrize(("kind", "tuning"), EVERY_CASE)
def test_every_trained_parameter_and_every_stage_gets_a_gradient(
    bases: dict[str, Path], kind: str, tuning: str
) -> None:
    model = build(bases, kind, tuning)
    stages = random_stages(model.config)
    loss_of(model, *batch(model, stages=stages)).backward()
    assert all(stage.grad is not None and stage.grad.any() for stage in stages)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    reached = {n: p for n, p in trained.items() if not n.startswith("encoder.")}
    assert [n for n, p in reached.items() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(("kind", "tuning"), EVERY_CASE)
def test_checkpointing_changes_neither_loss_nor_gradients(
    bases: dict[str, Path], kind: str, tuning: str
) -> None:
    losses, gradients = [], []
    for checkpointing in (False, True):
        model = build(bases, kind, tuning).train()
        model.decoder.checkpointing = checkpointing
        assert model.decoder.checkpointing is checkpointing
        stages = random_stages(model.config)
        loss = loss_of(model, *batch(model, stages=stages))
        loss.backward()
        losses.append(loss)
        named = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        gradients.append(named | {f"stage {i}": s.grad for i, s in enumerate(stages)})
    assert torch.equal(*losses)
    torch.testing.assert_close(*gradients, atol=1e-7, rtol=1e-6)


def test_checkpointing_runs_each_layer_twice(bases: dict[str, Path]) -> None:
    model = build(bases, "qwen3").train()
    model.decoder.checkpointing = True
    runs = []
    layer = model.decoder.model.model.layers[2]
    layer.mlp.register_forward_pre_hook(lambda *_: runs.append(1))
    loss_of(model, *batch(model)).backward()
    assert len(runs) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_steps_with_adapters_leave_the_base_as_it_was(bases: dict[str, Path], kind: str) -> None:
    model = build(bases, kind)
    before = {n: p.detach().clone() for n, p in model.decoder.named_parameters()}
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.1)
    first = loss_of(model, *batch(model))
    for _ in range(5):
        optimizer.zero_grad()
        loss_of(model, *batch(model)).backward()
        optimizer.step()
    assert loss_of(model, *batch(model)) < first
    changed = {n for n, p in model.decoder.named_parameters() if not torch.equal(p, before[n])}
    assert all(".lora_" in name or name.endswith(".rows") for name in changed)
    rows = {name for name in changed if name.endswith(".rows")}
    assert len(rows) == {"qwen3": 0, "phi4": 1}.get(kind, 2)
    assert len(changed - rows) == len([n for n in before if ".lora_" in n])


def test_new_tokens_are_read_and_written_by_their_own_rows(bases: dict[str, Path]) -> None:
    model = build(bases, "phi3").eval()
    embedding, head = model.decoder.embedding, model.decoder.model.get_output_embeddings()
    new = model.config.decoder.new_tokens
    assert len(new) == 4
    with torch.no_grad():
        found = embedding(torch.tensor([[new[2], 7, new[0]]]))
        logits = head(torch.ones(1, 32))
    torch.testing.assert_close(found[0, 0], embedding.rows[2])
    torch.testing.assert_close(found[0, 1], embedding.weight[7])
    torch.testing.assert_close(logits[0, list(new)], head.rows.sum(dim=1))
    torch.testing.assert_close(logits[0, :300], head.weight[:300].sum(dim=1))
    assert len({tuple(row) for row in embedding.rows.tolist()}) == 4


@pytest.mark.parametrize("tuning", ["lora", "full"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_mixed_precision_stays_near_32_bits(tmp_path: Path, tuning: str, dtype: str) -> None:
    """bf16 keeps 8 bits: logits of size 10 in five layers move by some hundredths."""
    model = report_model(report_config(tiny_base(tmp_path, dtype=dtype), tuning=tuning)).train()
    exact = loss_of(copy.deepcopy(model).float(), *batch(model))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss_of(model, *batch(model))
    mixed.backward()
    assert mixed.item() == pytest.approx(exact.item(), abs=0.15)
    trained = [p for p in model.decoder.parameters() if p.requires_grad]
    assert all(p.grad.dtype == p.dtype == torch.float32 for p in trained)
    assert all(p.grad.isfinite().all() for p in trained)


def test_a_copy_of_the_model_injects_by_itself(bases: dict[str, Path]) -> None:
    model = build(bases, "qwen3").eval()
    twin = copy.deepcopy(model)
    with torch.no_grad():
        plan, tokens = batch(model)
        expected = model.decode(plan, tokens)
        for parameter in model.parameters():
            parameter.zero_()
        assert torch.equal(twin.decode(plan, tokens), expected)


# What does not fit


def test_layers_that_do_not_receive_the_plan_are_noticed(bases: dict[str, Path]) -> None:
    """As with an architecture that keeps from its layers what it does not know."""
    model = build(bases, "llama").eval()

    def forget(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        return args, {key: value for key, value in kwargs.items() if key != KEY}

    layer = model.decoder.model.model.layers[1]
    layer.register_forward_pre_hook(forget, with_kwargs=True, prepend=True)
    with pytest.raises(ConfigError, match="layers of llama receive nothing"):
        model.decode(*batch(model))


def test_a_call_that_was_interrupted_is_not_blamed_on_the_layers(bases: dict[str, Path]) -> None:
    model = build(bases, "llama").eval()

    def stop(*_: Any) -> None:
        raise KeyError("stopped")

    plan, tokens = batch(model)
    embeddings, layout = model.embed(plan, tokens)
    expected = model.decode(plan, tokens)
    with model.decoder.seeing(layout, plan):
        handle = model.decoder.model.model.layers[1].register_forward_pre_hook(stop)
        with pytest.raises(KeyError, match="stopped"):
            model.decoder.model(inputs_embeds=embeddings)
        handle.remove()
    assert torch.equal(model.decode(plan, tokens), expected)


def test_positions_that_do_not_fit_are_refused(bases: dict[str, Path]) -> None:
    model = build(bases, "qwen3").eval()
    decoder = model.decoder
    plan, tokens = batch(model)
    embeddings, layout = model.embed(plan, tokens)
    with pytest.raises(ValueError, match="24 positions, got 23 embeddings after 0"):
        decoder(embeddings[:, 1:], layout, plan)
    with pytest.raises(ValueError, match="24 positions do not fit a cache of 23"):
        decoder(embeddings, layout, plan, decoder.new_cache(2, 23))
    with pytest.raises(ConfigError, match="before its layers only"):
        decoder(embeddings, layout, replace(plan, place="middle"))
    beyond = replace(plan, per_layer={6: plan.prefix})
    with pytest.raises(ValueError, match=r"layers \[6\].*decoder 5 layers"):
        decoder(embeddings, layout, beyond)
    long = torch.zeros(1, 500, dtype=torch.long)
    with pytest.raises(ConfigError, match=r"518 positions does not fit the base model.* 512"):
        model.decode(replace(plan, prefix=plan.prefix[:1], per_layer={}), long)
    cache = decoder.new_cache(2, 40)
    with torch.no_grad():
        decoder(embeddings, layout, plan, cache)
    with pytest.raises(ValueError, match="not after 24"):
        decoder(embeddings[:, -1:], replace(layout, num_text=7), plan, cache)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder": PretrainedConfig()}, "was not read"),
        ({"injection": InjectionConfig(place="middle")}, "before its layers only"),
    ],
)
def test_impossible_models_are_refused(
    bases: dict[str, Path], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        ReportModel(replace(report_config(bases["qwen3"]), **change))


def test_unknown_layers_to_adapt_are_refused_with_the_known_ones(bases: dict[str, Path]) -> None:
    config = report_config(bases["phi3"], targets=("q_proj",))
    with pytest.raises(ConfigError, match=r"q_proj are no linear layers.*qkv_proj, .*gate_up_proj"):
        ReportModel(config)


def test_adapted_layers_can_be_chosen(bases: dict[str, Path]) -> None:
    model = ReportModel(report_config(bases["qwen3"], targets=("down_proj",), rank=2))
    adapted = {name for name, _ in model.named_parameters() if ".lora_A." in name}
    assert len(adapted) == 5
    assert all(".down_proj." in name for name in adapted)


# Size

QWEN3_4B = """{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 128,
"hidden_size": 2560, "intermediate_size": 9728, "max_position_embeddings": 40960,
"num_attention_heads": 32, "num_hidden_layers": 36, "num_key_value_heads": 8, "rope_theta": 1000000,
"sliding_window": null, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
"use_sliding_window": false, "vocab_size": 151936}"""


def test_the_papers_language_model_has_its_size() -> None:
    """4.02 billion, and rank 64 on the four projections of attention: 64 x 36 x (2 x 6656 + 2 x
    3584)."""
    config = PretrainedConfig(architecture=QWEN3_4B, fingerprint="0", vocab_size=151_936)
    with torch.device("meta"):
        decoder = PretrainedDecoder(config)
    sizes = {True: 0, False: 0}
    for parameter in decoder.parameters():
        assert parameter.is_meta
        sizes[parameter.requires_grad] += parameter.numel()
    assert sizes == {True: 47_185_920, False: 4_022_468_096}
    assert decoder.embedding.weight.dtype == torch.bfloat16
    assert decoder.positions == 40_960
