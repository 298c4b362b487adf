"""HSENet's stages one after the other: what each takes from the one before, and what it refuses."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

import uvlm
from tests.data.toy_catalog import SHAPE, make_catalog
from tests.inference.bundle_factory import write_ct
from tests.models.tiny_slice_encoder import tiny_slice_encoder
from tests.training.conftest import ENCODER
from tests.training.hsenet import (
    GATED,
    REPORT,
    TOWERS,
    VIT,
    contrastive,
    encoder_of,
    reporting,
    weights,
)
from tests.training.test_run_options import interrupted, with_loop
from uvlm.data.questions import VQA
from uvlm.errors import BundleError, ConfigError, InputError
from uvlm.imaging.store import read_store
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.inference.questions import answer_questions
from uvlm.models.bundle import Bundle, load_bundle
from uvlm.models.config import ReportConfig
from uvlm.models.contrastive import ContrastiveModel
from uvlm.models.contrastive_config import ConsistencyConfig
from uvlm.models.tower_config import PackerConfig, SliceEncoderConfig
from uvlm.preprocessing.catalog import read_catalog
from uvlm.training.build import build_model
from uvlm.training.config import LossConfig, OptimConfig, RunConfig
from uvlm.training.features import fill_bank
from uvlm.training.recipes import recipe
from uvlm.training.run import train
from uvlm.training.session import open_session
from uvlm.training.slices import fill_slice_bank
from uvlm.training.tasks.contrastive import ContrastiveTask
from uvlm.training.typical import _of_encoder_taken_over

SHORT = GenerateOptions(max_new_tokens=6)
ONCE = LossConfig(consistency=ConsistencyConfig(steps=2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hsenet")


@pytest.fixture(scope="module")
def slice_encoder(folder: Path) -> Path:
    return tiny_slice_encoder(folder / "encoder")


@pytest.fixture(scope="module")
def slices(folder: Path, catalog: Path, slice_encoder: Path) -> Path:
    settings = SliceEncoderConfig(slices=3, window=(-900.0, 500.0))
    return fill_slice_bank([catalog], slice_encoder, folder / "bank", settings=settings)


@pytest.fixture(scope="module")
def stage_1(folder: Path, catalog: Path) -> Path:
    return train(contrastive(catalog, out=folder / "one"))


def second(catalog: Path, slices: Path | None, init: Path | None, **changes: Any) -> RunConfig:
    return contrastive(catalog, GATED, slices=slices, init=init, loss=ONCE, **changes)


@pytest.fixture(scope="module")
def stage_2(folder: Path, catalog: Path, slices: Path, stage_1: Path) -> Path:
    return train(second(catalog, slices, stage_1, out=folder / "two"))


@pytest.fixture(scope="module")
def reports(folder: Path, catalog: Path, slices: Path, stage_2: Path, slice_encoder: Path) -> Path:
    config = reporting(catalog, slices=slices, init=stage_2, slice_encoder=slice_encoder)
    return train(replace(config, out=folder / "report"))


@pytest.fixture(scope="module")
def ct(folder: Path) -> Path:
    return write_ct(folder / "ct.nii.gz")


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def log_of(bundle: Path) -> dict[str, list[int]]:
    """Name -> steps at which it was logged."""
    found: dict[str, list[int]] = {}
    with (bundle.parent / "log.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["name"], []).append(int(row["step"]))
    return found


def embedded(bundle: Bundle, catalog: Path) -> tuple[Tensor, Tensor]:
    """Of one study, its image and its report."""
    model, row = (
        cast(ContrastiveModel, bundle.modules["contrastive"]),
        read_catalog(catalog).rows[0],
    )
    assert bundle.text_tokens is not None
    tokens = torch.tensor([bundle.text_tokens.encode(row.report or "")])
    image = torch.from_numpy(read_store(row.image).astype("float32"))
    with torch.no_grad():
        return (
            model.embed_image(image[None, None]),
            model.embed_text(tokens, torch.ones_like(tokens, dtype=torch.bool)),
        )


def test_stage_1_is_a_bundle_that_embeds_as_trained(stage_1: Path, catalog: Path, tmp_path: Path):
    bundle = load_bundle(stage_1)
    assert tuple(bundle.parts) == ("contrastive",)
    assert bundle.tokenizer is None
    metrics = bundle.parts["contrastive"].metrics
    assert {"loss", "mrr", "i2t/r@1", "t2i/mrr"} <= metrics.keys()
    again = load_bundle(train(contrastive(catalog, out=tmp_path / "again")))
    for one, other in zip(embedded(bundle, catalog), embedded(again, catalog), strict=True):
        assert torch.equal(one, other)
        assert one.shape == (1, 6)
        torch.testing.assert_close(one.norm(), torch.tensor(1.0))


def test_an_interrupted_run_ends_with_the_same_weights(
    catalog: Path, stage_1: Path, tmp_path: Path, monkeypatch
):
    config = contrastive(catalog, out=tmp_path / "run")
    interrupted(config, 3, monkeypatch)
    bundle = train(config, resume=True)
    assert same(weights(bundle, "contrastive"), weights(stage_1, "contrastive"))


def test_the_teacher_fades_from_where_a_resumed_run_stopped(
    catalog: Path, slices: Path, stage_1: Path, stage_2: Path, tmp_path: Path, monkeypatch
):
    config = second(catalog, slices, stage_1, out=tmp_path / "run")
    interrupted(config, 4, monkeypatch)
    bundle = train(config, resume=True)
    assert same(weights(bundle, "contrastive_2e3"), weights(stage_2, "contrastive_2e3"))


def test_chunks_make_the_same_step(catalog: Path, tmp_path: Path):
    config = contrastive(catalog, optim=OptimConfig(name="sgd", lr=0.05))
    whole = weights(train(replace(config, out=tmp_path / "whole")), "contrastive")
    config = with_loop(config, chunk=3)
    parts = weights(train(replace(config, out=tmp_path / "parts")), "contrastive")
    assert max((whole[name] - parts[name]).abs().max() for name in whole) < 1e-5


def test_stage_2_begins_as_stage_1(catalog: Path, slices: Path, stage_1: Path, tmp_path: Path):
    config = second(catalog, slices, stage_1)
    model, handover = build_model(open_session(config, tmp_path))
    assert handover is not None
    assert handover.source == "contrastive"
    begun, given = model.state_dict(), weights(stage_1, "contrastive")
    gate = begun.keys() - given.keys()
    assert gate
    assert all(name.startswith("encoder.gate.") for name in gate)
    assert same({name: begun[name] for name in given}, given)


def test_stage_2_keeps_stage_1_and_its_words(stage_1: Path, stage_2: Path):
    bundle, first = load_bundle(stage_2), load_bundle(stage_1)
    assert tuple(bundle.parts) == ("contrastive", "contrastive_2e3")
    assert same(weights(stage_2, "contrastive"), weights(stage_1, "contrastive"))
    trained = weights(stage_2, "contrastive_2e3")
    assert not same({n: trained[n] for n in weights(stage_1, "contrastive")}, trained)
    assert bundle.text_tokens is not None
    assert first.text_tokens is not None
    assert bundle.text_tokens.to_json() == first.text_tokens.to_json()


def test_the_teacher_runs_while_its_weight_lasts(
    catalog: Path, slices: Path, stage_1: Path, stage_2: Path, tmp_path: Path, monkeypatch
):
    assert log_of(stage_2)["consistency"] == [1, 2]
    calls, ask = [], ContrastiveTask._consistency

    def counted(*given: Any) -> Tensor:
        calls.append(1)
        return ask(*given)

    monkeypatch.setattr(ContrastiveTask, "_consistency", counted)
    train(second(catalog, slices, stage_1, out=tmp_path / "run"))
    assert len(calls) == 2


def test_stage_2_without_a_teacher_needs_no_stage_1(catalog: Path, slices: Path, tmp_path: Path):
    none = LossConfig(consistency=ConsistencyConfig(weight=0.0))
    config = contrastive(catalog, GATED, slices=slices, loss=none, steps=1, out=tmp_path / "run")
    assert tuple(load_bundle(train(config)).parts) == ("contrastive_2e3",)


def test_stage_2_says_what_it_lacks(catalog: Path, slices: Path, stage_1: Path, tmp_path: Path):
    def refused(config: RunConfig, error: type[Exception], words: str) -> None:
        with pytest.raises(error, match=words):
            train(replace(config, out=tmp_path / "run"))
        assert not (tmp_path / "run").exists()

    refused(second(catalog, slices, None), ConfigError, "--init BUNDLE")
    refused(second(catalog, None, stage_1), ConfigError, "--data.slices BANK")
    wide = replace(GATED, slice_width=5)
    config = contrastive(catalog, wide, slices=slices, init=stage_1)
    refused(config, InputError, "slice_width to 16")
    wider = replace(GATED, mlp=24)
    config = contrastive(catalog, wider, slices=slices, init=stage_1)
    refused(config, BundleError, "its contrastive part differs")


def test_what_looks_at_no_slices_takes_none(catalog: Path, slices: Path):
    for encoder in (ENCODER, VIT):
        with pytest.raises(ConfigError, match="takes no slices"):
            contrastive(catalog, encoder, slices=slices)


def test_both_towers_come_from_their_stages_and_stay(stage_2: Path, reports: Path):
    bundle = load_bundle(reports)
    assert tuple(bundle.parts) == ("contrastive", "contrastive_2e3", "report", "slices")
    state = bundle.modules["report"].state_dict()
    for tower, part in (("volume", "contrastive"), ("slices", "contrastive_2e3")):
        given = encoder_of(weights(stage_2, part))
        assert same(encoder_of(state, f"encoder.{tower}."), given)
    card = (reports / "model_card.md").read_text()
    assert "3 axial slices of 8x8 pixels, -900 to 500 HU" in card
    assert "nnU-Net" not in card
    handover = json.loads((reports.parent / "handover.json").read_text())
    assert handover["tensors"] == len(encoder_of(state))


def test_towers_refuse_a_bundle_without_both_stages(
    catalog: Path, slices: Path, stage_1: Path, tmp_path: Path
):
    config = reporting(catalog, slices=slices, init=stage_1, out=tmp_path / "run")
    with pytest.raises(BundleError, match="no contrastive_2e3 part"):
        train(config)


def test_a_new_study_is_reported_with_the_2d_encoder_of_the_bundle(reports: Path, ct: Path):
    pipeline = uvlm.load(reports, device="cpu")
    found = pipeline.report(ct, options=SHORT)
    assert found.generated is not None
    assert found.evidence is not None
    assert all(sentence.heat is None for sentence in found.evidence.sentences)
    assert pipeline.report(ct, options=SHORT, evidence=False).generated == found.generated
    assert "".join(pipeline.stream(ct, options=SHORT)).strip() == found.generated


def test_a_prepared_study_is_reported_as_in_training(reports: Path, catalog: Path):
    row = read_catalog(catalog).rows[-1]
    assert uvlm.load(reports, device="cpu").report(row.image, options=SHORT).generated is not None


def test_without_its_2d_encoder_a_bundle_says_what_is_missing(
    catalog: Path, slices: Path, stage_2: Path, ct: Path, tmp_path: Path
):
    config = reporting(catalog, slices=slices, init=stage_2, steps=1, out=tmp_path / "run")
    bundle = train(config)
    assert "slices" not in load_bundle(bundle).parts
    with pytest.raises(BundleError, match="--slice-encoder FOLDER"):
        uvlm.load(bundle, device="cpu").report(ct, options=SHORT)


def test_another_2d_encoder_is_refused(catalog: Path, slices: Path, stage_2: Path, tmp_path: Path):
    other = tiny_slice_encoder(tmp_path / "other", seed=1)
    config = reporting(catalog, slices=slices, init=stage_2, slice_encoder=other, steps=1)
    with pytest.raises(ConfigError, match=r"it is the 2D encoder \w{16}"):
        train(replace(config, out=tmp_path / "run"))


@pytest.fixture(scope="module")
def banked(folder: Path, slice_encoder: Path) -> RunConfig:
    """A report run over a feature bank, of as many studies as limits of what is typical take."""
    (folder / "many").mkdir()
    catalog = make_catalog(folder / "many", studies=44)
    slices = fill_slice_bank([catalog], slice_encoder, folder / "many-bank")
    config = reporting(catalog, slices=slices, steps=2)
    bank = fill_bank(replace(config, out=folder / "features"))
    return replace(config, data=replace(config.data, bank=bank))


def test_a_banked_run_keeps_the_2d_encoder_and_knows_what_is_typical(
    banked: RunConfig, slice_encoder: Path, ct: Path, tmp_path: Path
):
    bundle = train(replace(banked, slice_encoder=slice_encoder, out=tmp_path / "run"))
    assert load_bundle(bundle).extras["typical"]
    assert uvlm.load(bundle, device="cpu").report(ct, options=SHORT).generated is not None


def test_a_feature_bank_alone_is_enough_to_train(banked: RunConfig, slice_encoder: Path, tmp_path):
    alone = replace(banked, data=replace(banked.data, slices=None))
    assert "typical" not in load_bundle(train(replace(alone, out=tmp_path / "run"))).extras
    with pytest.raises(ConfigError, match="name their bank as well"):
        train(replace(alone, slice_encoder=slice_encoder, out=tmp_path / "other"))


def with_questions(folder: Path) -> Path:
    """The toy catalog and two questions of each study but the first."""
    folder.mkdir()
    catalog = make_catalog(folder)
    with (folder / VQA).open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("series_id", "type", "anatomy", "finding", "answers", "millimetres"))
        for row in read_catalog(catalog).rows[1:]:
            sick = "A nodule" in (row.report or "")
            answer = json.dumps(["yes" if sick else "no"])
            table.writerow((row.series_id, "presence", "lung", "nodule", answer, ""))
            table.writerow((row.series_id, "location", "", "nodule", '["left lung"]', ""))
    return catalog


def test_questions_are_learned_and_answered(
    reports: Path, slices: Path, slice_encoder: Path, ct: Path, tmp_path: Path
):
    catalog = with_questions(tmp_path / "data")
    config = reporting(catalog, slices=slices, init=reports, slice_encoder=slice_encoder)
    config = replace(config, data=replace(config.data, questions=True), out=tmp_path / "run")
    bundle = train(config)
    state, earlier = weights(bundle, "report"), weights(reports, "report")
    assert same(encoder_of(state), encoder_of(earlier))
    asked = ["Is there a nodule?", "Where is the nodule?", "Is there a nodule?"]
    found = answer_questions(uvlm.load(bundle, device="cpu"), ct, asked, SHORT)
    assert len(found) == 3
    assert found[0] == found[2]


def test_questions_without_their_table_are_missed(catalog: Path, tmp_path: Path):
    config = reporting(catalog, replace(REPORT, encoder=VIT), out=tmp_path / "run")
    with pytest.raises(uvlm.errors.CatalogError, match=r"vqa\.csv"):
        train(replace(config, data=replace(config.data, questions=True)))


def test_what_is_typical_of_another_encoder_is_not_taken_over(banked: RunConfig, tmp_path: Path):
    """The part trained last may have another encoder than the one that the towers come from."""
    with_features = train(replace(banked, out=tmp_path / "one"))
    earlier = load_bundle(with_features)
    vit = replace(REPORT, encoder=VIT)
    config = reporting(banked.data.catalog[0], vit, steps=1)
    session = open_session(config, tmp_path)
    assert _of_encoder_taken_over(replace(session, earlier=earlier)) is None
    same_towers = open_session(banked, tmp_path)
    assert _of_encoder_taken_over(replace(same_towers, earlier=earlier)) is not None


def test_a_u_net_goes_from_contrastive_pretraining_to_reports(catalog: Path, tmp_path: Path):
    first = train(contrastive(catalog, ENCODER, steps=2, out=tmp_path / "one"))
    packer = PackerConfig(kernel=(2, 2, 2), stages=(2, 3))
    model = replace(REPORT, encoder=ENCODER, packer=packer)
    bundle = train(reporting(catalog, model, init=first, out=tmp_path / "two"))
    given = encoder_of(weights(first, "contrastive"))
    assert same(encoder_of(weights(bundle, "report")), given)


def small(name: str, catalog: Path, slices: Path | None) -> RunConfig:
    """A recipe's kind of model at a size for tests."""
    model = recipe(name).model
    assert isinstance(model, ReportConfig)
    encoder: Any = ENCODER if name == "unet_packed" else TOWERS
    decoder = replace(REPORT.decoder, layers=4)
    model = replace(model, encoder=encoder, shape=SHAPE, decoder=decoder)
    config = reporting(catalog, model, steps=2, slices=slices)
    return replace(config, optim=replace(config.optim, encoder_lr=1.0))


@pytest.mark.parametrize("name", ["unet_packed", "towers_injected"])
def test_the_mixed_recipes_train_all_they_have(
    name: str, catalog: Path, slices: Path, tmp_path: Path, without_gradient: list[str]
):
    bank = slices if name == "towers_injected" else None
    config = small(name, catalog, bank)
    bundle = train(replace(config, out=tmp_path / "run"))
    assert without_gradient == []
    assert tuple(load_bundle(bundle).parts) == ("report",)
