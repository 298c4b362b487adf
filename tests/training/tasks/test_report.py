"""The report's loss counts what it should, over an encoder that runs, is kept, or is in a bank."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.tiny_packed import PACKED, sliced
from uvlm.models.config import DecoderConfig, EncoderConfig, ReportConfig
from uvlm.models.uvlm import ReportModel
from uvlm.text.prompts import build_example
from uvlm.text.tokenizer import train_tokenizer
from uvlm.training.config import LossConfig
from uvlm.training.tasks import report as module
from uvlm.training.tasks.report import ReportTask

ENCODER = EncoderConfig(features=(4, 8, 8), strides=(1, 2, 2), blocks=(1, 1, 1))
SHAPE = (4, 8, 8)
IMAGE = torch.randn(2, 1, *SHAPE, generator=torch.Generator().manual_seed(0))
REPORTS = ("A nodule of 8 mm.", "No nodule is seen.")
TOKENIZER = train_tokenizer(REPORTS, vocab_size=270)


def report_model(vocab_size: int = 20) -> ReportModel:
    torch.manual_seed(0)
    decoder = DecoderConfig(vocab_size=vocab_size, layers=3, width=16, heads=2, ffn=32)
    config = ReportConfig(
        encoder=ENCODER, shape=SHAPE, decoder=decoder, vision_start_id=3, vision_end_id=4
    )
    return ReportModel(config)


def report_batch() -> dict[str, Any]:
    answer = torch.tensor([[False, False, True, True, True], [False, False, True, True, False]])
    tokens = torch.tensor([[7, 8, 9, 10, 2], [7, 8, 11, 2, 0]])
    return {"image": IMAGE, "series_id": ["a", "b"], "tokens": tokens, "answer": answer}


def log_probabilities(model: ReportModel, batch: dict[str, Any]) -> Tensor:
    """(B, T, V), position t for token t + 1."""
    return model(batch["image"], batch["tokens"]).log_softmax(-1)


def features_of(model: ReportModel, image: Tensor) -> dict[int, Tensor]:
    with torch.no_grad():
        return model.align.pool(model.encoder(image))


def test_the_loss_is_the_cross_entropy_of_the_answer_only():
    model, batch = report_model(), report_batch()
    logs = log_probabilities(model, batch)
    terms = [
        -logs[row, t - 1, batch["tokens"][row, t]] for row, t in batch["answer"].nonzero().tolist()
    ]
    loss = ReportTask(model, frozen=False).losses(batch)["loss"]
    assert loss.item() == pytest.approx((sum(terms) / 5).item(), rel=1e-5)


def test_the_prompt_counts_where_asked_but_padding_never():
    model, batch = report_model(), report_batch()
    logs = log_probabilities(model, batch)
    # All tokens but the first of each row, which nothing precedes, and the padding of the second.
    places = [(0, 1), (0, 2), (0, 3), (0, 4), (1, 1), (1, 2), (1, 3)]
    expected = sum(-logs[row, t - 1, batch["tokens"][row, t]] for row, t in places) / len(places)
    task = ReportTask(model, frozen=False, loss=LossConfig(prompt=True))
    assert task.counts(batch) == {"tokens": 7.0}
    assert task.losses(batch)["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_smoothing_spreads_its_share_over_the_vocabulary():
    model, batch = report_model(), report_batch()
    logs = log_probabilities(model, batch)
    terms = [
        -0.9 * logs[row, t - 1, batch["tokens"][row, t]] - 0.1 * logs[row, t - 1].mean()
        for row, t in batch["answer"].nonzero().tolist()
    ]
    task = ReportTask(model, frozen=False, loss=LossConfig(label_smoothing=0.1))
    assert task.losses(batch)["loss"].item() == pytest.approx((sum(terms) / 5).item(), rel=1e-5)
    plain = ReportTask(model, frozen=False)
    assert task.evaluate([batch]) == plain.evaluate([batch])


def test_padding_and_prompt_targets_do_not_change_the_loss():
    task, batch = ReportTask(report_model(), frozen=False), report_batch()
    before = task.losses(batch)["loss"]
    batch["tokens"][1, 4] = 13
    assert torch.equal(task.losses(batch)["loss"], before)


def test_halves_divided_by_the_count_of_both_add_up_to_the_whole():
    task, batch = ReportTask(report_model(), frozen=True), report_batch()
    whole = task.losses(batch)["loss"]
    halves = [{key: value[i : i + 1] for key, value in batch.items()} for i in range(2)]
    parts = [task.losses(half, {"tokens": 5.0})["loss"] for half in halves]
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-6)


def test_a_frozen_encoder_gives_the_same_loss_and_gets_no_gradient():
    model, batch = report_model(), report_batch()
    free = ReportTask(model, frozen=False).losses(batch)["loss"].item()
    task = ReportTask(model, frozen=True)
    loss = task.losses(batch)["loss"]
    loss.backward()
    assert loss.item() == pytest.approx(free, rel=1e-5)
    assert all(p.grad is None for p in model.encoder.parameters())
    assert all(p.grad is not None for p in model.align.parameters())


def test_every_parameter_takes_part_where_nothing_is_frozen():
    model, batch = report_model(), report_batch()
    ReportTask(model, frozen=False).losses(batch)["loss"].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_kept_features_are_computed_once_per_study(monkeypatch):
    model, batch = report_model(), report_batch()
    task = ReportTask(model, frozen=True, keep=True)
    first = task.losses(batch)["loss"]
    monkeypatch.setattr(model.encoder, "stem", None)
    assert torch.equal(task.losses(batch)["loss"], first)


def test_packed_towers_give_one_loss_frozen_kept_or_from_a_bank():
    torch.manual_seed(0)
    model = ReportModel(PACKED)
    answer, tokens = report_batch()["answer"], report_batch()["tokens"]
    seen = sliced()
    batch = {"image": seen.volume, "slices": seen.slices, "series_id": ["a", "b"]}
    batch |= {"tokens": tokens, "answer": answer}
    free = ReportTask(model, frozen=False).eval().losses(batch)["loss"]
    free.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    task = ReportTask(model, frozen=True, keep=True)
    first = task.losses(batch)["loss"]
    torch.testing.assert_close(first, free, atol=1e-6, rtol=1e-5)
    other = sliced(seed=1)
    batch |= {"image": other.volume, "slices": other.slices}
    assert torch.equal(task.losses(batch)["loss"], first)
    with torch.no_grad():
        features = model.align.pool(model.encoder(seen))
    banked = {"features": features, "tokens": tokens, "answer": answer}
    torch.testing.assert_close(task.losses(banked)["loss"], free, atol=1e-6, rtol=1e-5)


def test_a_frozen_encoder_drops_nothing_in_training():
    model = ReportModel(PACKED)
    ReportTask(model, frozen=True).train()
    assert not any(module.training for module in model.encoder.modules())
    assert model.align.training
    assert ReportTask(model, frozen=False).train().model.encoder.training


def test_no_more_features_are_kept_than_there_is_room_for(monkeypatch):
    model, batch = report_model(), report_batch()
    task = ReportTask(model, frozen=True, keep=True)
    one = sum(t.nbytes for t in features_of(model, IMAGE[:1]).values())
    monkeypatch.setattr(module, "FEATURE_BYTES", one)
    first = task.losses(batch)["loss"]
    encoded, pooled = [], model.encoder.pooled
    monkeypatch.setattr(model.encoder, "pooled", lambda *a: encoded.append(1) or pooled(*a))
    assert torch.equal(task.losses(batch)["loss"], first)
    assert len(encoded) == 1  # the second study's again


def test_features_in_the_batch_stand_for_the_encoder(monkeypatch):
    model, batch = report_model(), report_batch()
    task = ReportTask(model, frozen=True)
    expected = task.losses(batch)["loss"]
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    features = {stage: t.half() for stage, t in features_of(model, batch.pop("image")).items()}
    monkeypatch.setattr(model.encoder, "stem", None)
    loss = task.losses(batch | {"features": features})["loss"]
    loss.backward()
    # Half precision rounds each feature by at most 2^-11 of itself, 5e-4; the loss moves by less.
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-2, atol=1e-4)


def test_validation_is_the_mean_over_answer_tokens():
    task, batch = ReportTask(report_model(), frozen=False), report_batch()
    halves = [{key: value[i : i + 1] for key, value in batch.items()} for i in range(2)]
    assert task.evaluate(halves)["answer_ce"] == pytest.approx(
        task.losses(batch)["loss"].item(), rel=1e-5
    )


def written_batch(reports: tuple[str, ...] = REPORTS, spacing: tuple[str, ...] = ("", "")) -> Any:
    """Texts of TOKENIZER, as a dataset and `collate` give them."""
    examples = [
        build_example(TOKENIZER, "Describe.", report, told)
        for report, told in zip(reports, spacing, strict=True)
    ]
    length = max(len(example.ids) for example in examples)
    tokens = torch.full((2, length), TOKENIZER.pad_id)
    answer = torch.zeros(2, length, dtype=torch.bool)
    for row, example in enumerate(examples):
        tokens[row, : len(example.ids)] = torch.tensor(example.ids)
        answer[row, example.answer] = True
    return {"image": IMAGE, "series_id": ["a", "b"], "tokens": tokens, "answer": answer}


WORDS = ("lung", "liver", "rib", "node", "cyst", "stone", "clot", "mass")
DIFFERENT = [(f"{a} " * 9, f"{b} " * 9) for a, b in zip(WORDS[::2], WORDS[1::2], strict=True)]


def alarm_task(limit: int = 2) -> ReportTask:
    model = report_model(TOKENIZER.vocab_size)
    return ReportTask(model, frozen=True, tokenizer=TOKENIZER, limit=limit).eval()


def test_a_model_that_writes_one_report_for_all_raises_the_alarm(caplog):
    """Untrained, it ignores the image; the references differ."""
    with caplog.at_level(logging.INFO, logger=module.__name__):
        metrics = alarm_task(limit=8).evaluate([written_batch(texts) for texts in DIFFERENT])
    assert metrics["reports/identical"] == metrics["reports/similar"] == 1
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "100 % are identical" in record.getMessage()


def test_a_handful_of_reports_raises_no_alarm(caplog):
    with caplog.at_level(logging.INFO, logger=module.__name__):
        alarm_task(limit=7).evaluate([written_batch(texts) for texts in DIFFERENT])
    assert [record.levelno for record in caplog.records] == [logging.INFO]


def test_references_that_are_alike_themselves_raise_no_alarm(caplog):
    with caplog.at_level(logging.INFO, logger=module.__name__):
        metrics = alarm_task(limit=8).evaluate([written_batch((REPORTS[0], REPORTS[0]))] * 4)
    assert metrics["reports/identical"] == 1
    assert [record.levelno for record in caplog.records] == [logging.INFO]


def test_reports_that_differ_raise_no_alarm(monkeypatch, caplog):
    ids = [TOKENIZER.encode(text) for text in REPORTS]
    monkeypatch.setattr(module, "generate_batch", lambda *args, **rest: ids)
    with caplog.at_level(logging.INFO, logger=module.__name__):
        metrics = alarm_task().evaluate([written_batch()])
    assert metrics["reports/identical"] == metrics["reports/similar"] == 0
    assert [record.levelno for record in caplog.records] == [logging.INFO]


def test_only_so_many_reports_are_written(monkeypatch):
    rows = []

    def count(model, plan, prompt, **rest):
        rows.append(len(plan.prefix))
        return [[5]] * len(plan.prefix)

    monkeypatch.setattr(module, "generate_batch", count)
    alarm_task(limit=3).evaluate([written_batch()] * 4)
    assert rows == [2, 1]
    rows.clear()
    assert "reports/identical" not in alarm_task(limit=0).evaluate([written_batch()])
    assert rows == []


def test_each_report_follows_the_prompt_of_its_study(monkeypatch):
    asked = []

    def remember(model, plan, prompt, **rest):
        asked.append((TOKENIZER.decode(prompt), plan.prefix))
        return [[5]] * len(plan.prefix)

    monkeypatch.setattr(module, "generate_batch", remember)
    task, batch = alarm_task(), written_batch(spacing=("Voxels 1 mm.", "Voxels 2 mm."))
    task.evaluate([batch])
    assert [text.strip() for text, _ in asked] == [
        "Describe.Voxels 1 mm.",
        "Describe.Voxels 2 mm.",
    ]
    plan = task.model.visual_plan(task.model.encoder(IMAGE))
    torch.testing.assert_close(torch.cat([prefix for _, prefix in asked]), plan.prefix)


def test_validation_in_half_precision_writes_reports_too():
    task = alarm_task()
    with torch.autocast("cpu", torch.bfloat16):
        metrics = task.evaluate([written_batch()])
    assert metrics.keys() == {"answer_ce", "reports/identical", "reports/similar"}
    # Nothing of the inference stays behind that a training step would trip over.
    task.train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = task.losses(written_batch())["loss"]
    loss.backward()
    assert loss.isfinite()
