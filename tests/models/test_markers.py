"""The language model's own beginning of a text, if it has one, stands before the visual tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch

from tests.models.tiny import random_stages, random_tokens
from tests.models.tiny_base import SIZES, report_config, report_model, tiny_base
from tests.models.tiny_packed import PACKED
from uvlm.models.config import ReportConfig
from uvlm.models.markers import known_markers, with_markers
from uvlm.models.pretrained_base import base_tokenizer
from uvlm.text.tokenizer import train_tokenizer

Kind = Literal["both", "bos", "none"]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {kind: tiny_base(folder / kind, kind) for kind in ("phi3", "phi4")}


def on_base(folder: Path, markers: Kind) -> ReportConfig:
    config = replace(PACKED, decoder=report_config(folder).decoder, markers=markers)
    return with_markers(config, base_tokenizer(folder))


def test_markers_come_from_tokenizer_and_base(bases: dict[str, Path]) -> None:
    tokenizer = base_tokenizer(bases["phi3"])
    both = (tokenizer.vision_start_id, tokenizer.vision_end_id)
    found = {kind: on_base(bases["phi3"], kind) for kind in ("both", "bos", "none")}
    assert {kind: config.marker_ids for kind, config in found.items()} == {
        "both": both,
        "bos": (SIZES["bos_token_id"],),
        "none": (),
    }
    assert all(known_markers(c, tokenizer) == c.marker_ids for c in found.values())


def test_a_language_model_without_a_beginning_has_nothing_in_its_place() -> None:
    tokenizer = train_tokenizer(["No nodule."], 300)
    decoder = replace(PACKED.decoder, vocab_size=tokenizer.vocab_size)
    config = with_markers(replace(PACKED, decoder=decoder, markers="bos"), tokenizer)
    assert (config.markers, config.marker_ids) == ("none", ())
    assert known_markers(config, tokenizer) == ()


@pytest.mark.parametrize("kind", ["phi3", "phi4"])
@pytest.mark.parametrize("markers", ["both", "bos", "none"])
def test_text_is_read_as_by_the_base_itself(
    bases: dict[str, Path], kind: str, markers: Kind
) -> None:
    config = on_base(bases[kind], markers)
    model, tokens = report_model(config).eval(), random_tokens(config)
    plan = model.visual_plan(random_stages(config))
    ids, table = torch.tensor(config.marker_ids, dtype=torch.long), model.decoder.embedding
    around = table(ids).expand(2, -1, -1)
    before, after = around[:, : config.opening], around[:, config.opening :]
    sequence = torch.cat((before, plan.prefix, after, table(tokens)), dim=1)
    with torch.no_grad():
        # Without `seeing` the model's own code runs, and no hook adds anything.
        expected = model.decoder.model(inputs_embeds=sequence).logits[:, -6:]
        made = model.decode(plan, tokens)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-4)
