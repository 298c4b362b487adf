"""Heat maps: shares of one whole, of what was said and of nothing else, where the signal is."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.inference.bundle_factory import SHAPE, TEXTS, tiny_bundle, tiny_spec
from tests.models.tiny_base import report_config, report_model, tiny_base
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.inference.encoding import encode
from uvlm.inference.evidence.heat import (
    class_heat_maps,
    heat_maps,
    on_prepared,
    sentence_heat_maps,
    stages_needed,
)
from uvlm.inference.evidence.heat_methods import (
    FINEST,
    Traced,
    class_logits,
    finest_stage,
    frozen,
    log_probabilities,
    warmth,
)
from uvlm.inference.evidence.types import CLASS_METHOD, DECODER_METHOD, HeatMap
from uvlm.inference.predict import Predictor, Written
from uvlm.models.bundle import load_bundle
from uvlm.models.config import EncoderConfig
from uvlm.models.low_bit import lower
from uvlm.registry import CT_RATE_LABELS

VOLUME = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
HASH = "0123"


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    folder = tiny_bundle(tmp_path_factory.mktemp("b") / "b", ("classification", "report"))
    return Predictor(load_bundle(folder), torch.device("cpu"))


@pytest.fixture(scope="module")
def report(predictor):
    return predictor.bundle.modules["report"]


@pytest.fixture(scope="module")
def head(predictor):
    return predictor.bundle.modules["classification"]


@pytest.fixture(scope="module")
def prediction(predictor, report):
    return predictor.predict(
        lambda part: VOLUME,
        ("classification", "report"),
        GenerateOptions(max_new_tokens=1),
        keep=stages_needed(report),
    )


@pytest.fixture(scope="module")
def written(predictor, prediction):
    return replace(prediction.written, ids=predictor.bundle.tokenizer.encode(TEXTS[1]))


def traced_of(report, written):
    return Traced.of(report.encoder, written.encoded)


def test_every_span_gets_a_map_that_sums_to_one(report, written):
    spans = [range(2, 5), range(5, len(written.ids))]
    maps = heat_maps(report, written, spans, HASH)
    assert [(m.spec_hash, m.method) for m in maps] == [(HASH, DECODER_METHOD)] * 2
    for heat in maps:
        assert heat.values.dtype == np.float32
        assert (heat.values >= 0).all()
        assert heat.values.sum() == pytest.approx(1, abs=1e-4)
    assert not np.allclose(maps[0].values, maps[1].values)


def test_a_span_has_the_same_map_alone_and_among_others(report, written):
    (alone,) = heat_maps(report, written, [range(3, 8)], HASH)
    among = heat_maps(report, written, [range(0, 2), range(3, 8), range(8, 9)], HASH)[1]
    np.testing.assert_array_equal(alone.values, among.values)


def test_later_tokens_change_nothing(report, written):
    # A decoder cannot have looked somewhere because of what it had not written yet.
    (whole,) = heat_maps(report, written, [range(0, 4)], HASH)
    (short,) = heat_maps(report, replace(written, ids=written.ids[:4]), [range(0, 4)], HASH)
    np.testing.assert_allclose(whole.values, short.values, rtol=1e-3, atol=1e-7)


def test_the_finest_map_that_is_small_enough_is_kept(report):
    assert finest_stage(EncoderConfig(), (192, 256, 256)) == 4
    assert stages_needed(report) == (1,)
    assert FINEST >= 32**3
    assert finest_stage(EncoderConfig(strides=(1,) * 6), (64, 64, 64)) == 6


@pytest.mark.parametrize("first", [1, 2, 3])
def test_log_probabilities_are_those_of_the_whole_model(predictor, report, written, first):
    kept = predictor.predict(
        lambda part: VOLUME, ("report",), GenerateOptions(max_new_tokens=1), keep=(first,)
    )
    with frozen(report):
        traced = Traced.of(report.encoder, kept.written.encoded)
        assert list(traced.stages) == list(range(first, 4))
        found = log_probabilities(report, written, traced).detach()
    ids = torch.tensor([*written.prompt, *written.ids])
    with torch.no_grad():
        logits = report(torch.from_numpy(VOLUME)[None, None], ids[None])[0].log_softmax(-1)
    start = len(written.prompt)
    wanted = [logits[start + i - 1, token] for i, token in enumerate(written.ids)]
    torch.testing.assert_close(found, torch.stack(wanted), rtol=1e-4, atol=1e-4)


def test_class_logits_are_those_of_the_whole_model(head, prediction):
    encoded = prediction.encoded["classification"]
    with frozen(head):
        found = class_logits(head, Traced.of(head.encoder, encoded))
    probabilities = list(prediction.probabilities.values())
    assert found.sigmoid().tolist() == pytest.approx(probabilities, abs=1e-5)


def test_gradients_are_those_of_a_small_change(report, written):
    with frozen(report):
        traced = traced_of(report, written)
        said = log_probabilities(report, written, traced)
        gradient = traced.gradients(said.sum())[1]
        step = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(1)) * 1e-3
        moved = replace(written.encoded, kept={1: written.encoded.kept[1] + step})
        changed = replace(written, encoded=moved)
        after = log_probabilities(report, changed, traced_of(report, changed))
    predicted = (gradient * step).sum().item()
    # The sum of all tokens has too few digits to tell so small a change.
    assert (after - said).detach().double().sum().item() == pytest.approx(predicted, rel=0.1)


def test_class_heat_is_of_the_class(head, prediction):
    encoded = prediction.encoded["classification"]
    first, second = CT_RATE_LABELS[:2]
    groups = [[first], [second], [first, second]]
    maps = class_heat_maps(head, encoded, groups, HASH)
    assert [m.method for m in maps] == [CLASS_METHOD] * 3
    assert not np.allclose(maps[0].values, maps[1].values)
    assert not np.allclose(maps[0].values, maps[2].values)
    for heat in maps:
        assert heat.values.sum() == pytest.approx(1, abs=1e-4)
    for strange in (["Gout"], [first, "Gout"], []):
        with pytest.raises(ValueError, match="has no map of"):
            class_heat_maps(head, encoded, [strange], HASH)


def test_the_same_classes_take_one_backward_pass(head, prediction, monkeypatch):
    encoded = prediction.encoded["classification"]
    first, second = CT_RATE_LABELS[:2]
    passes = []
    taken = Traced.gradients
    monkeypatch.setattr(Traced, "gradients", lambda *a: passes.append(1) or taken(*a))
    groups = [[first], [second, first], [first, first], [first, second], [first]]
    one, two, *rest = class_heat_maps(head, encoded, groups, HASH)
    assert len(passes) == 2
    assert [heat is one for heat in rest] == [True, False, True]
    assert rest[1] is two


def test_a_sentence_has_the_heads_map_where_the_head_knows_what_it_states(
    predictor, report, head, prediction, written
):
    told = replace(prediction, written=written)
    known = CT_RATE_LABELS[3]
    spans = [range(0, 3), range(3, 6), range(6, 9)]
    stated = [(known,), ("Gout",), ("Gout", known)]
    maps = sentence_heat_maps(predictor.bundle, told, spans, stated)
    assert [m.method for m in maps] == [CLASS_METHOD, DECODER_METHOD, CLASS_METHOD]
    spec_hash = predictor.bundle.parts["report"].our_spec.hash
    assert {m.spec_hash for m in maps} == {spec_hash}
    encoded = prediction.encoded["classification"]
    (of_class,) = class_heat_maps(head, encoded, [[known]], spec_hash)
    (of_text,) = heat_maps(report, written, spans[1:2], spec_hash)
    for found, wanted in zip(maps, (of_class, of_text, of_class), strict=True):
        np.testing.assert_array_equal(found.values, wanted.values)


def test_without_a_head_of_the_same_preparation_the_decoder_is_asked(
    predictor, prediction, written
):
    told = replace(prediction, written=written)
    stated = [CT_RATE_LABELS[:1]]
    parts = predictor.bundle.parts
    other = replace(parts["classification"], spec=tiny_spec((64, 32, 32)))
    elsewhere = replace(predictor.bundle, parts={**parts, "classification": other})
    unasked = replace(told, encoded={"report": told.encoded["report"]})
    for bundle, asked in ((elsewhere, told), (predictor.bundle, unasked)):
        (heat,) = sentence_heat_maps(bundle, asked, [range(0, 3)], stated)
        assert heat.method == DECODER_METHOD


def test_warmth_lies_where_the_number_comes_from():
    # A number that only one corner of both maps speaks for.
    fine, coarse = torch.zeros(1, 3, 8, 8, 8), torch.zeros(1, 5, 4, 4, 4)
    fine[..., 6, 1, 2], coarse[..., 3, 0, 1] = 2.0, 2.0
    fine.requires_grad_(), coarse.requires_grad_()
    traced = Traced(stages={1: fine, 2: coarse}, tokens={})
    heat = warmth(traced, traced.gradients(fine.sum() + coarse.sum()), (1, 2))
    assert np.unravel_index(int(heat.argmax()), heat.shape) == (6, 1, 2)
    against = warmth(traced, traced.gradients(-fine.sum() - coarse.sum()), (1, 2))
    assert against[6, 1, 2] == 0


def test_what_depends_on_nothing_has_no_heat():
    maps = {1: torch.randn(1, 2, 4, 4, 4, requires_grad=True)}
    traced = Traced(stages=maps, tokens={})
    heat = warmth(traced, traced.gradients(maps[1].sum() * 0), (1,))
    assert not heat.any()


def test_a_map_that_nothing_depends_on_has_no_say_and_all_of_them_are_refused():
    used, unused = (torch.ones(1, 2, 4, 4, 4, requires_grad=True) for _ in range(2))
    traced = Traced(stages={1: used, 2: unused}, tokens={})
    assert not traced.gradients(used.sum())[2].any()
    with pytest.raises(ValueError, match="no gradient with respect to"):
        Traced(stages={2: unused}, tokens={}).gradients(used.sum())


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_pretrained_decoders_have_heat_maps_too(tmp_path, kind):
    model = report_model(report_config(tiny_base(tmp_path, kind), tuning="lora")).eval()
    x = torch.randn(1, 1, *model.config.shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        encoded = encode(model.encoder, x, model.align, stages_needed(model))
        plan = model.align.project(encoded.tokens)
    written = Written(prompt=[7, 8, 9], ids=[11, 12, 13, 14, 15], plan=plan, encoded=encoded)
    first, second = heat_maps(model, written, [range(0, 2), range(3, 5)], HASH)
    for heat in (first, second):
        assert heat.values.sum() == pytest.approx(1, abs=1e-4)
    assert not np.allclose(first.values, second.values)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_narrow_weights_look_at_the_same_places(report, written, precision):
    spans = [range(2, 10), range(10, len(written.ids))]
    narrow = copy.deepcopy(report)
    lower(narrow.decoder, precision)
    for wide, found in zip(
        heat_maps(report, written, spans, HASH),
        heat_maps(narrow, written, spans, HASH),
        strict=True,
    ):
        # Gradients of random models differ in the third digit; places do not.
        assert np.corrcoef(wide.values.ravel(), found.values.ravel())[0, 1] > 0.95


def test_the_model_is_left_as_it_was(report, head, written, prediction):
    before = {n: (p.requires_grad, p.clone()) for n, p in report.named_parameters()}
    with torch.inference_mode():  # as inside the pipeline
        heat_maps(report, written, [range(0, 3)], HASH)
    class_heat_maps(head, prediction.encoded["classification"], [CT_RATE_LABELS], HASH)
    for name, parameter in report.named_parameters():
        wanted, value = before[name]
        assert parameter.requires_grad == wanted
        assert parameter.grad is None
        torch.testing.assert_close(parameter, value, rtol=0, atol=0)


def test_kept_maps_stay_as_they_were(report, written):
    before = written.encoded.kept[1].clone()
    heat_maps(report, written, [range(0, 3)], HASH)
    torch.testing.assert_close(written.encoded.kept[1], before, rtol=0, atol=0)


@pytest.mark.parametrize("span", [range(0), range(-1, 2), range(3, 10_000)])
def test_tokens_that_are_not_there_are_refused(report, written, span):
    with pytest.raises(ValueError, match="are none of a report of"):
        heat_maps(report, written, [span], HASH)


def test_maps_that_were_not_kept_are_asked_for(report, written):
    bare = replace(written, encoded=replace(written.encoded, kept={}))
    with pytest.raises(ValueError, match="no stage of the encoder was kept"):
        heat_maps(report, bare, [range(0, 3)], HASH)


def test_nothing_asked_is_nothing_computed(report, written, head, prediction):
    assert heat_maps(report, written, [], HASH) == []
    encoded = prediction.encoded["classification"]
    assert class_heat_maps(head, encoded, [], HASH) == []


def heat_of(values):
    return HeatMap(values=np.asarray(values, np.float32), spec_hash=HASH, method="test")


@pytest.mark.parametrize("cell", [(0, 0, 0), (1, 2, 3), (3, 0, 2)])
def test_on_the_prepared_grid_a_cell_lies_in_its_box(cell):
    values = np.zeros((4, 4, 4))
    values[cell] = 1
    fine = on_prepared(heat_of(values), (8, 16, 32))
    assert fine.shape == (8, 16, 32)
    assert fine.sum(dtype=float) == pytest.approx(1, abs=1e-4)
    peak = np.unravel_index(fine.argmax(), fine.shape)
    assert [p // n for p, n in zip(peak, (2, 4, 8), strict=True)] == list(cell)


def test_no_heat_stays_none_and_other_grids_are_refused():
    assert not on_prepared(heat_of(np.zeros((2, 2, 2))), (4, 4, 4)).any()
    with pytest.raises(ValueError, match="does not divide"):
        on_prepared(heat_of(np.zeros((3, 2, 2))), (4, 4, 4))
