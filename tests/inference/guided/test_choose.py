"""Several reports are written for one study, and the one that agrees best is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.inference.bundle_factory import tiny_bundle, tiny_spec
from uvlm.errors import BundleError
from uvlm.inference import predict as predict_module
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.inference.decoding.stopping import Candidate
from uvlm.inference.guided import choose as module
from uvlm.inference.guided.options import GuideOptions
from uvlm.inference.pipeline import Pipeline
from uvlm.inference.predict import Prediction

ARRAY = np.random.default_rng(0).normal(size=tiny_spec().shape).astype(np.float32)
SHORT = GenerateOptions(max_new_tokens=6)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    return Pipeline.load(tiny_bundle(folder, ("classification", "report")), device="cpu")


def predicted(pipeline: Pipeline, options: GenerateOptions, guide: GuideOptions) -> Prediction:
    return pipeline.predict_prepared(ARRAY, ("report",), options=options, guide=guide)


def test_without_guidance_nothing_else_is_computed(pipeline, monkeypatch):
    monkeypatch.setattr(predict_module, "choose", None)
    result = predicted(pipeline, SHORT, GuideOptions())
    assert result.probabilities is None
    assert result.text == pipeline.predict_prepared(ARRAY, ("report",), options=SHORT).text


def test_the_best_beam_is_kept_without_a_weight(pipeline):
    guide = GuideOptions(candidates=3, agreement=0.0)
    options = GenerateOptions(max_new_tokens=6, beams=3)
    found = predicted(pipeline, options, guide)
    assert found.written is not None
    assert found.cut
    plain = predicted(pipeline, options, GuideOptions())
    assert plain.written is not None
    assert found.written.ids == plain.written.ids


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_beams_are_followed_or_texts_drawn(pipeline, monkeypatch, temperature):
    asked = []

    def remember(model, plan, prompt_ids, options, *, eos_id, tokenizer, count):
        asked.append((options.beams, options.temperature, count))
        return [Candidate(ids=[5], text="No nodule is seen.", log_probability=-1.0)] * count

    monkeypatch.setattr(module, "candidates", remember)
    options = GenerateOptions(max_new_tokens=6, temperature=temperature)
    predicted(pipeline, options, GuideOptions(candidates=4))
    assert asked == [(1 if temperature else 4, temperature, 4)]


def test_the_candidate_the_head_agrees_with_becomes_the_report(pipeline, monkeypatch):
    clear = Candidate(ids=[5, 6], text="No pleural effusion is seen.", log_probability=-0.1)
    sick = Candidate(
        ids=[7, 8], text="There is a pleural effusion.", log_probability=-9.0, cut=True
    )
    monkeypatch.setattr(module, "candidates", lambda *args, **rest: [clear, sick])
    monkeypatch.setattr(
        pipeline._predictor, "_classify", lambda encoded: {"Pleural effusion": 0.99}
    )
    found = predicted(pipeline, SHORT, GuideOptions(candidates=2, agreement=10.0))
    assert found.text == sick.text
    assert found.cut
    assert found.written is not None
    assert found.written.ids == sick.ids
    assert predicted(pipeline, SHORT, GuideOptions(candidates=2, agreement=0.0)).text == clear.text


def test_the_closing_token_counts_for_the_mean():
    assert module.per_token(Candidate(ids=[5], log_probability=-1.0)) == -0.5
    assert module.per_token(Candidate(ids=[5], log_probability=-1.0, cut=True)) == -1.0


def test_a_bundle_without_class_head_is_refused(tmp_path: Path):
    alone = Pipeline.load(tiny_bundle(tmp_path / "bundle", ("report",)), device="cpu")
    with pytest.raises(BundleError, match="compared by what a class head finds"):
        predicted(alone, SHORT, GuideOptions(candidates=2))
