"""Reports by models with packers or vision transformers, through the same pipeline as any."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch

from tests.inference.bundle_factory import SHAPE, TEXTS, tiny_spec, write_ct
from tests.models.tiny_packed import TOWER
from uvlm.errors import ConfigError
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.inference.evidence.heat import heat_maps, stages_needed
from uvlm.inference.pipeline import Pipeline
from uvlm.inference.predict import Predictor
from uvlm.inference.study import read_study
from uvlm.models.bundle import Part, load_bundle, save_bundle
from uvlm.models.config import DecoderConfig, EncoderConfig, InjectionConfig, ReportConfig
from uvlm.models.markers import with_markers
from uvlm.models.tower_config import PackerConfig, TowersConfig
from uvlm.models.uvlm import ReportModel
from uvlm.text.prompts import DEFAULT_PROMPT
from uvlm.text.tokenizer import train_tokenizer

TOKENIZER = train_tokenizer(TEXTS, vocab_size=300)
VIT = replace(TOWER, shape=SHAPE, patch=(8, 8, 8))
BASE = ReportConfig(
    encoder=TowersConfig(volume=VIT, slices=None),
    shape=SHAPE,
    injection=InjectionConfig(layers=()),
    packer=PackerConfig(kernel=(1, 2, 2)),
    decoder=DecoderConfig(vocab_size=TOKENIZER.vocab_size, layers=3, width=32, heads=2, ffn=32),
)
OPTIONS = GenerateOptions(max_new_tokens=12)
CONFIGS = {
    "one tower, packed": replace(BASE, markers="none", mask="causal"),
    "a transformer, injected": replace(
        BASE, encoder=VIT, packer=None, injection=InjectionConfig(layers=((2, 1),))
    ),
    "a U-Net, packed": replace(
        BASE, encoder=EncoderConfig(features=(4, 8, 8), strides=(1, 2, 2), blocks=(1, 1, 1)),
        packer=PackerConfig(kernel=(2, 4, 4), stages=(2, 3)),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ct(tmp_path_factory.mktemp("ct") / "ct.nii.gz")


@pytest.fixture(scope="module", params=CONFIGS)
def pipeline(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    config = with_markers(CONFIGS[request.param], TOKENIZER)
    torch.manual_seed(0)
    model = ReportModel(config)
    for p in model.decoder.blocks.parameters():  # type: ignore[union-attr]
        p.data.add_(0.5 * torch.randn_like(p))  # else the text repeats one token
    part = Part(
        task="report", config=config, spec=tiny_spec(), region="chest", trained_on="random weights"
    )
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    save_bundle(folder, {"report": part}, {"report": model}, TOKENIZER, DEFAULT_PROMPT)
    return Pipeline(load_bundle(folder), torch.device("cpu"))


def test_reports_answers_and_streams_are_written_alike(pipeline: Pipeline, ct: Path) -> None:
    found = pipeline.report(ct, options=OPTIONS)
    assert found.generated
    assert pipeline.answers(ct, [DEFAULT_PROMPT] * 2, options=OPTIONS) == [found.generated] * 2
    assert "".join(pipeline.stream(ct, options=OPTIONS)).strip() == found.generated


def test_heat_maps_are_those_of_a_u_net(pipeline: Pipeline, ct: Path) -> None:
    model = cast(ReportModel, pipeline.bundle.modules["report"])
    array = read_study(ct).input_for(tiny_spec(), "report")
    needed = stages_needed(model)
    made = Predictor(pipeline.bundle, torch.device("cpu")).predict(
        lambda _: array, ("report",), OPTIONS, keep=needed
    )
    written = made.written
    assert written is not None
    spans = [range(len(written.ids))]
    if isinstance(model.config.encoder, EncoderConfig):
        (heat,) = heat_maps(model, written, spans, tiny_spec().hash)
        assert heat.values.sum() == pytest.approx(1.0, abs=1e-5)
    else:
        assert needed == ()
        with pytest.raises(ConfigError, match="vision transformer"):
            heat_maps(model, written, spans, tiny_spec().hash)


def test_another_runtime_writes_the_same(pipeline: Pipeline, ct: Path) -> None:
    pytest.importorskip("openvino")
    array = read_study(ct).input_for(tiny_spec(), "report")
    torched, traced = (
        Predictor(pipeline.bundle, torch.device("cpu"), runtime=runtime)
        for runtime in ("torch", "openvino")
    )
    predicted = [p.predict(lambda _: array, ("report",), OPTIONS) for p in (torched, traced)]
    tokens = [p.encoded["report"].tokens for p in predicted]
    assert tokens[0].keys() == tokens[1].keys()
    for stage in tokens[0]:
        torch.testing.assert_close(tokens[0][stage], tokens[1][stage], atol=1e-3, rtol=1e-3)
