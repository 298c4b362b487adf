"""Options given to a pipeline reach the decoder, with the bundle's draft where they allow it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.inference.bundle_factory import TEXTS, tiny_bundle, tiny_tokenizer
from uvlm.errors import ConfigError
from uvlm.inference.decoding import speculate as speculation
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.inference.predict import Prediction, Predictor
from uvlm.models.bundle import load_bundle
from uvlm.text.draft import Draft
from uvlm.text.prompts import DEFAULT_PROMPT

TOKENIZER = tiny_tokenizer()
INPUT: NDArray[np.float32] = np.random.default_rng(0).normal(size=(32, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "report", ("report",))


@pytest.fixture
def predictor(folder: Path) -> Predictor:
    bundle = load_bundle(folder)
    torch.manual_seed(1)
    model: Any = bundle.modules["report"]
    for p in model.decoder.blocks.parameters():  # else the text repeats one token
        p.data.add_(0.5 * torch.randn_like(p))
    return Predictor(bundle, torch.device("cpu"))


def report(predictor: Predictor, **how: Any) -> Prediction:
    options = GenerateOptions(**{"max_new_tokens": 24, **how})
    return predictor.predict(lambda _: INPUT, ("report",), options)


def ids_of(prediction: Prediction) -> list[int]:
    assert prediction.written is not None
    return prediction.written.ids


def test_each_way_of_choosing_writes_another_text(predictor: Predictor) -> None:
    ways: list[dict[str, Any]] = [
        {},
        {"temperature": 2.0},
        {"temperature": 2.0, "seed": 1},
        {"repetition_penalty": 2.0},
        {"beams": 3},
    ]
    texts = [tuple(ids_of(report(predictor, **how))) for how in ways]
    assert len(set(texts)) == len(ways)
    assert texts == [tuple(ids_of(report(predictor, **how))) for how in ways]


def test_a_report_ends_before_its_stop_string(predictor: Predictor) -> None:
    free = report(predictor)
    assert free.text is not None
    assert free.cut
    stop = free.text[len(free.text) // 2 :][:3]
    stopped = report(predictor, stop=(stop,))
    assert stopped.text == free.text[: free.text.index(stop)].strip()
    assert not stopped.cut
    assert len(ids_of(stopped)) < len(ids_of(free))


def test_the_bundles_draft_is_used_for_greedy_reports_only(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ids_of(report(predictor))
    draft = Draft.build([plain, TOKENIZER.encode(TEXTS[0])])
    tensors = {name: torch.from_numpy(array) for name, array in draft.tensors().items()}
    with_draft = replace(predictor.bundle, extras={"draft": tensors})
    predictor = Predictor(with_draft, torch.device("cpu"))
    calls = []
    speculate = speculation.speculate

    def count(*args: Any, **rest: Any) -> Any:
        made = speculate(*args, **rest)
        calls.append(made[1].calls)
        return made

    monkeypatch.setattr(speculation, "speculate", count)
    fast = report(predictor)
    assert (ids_of(fast), fast.cut) == (plain, True)
    (made,) = calls
    assert made < 24 / 2
    for how in ({"speculative": False}, {"temperature": 1.0}, {"beams": 2}, {"stop": ("x",)}):
        report(predictor, **how)
    assert len(calls) == 1


def test_narrow_decoders_are_not_asked_to_verify(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = Draft.build([TOKENIZER.encode(TEXTS[0])]).tensors()
    extras = {"draft": {name: torch.from_numpy(array) for name, array in tensors.items()}}
    narrow = Predictor(replace(predictor.bundle, extras=extras), torch.device("cpu"), "int8")
    expected = ids_of(report(narrow, speculative=False))
    monkeypatch.setattr(speculation, "speculate", None)
    assert ids_of(report(narrow)) == expected


def test_the_pieces_of_a_stream_are_the_report(predictor: Predictor) -> None:
    for how in ({}, {"temperature": 2.0, "seed": 1}):
        options = GenerateOptions(max_new_tokens=24, **how)
        pieces = list(predictor.stream(lambda _: INPUT, options))
        assert len(pieces) > 3
        assert "".join(pieces).strip() == report(predictor, **how).text
    with pytest.raises(ConfigError, match="beams=1"):
        predictor.stream(lambda _: INPUT, GenerateOptions(beams=2))


def test_several_prompts_are_answered_from_one_encoding(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[object] = []
    encode = Predictor._encode

    def count(self: Predictor, *args: Any) -> Any:
        encoded.append(args)
        return encode(self, *args)

    monkeypatch.setattr(Predictor, "_encode", count)
    options, prompts = GenerateOptions(max_new_tokens=24), [DEFAULT_PROMPT, "The lungs?"]
    first, second = predictor.answers(lambda _: INPUT, prompts, options)
    assert len(encoded) == 1
    assert first == report(predictor, speculative=False).text
    assert second != first
    (alone,) = predictor.answers(lambda _: INPUT, prompts[1:], options)
    assert second == alone


def test_a_report_of_few_positions_need_not_be_longer(predictor: Predictor) -> None:
    model: Any = predictor.bundle.modules["report"]
    given = report(predictor, max_new_tokens=1, min_new_tokens=1)
    assert given.written is not None
    before = len(given.written.plan.layout(len(given.written.prompt)))
    model.decoder.positions = before + 3
    assert len(ids_of(report(predictor, min_new_tokens=20))) == 4
