"""Every row of the paper's Tables 2 to 5 is a recipe, and is that row."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.data.toy_catalog import make_catalog
from uvlm.errors import BundleError, ConfigError
from uvlm.models.config import DecoderConfig, PretrainedConfig, SegmentationConfig
from uvlm.registry import DATASETS, PAPER_ROWS, RECIPES
from uvlm.training import paper
from uvlm.training.paper import check_start, earlier_recipe
from uvlm.training.recipes import recipe

# Columns of Table 5: training, skip connections, frozen, visual tokens, decoder.
TABLE_5 = (
    ("None Rep", False, True, 384, "0.1B"),
    ("Cls Rep", False, True, 384, "0.1B"),
    ("Seg(C+L) Rep", False, True, 384, "0.1B"),
    ("Seg(F+L) Rep", False, True, 384, "0.1B"),
    ("Seg(C) Cls Rep", False, True, 384, "0.1B"),
    ("Seg(C+L) Cls Rep", False, True, 384, "0.1B"),
    ("Seg(F+L) Cls Rep", False, True, 384, "0.1B"),
    ("Seg(C+L) Cls Rep", True, True, 384, "0.1B"),
    ("Seg(F+L) Cls Rep", True, True, 384, "0.1B"),
    ("Seg(C+L) Cls Rep", False, True, 3072, "0.1B"),
    ("Seg(F+L) Cls Rep", False, True, 3072, "0.1B"),
    ("Seg(C+L) Cls Rep", False, True, 384, "lora"),
    ("Seg(C+L) Cls Rep", False, True, 384, "full"),
    ("Seg(F+L) Cls Rep", False, True, 384, "lora"),
    ("Seg(F+L) Cls Rep", False, True, 384, "full"),
    ("Seg(C+L) Cls Rep", False, False, 384, "0.1B"),
    ("Seg(F+L) Cls Rep", False, False, 384, "0.1B"),
)
TABLE_4 = ("None Cls", "Seg(C) Cls", "Seg(C+L) Cls", "Seg(F+L) Cls")
WORDS = {"seg_c": "Seg(C)", "seg_cl": "Seg(C+L)", "seg_fl": "Seg(F+L)", "cls": "Cls", "rep": "Rep"}
CLASSES = {
    "ct_rate": {"seg_c": 15, "seg_cl": 29, "seg_fl": 48},
    "abdomen_atlas": {"seg_c": 12, "seg_cl": 15, "seg_fl": 41},
}


def of_row(dataset: str, row: str) -> str:
    (name,) = (n for n, rows in PAPER_ROWS.items() if n.startswith(f"{dataset}/") and row in rows)
    return name


def training(name: str) -> str:
    """As the paper writes it, by following the recipes that come before."""
    tasks = []
    recipe_name: str | None = name
    while recipe_name is not None:
        tasks.insert(0, WORDS[re.split(r"[/-]", recipe_name.split("+")[0])[-1]])
        recipe_name = earlier_recipe(recipe_name)
    return " ".join(tasks) if len(tasks) > 1 or tasks[0].startswith("Seg") else f"None {tasks[0]}"


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("row", range(1, 18))
def test_each_row_of_table_5_is_what_its_columns_say(dataset, row):
    path, skip, frozen, tokens, decoder = TABLE_5[row - 1]
    name = of_row(dataset, f"Table 5 row {row}")
    config: Any = recipe(name)
    assert training(name) == path
    expected = tuple((layer, 7 - layer) for layer in range(1, 7)) if skip else ()
    assert config.model.layer_stages == expected
    assert config.optim.encoder_lr == (0 if frozen else 0.1)
    assert config.model.num_visual_tokens == tokens
    if decoder == "0.1B":
        assert config.model.decoder == DecoderConfig()
    else:
        assert config.model.decoder == PretrainedConfig(tuning=decoder, rank=64, alpha=128)


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("row", range(1, 5))
def test_each_row_of_table_4_is_its_chain(dataset, row):
    name = of_row(dataset, f"Table 4 row {row}")
    config: Any = recipe(name)
    assert training(name) == TABLE_4[row - 1]
    assert (config.task, config.optim.encoder_lr) == ("classification", 0.1)
    assert len(config.model.classes) == {"ct_rate": 18, "abdomen_atlas": 3}[dataset]


def test_the_rows_of_tables_2_and_3():
    # Table 2: F1 .414 is row 9; Table 3: the means 62.4 and 55.3 are rows 8 and 9 of Table 5.
    assert PAPER_ROWS[of_row("ct_rate", "Table 2 U-VLM")][0] == "Table 5 row 9"
    for scope, row in (("C+L", 8), ("F+L", 9)):
        ours = of_row("abdomen_atlas", f"Table 3 U-VLM Seg({scope})")
        assert PAPER_ROWS[ours][0] == f"Table 5 row {row}"
        theirs = of_row("abdomen_atlas", f"Table 3 nnU-Net Seg({scope})")
        assert training(theirs) == f"Seg({scope})"


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_first_task_has_the_classes_of_its_masks(dataset):
    for step, count in CLASSES[dataset].items():
        config: Any = recipe(f"{dataset}/{step}")
        assert len(config.model.classes) == count
        assert config.data.patch == (96, 128, 128)


@pytest.mark.parametrize("name", PAPER_ROWS)
def test_the_recipe_before_another_exists(name):
    before = earlier_recipe(name)
    assert before is None or before in RECIPES


@pytest.mark.parametrize("name", [name for name in PAPER_ROWS if "authors" not in name])
def test_every_run_has_the_paper_s_common_values(name):
    config = recipe(name)
    assert config.data.batch_size == 2
    assert config.data.shape == (192, 256, 256)
    lr = 0.01 if config.task == "segmentation" else 2e-5
    assert (config.optim.lr, config.optim.name) == (lr, "sgd" if lr == 0.01 else "adamw")


def changes(before: Any, after: Any, where: str = "") -> set[str]:
    """Settings in which two configurations differ."""
    if type(before) is type(after) and is_dataclass(before):
        found: set[str] = set()
        for field in fields(before):
            inner = f"{where}.{field.name}".lstrip(".")
            found |= changes(getattr(before, field.name), getattr(after, field.name), inner)
        return found
    return set() if before == after else {where}


@pytest.mark.parametrize(
    ("variant", "changed"),
    [
        ("+sc", {"model.injection.layers"}),
        ("+vt3072", {"model.injection.reference_stage"}),
        ("+unfrozen", {"optim.encoder_lr"}),
        ("+q4b_lora", {"model.decoder", "loop.activation_checkpointing"}),
        ("+q4b_full", {"model.decoder", "loop.activation_checkpointing"}),
    ],
)
def test_a_variant_differs_from_its_base_in_one_thing(variant, changed):
    base = "abdomen_atlas/seg_cl-cls-rep"
    assert changes(recipe(base), recipe(base + variant)) == changed


def test_the_authors_runs_deviate_as_their_code_does():
    plain: Any = recipe("ct_rate/seg_c-cls-rep+authors")
    assert (plain.model.decoder.layers, plain.model.layer_stages) == (5, ())
    injected: Any = recipe("ct_rate/seg_c-cls-rep+sc+authors")
    assert injected.model.decoder.layers == 8
    assert injected.model.injection.place == "middle"
    for config in (plain, injected):
        assert (config.model.mask, config.model.decoder.rotary) == ("authors", "authors")
        assert config.loss.prompt
        assert config.data.batch_size == 1
        assert config.optim.encoder_lr == 0


def test_a_chain_needs_the_bundle_before_it():
    config = recipe("ct_rate/seg_fl-cls-rep+sc")
    with pytest.raises(ConfigError, match=r"Train ct_rate/seg_fl-cls first.*ct_rate/rep\."):
        check_start("ct_rate/seg_fl-cls-rep+sc", config)
    check_start("ct_rate/seg_fl", recipe("ct_rate/seg_fl"))
    check_start("ct_rate/cls", recipe("ct_rate/cls"))


def a_bundle(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *parts: str,
    masks: str = "",
    labels: str = "",
    region: str = "unknown",
) -> Path:
    """A folder that says it holds these parts, with the classes and labels of two recipes."""
    own: Any = SegmentationConfig(classes=("my organ",))
    models = {part: own for part in parts}
    if masks:
        models["segmentation"] = recipe(masks).model
    if labels:
        models["classification"] = recipe(labels).model
    told = {part: SimpleNamespace(config=models[part], region=region) for part in parts}
    info = SimpleNamespace(parts=told)
    monkeypatch.setattr("uvlm.models.bundle_files.read_bundle_info", lambda folder: info)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "parts", "answer"),
    [
        ("ct_rate/seg_cl-rep", ("segmentation", "classification"), "Give the bundle of .*/seg_cl"),
        ("ct_rate/cls-rep", ("segmentation",), "starts from a classification part"),
        ("ct_rate/seg_cl-cls", ("segmentation", "report"), "last part is report"),
        ("ct_rate/cls-rep", ("segmentation", "classification"), "first task was a segmentation"),
    ],
)
def test_the_bundle_of_another_task_is_refused(monkeypatch, tmp_path, name, parts, answer):
    init = a_bundle(monkeypatch, tmp_path, *parts)
    with pytest.raises(BundleError, match=answer):
        check_start(name, replace(recipe(name), init=init))


def test_the_right_bundle_is_taken(monkeypatch, tmp_path):
    init = a_bundle(monkeypatch, tmp_path, "segmentation", "classification")
    config = replace(recipe("ct_rate/seg_cl-cls-rep"), init=init, tokenizer=Path("tokenizer.json"))
    check_start("ct_rate/seg_cl-cls-rep", config)


@pytest.mark.parametrize("name", ["ct_rate/seg_fl-cls", "abdomen_atlas/seg_fl-cls-rep+sc"])
def test_the_bundle_of_another_row_is_refused(monkeypatch, tmp_path, name):
    dataset, parts = name.split("/")[0], ["segmentation", "classification"][: name.count("-")]
    config = replace(recipe(name), tokenizer=Path("tokenizer.json"), init=tmp_path)
    a_bundle(monkeypatch, tmp_path, *parts, masks=f"{dataset}/seg_fl")
    check_start(name, config)
    a_bundle(monkeypatch, tmp_path, *parts, masks=f"{dataset}/seg_c")
    with pytest.raises(
        BundleError, match=f"task was {dataset}/seg_c; .*bundle of {dataset}/seg_fl"
    ):
        check_start(name, config)


ABDOMEN_RUN = "abdomen_atlas/seg_cl-cls-rep+sc"
CHAIN = ("segmentation", "classification")


@pytest.mark.parametrize(
    ("told", "answer"),
    [
        ({"region": "chest"}, "trained on the chest; .* run on the abdomen"),
        ({"masks": "ct_rate/seg_fl"}, "first task was ct_rate/seg_fl; "),
        ({"labels": "ct_rate/cls"}, "labels of ct_rate; "),
    ],
)
def test_the_bundle_of_the_other_dataset_is_refused(monkeypatch, tmp_path, told, answer):
    init = a_bundle(monkeypatch, tmp_path, *CHAIN, **told)
    config = replace(recipe(ABDOMEN_RUN), init=init, tokenizer=Path("tokenizer.json"))
    with pytest.raises(BundleError, match=f"{answer}.*Give the bundle of abdomen_atlas/seg_cl-cls"):
        check_start(ABDOMEN_RUN, config)
    own = {"masks": "abdomen_atlas/seg_cl", "labels": "abdomen_atlas/cls", "region": "abdomen"}
    a_bundle(monkeypatch, tmp_path, *CHAIN, **own)
    check_start(ABDOMEN_RUN, config)


def test_an_encoder_alone_must_be_of_the_region(monkeypatch, tmp_path):
    name = "abdomen_atlas/seg_fl-cls"
    init = a_bundle(monkeypatch, tmp_path, "encoder", region="chest")
    with pytest.raises(BundleError, match="trained on the chest"):
        check_start(name, replace(recipe(name), init=init))


@pytest.mark.parametrize("name", ["abdomen_atlas/rep", "abdomen_atlas/cls", "abdomen_atlas/seg_c"])
def test_a_catalog_of_another_region_is_refused(tmp_path, name):
    (tmp_path / "chest").mkdir()
    chest, bare = make_catalog(tmp_path / "chest", studies=3), tmp_path / "catalog.csv"
    config = replace(recipe(name), tokenizer=Path("tokenizer.json"))
    of = {
        path: replace(config, data=replace(config.data, catalog=(path,))) for path in (chest, bare)
    }
    with pytest.raises(ConfigError, match=rf"{name} .* abdomen, the catalog {chest} .* chest"):
        check_start(name, of[chest])
    check_start(name, of[bare])  # what lies there is for the run to say
    ours = name.replace("abdomen_atlas", "ct_rate")
    check_start(ours, replace(of[chest], model=recipe(ours).model))


def test_an_encoder_that_does_not_say_what_it_learned_is_taken(monkeypatch, tmp_path):
    init = a_bundle(monkeypatch, tmp_path, "encoder")
    check_start("ct_rate/seg_fl-cls", replace(recipe("ct_rate/seg_fl-cls"), init=init))


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError, match="not a bundle"):
        check_start("ct_rate/seg_cl-cls", replace(recipe("ct_rate/seg_cl-cls"), init=tmp_path))


def test_the_paper_s_vocabulary_needs_its_tokenizer():
    config: Any = recipe("ct_rate/rep")
    with pytest.raises(ConfigError, match=r"--tokenizer.*--model\.decoder\.vocab-size 8192"):
        check_start("ct_rate/rep", config)
    check_start("ct_rate/rep", config, vocabulary=False)
    check_start("ct_rate/rep", replace(config, tokenizer=Path("tokenizer.json")))
    own = replace(config.model, decoder=DecoderConfig(vocab_size=8192))
    check_start("ct_rate/rep", replace(config, model=own))


def test_a_pretrained_decoder_needs_its_base(monkeypatch, tmp_path):
    name = "ct_rate/seg_fl-cls-rep+q4b_full"
    init = a_bundle(monkeypatch, tmp_path, "segmentation", "classification")
    config: Any = replace(recipe(name), init=init)
    with pytest.raises(ConfigError, match=r"--model\.decoder\.base"):
        check_start(name, config)
    decoder = replace(config.model.decoder, base=tmp_path)
    check_start(name, replace(config, model=replace(config.model, decoder=decoder)))


def test_variants_can_be_combined_in_either_order():
    both = paper.paper_run("ct_rate/seg_fl-cls-rep+sc+vt3072")
    assert both == paper.paper_run("ct_rate/seg_fl-cls-rep+vt3072+sc")
