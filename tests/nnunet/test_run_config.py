"""A plan becomes the training run it describes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.toy_catalog import LABELS, SHAPE, make_catalog
from uvlm.errors import ConfigError
from uvlm.models.config import ClassificationConfig, JointConfig, PretrainedConfig, ReportConfig
from uvlm.nnunet.run_config import Place, run_config
from uvlm.nnunet.settings import PlanSettings
from uvlm.training.config import RunConfig


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_catalog(tmp_path_factory.mktemp("studies"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(
        plan=tmp_path / "plans.json",
        shape=(192, 256, 256),
        batch_size=2,
        processes=1,
        device="cpu",
        out=tmp_path / "run",
        pretrained=False,
    )


def made(catalog: Path, place: Place, **settings) -> RunConfig:
    return run_config(PlanSettings(csv_paths=(catalog,), **settings), place)


@pytest.mark.parametrize(
    ("mode", "kind", "encoder_lr"),
    [
        ("only_cls", ClassificationConfig, 0.1),
        ("only_report", ReportConfig, 0.0),
        ("both", JointConfig, 0.1),
    ],
)
def test_the_mode_decides_network_and_learning_rate(catalog, place, mode, kind, encoder_lr):
    config = made(catalog, place, mode=mode)
    assert type(config.model) is kind
    assert config.optim.encoder_lr == encoder_lr
    assert (config.optim.name, config.optim.lr, config.optim.weight_decay) == ("adamw", 2e-5, 0.01)
    assert config.loop.steps == 250_000
    assert config.data.batch_size == 2
    assert config.loop.best


def test_the_default_report_network_is_the_papers(catalog, place):
    report = made(catalog, place, mode="only_report").model
    assert isinstance(report, ReportConfig)
    assert report == ReportConfig(decoder=replace(ReportConfig().decoder, vocab_size=8192))


@pytest.mark.parametrize(
    ("settings", "layers", "pairs"),
    [
        ({"use_deepstack": False}, 8, ()),
        ({"use_deepstack": False, "layers_per_stage": 5}, 5, ()),
        ({"layers_per_stage": 2, "deepstack_skip_stages": 2}, 8, None),
        ({"layers_per_stage": 1}, 6, None),
    ],
)
def test_the_authors_arrangement_of_layers(catalog, place, settings, layers, pairs):
    report = made(catalog, place, mode="only_report", **settings).model
    assert isinstance(report, ReportConfig)
    assert report.decoder.layers == layers
    if pairs is None:
        each = settings["layers_per_stage"]
        expected = tuple((i + 1, 6 - i // each) for i in range(layers))
        assert report.layer_stages == expected
    else:
        assert report.layer_stages == pairs


def test_the_published_deviations_on_request(catalog, place):
    config = made(catalog, place, mode="only_report", authors=True, deepstack_skip_stages=2)
    assert isinstance(config.model, ReportConfig)
    assert (config.model.mask, config.model.injection.place) == ("authors", "middle")
    assert config.model.decoder.layers == 8
    assert config.loss.prompt


def test_a_pretrained_decoder_needs_its_folder_and_keeps_lora_settings(catalog, place):
    place = replace(place, pretrained=True)
    with pytest.raises(ConfigError, match=r"plans\.json: llm_model_path is missing"):
        made(catalog, place, mode="only_report")
    for use_lora, tuning in ((True, "lora"), (False, "full")):
        report = made(
            catalog, place, mode="only_report", llm_model_path=Path("qwen"), use_lora=use_lora
        ).model
        assert isinstance(report, ReportConfig)
        assert isinstance(report.decoder, PretrainedConfig)
        assert report.decoder.tuning == tuning
        assert (report.decoder.rank, report.decoder.alpha) == (64, 128)
        assert report.decoder.base == place.plan.parent / "qwen"


@pytest.mark.parametrize("processes", [3, 4])
def test_a_batch_that_cannot_be_divided_is_refused(catalog, place, processes):
    with pytest.raises(ConfigError, match=f"batch_size 2 cannot be divided by {processes}"):
        made(catalog, replace(place, processes=processes))


def test_processes_share_the_plans_batch(catalog, place):
    assert made(catalog, replace(place, batch_size=6, processes=3)).data.batch_size == 2


def test_labels_must_be_those_of_the_catalogs(catalog, place):
    assert made(catalog, place, mode="only_cls", cls_columns=LABELS[::-1])
    with pytest.raises(ConfigError, match="no label 'Nodul'; did you mean 'Nodule'"):
        made(catalog, place, mode="only_cls", cls_columns=("Nodul", "Effusion"))
    with pytest.raises(ConfigError, match="cls_columns lacks Effusion"):
        made(catalog, place, mode="only_cls", cls_columns=("Nodule",))


def test_paths_start_in_the_plans_folder(catalog, place, tmp_path):
    (tmp_path / "tokenizer").mkdir()
    settings = PlanSettings(
        csv_paths=(Path("sub/catalog.csv"), catalog),
        tokenizer_path=Path("tokenizer"),
        pretrained_encoder_checkpoint_path=Path("fold_0/checkpoint_best.pth"),
        mode="only_report",
    )
    config = run_config(settings, place)
    assert config.data.catalog == (tmp_path / "sub/catalog.csv", catalog)
    assert config.tokenizer == tmp_path / "tokenizer/tokenizer.json"
    assert config.init == tmp_path / "fold_0/checkpoint_best.pth"


def test_without_catalogs_nothing_can_be_trained(place):
    with pytest.raises(ConfigError, match="csv_paths is empty"):
        run_config(PlanSettings(), place)


def test_any_field_of_a_run_may_be_set(catalog, place):
    run = {"optim.ema": 0.9, "loop.patience": 3, "model.heads": 8, "seed": 5}
    config = made(catalog, place, mode="only_cls", run=run)
    assert (config.optim.ema, config.loop.patience, config.seed) == (0.9, 3, 5)
    assert isinstance(config.model, ClassificationConfig)
    assert config.model.heads == 8
    same = made(catalog, place, mode="only_cls")
    assert replace(config, optim=same.optim, loop=same.loop, model=same.model, seed=0) == same


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("loop.patienc", "did you mean 'patience'"),
        ("optimiser.ema", "no field"),
        ("model.decoder", "unknown to a classification run"),
        ("out", "no field"),
    ],
)
def test_an_unknown_field_of_a_run_is_refused(catalog, place, name, message):
    with pytest.raises(ConfigError, match=message):
        made(catalog, place, mode="only_cls", run={name: 1})


def test_a_gpu_computes_in_sixteen_bits_and_loads_aside(catalog, place):
    config = made(catalog, replace(place, device="cuda"), mode="only_cls")
    assert (config.loop.precision, config.loop.device, config.data.workers) == ("bf16", "auto", 8)
    config = made(catalog, place, mode="only_cls")
    assert (config.loop.precision, config.loop.device, config.data.workers) == ("no", "cpu", 0)
    assert place.shape != SHAPE
