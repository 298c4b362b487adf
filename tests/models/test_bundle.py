"""A bundle comes back as it was written, or is refused with the name of the file at fault."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from tests.inference.bundle_factory import tiny_bundle
from tests.models.tiny import ENCODER, REPORT, SHAPE, random_tokens
from tests.models.tiny_packed import PACKED, sliced
from uvlm.errors import BundleError, ConfigError
from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.models.bundle import Part, load_bundle, read_bundle_info, save_bundle
from uvlm.models.bundle_files import Split, write_checksums
from uvlm.models.config import ClassificationConfig, EncoderConfig, SegmentationConfig
from uvlm.models.markers import with_markers
from uvlm.models.unet import SegmentationModel
from uvlm.models.uvlm import ClassificationModel, ReportModel
from uvlm.registry import DISCLAIMER
from uvlm.text.tokenizer import Tokenizer, train_tokenizer

SPEC = PreprocessSpec(shape=SHAPE)
PROMPT = "Write the report of <image>, briefly: café."
TOKENIZER = train_tokenizer(["The lungs are clear."], vocab_size=300)
SEGMENTATION = SegmentationConfig(encoder=ENCODER, classes=("lung", "heart"))
CLASSIFICATION = ClassificationConfig(encoder=ENCODER, classes=("Nodule", "Effusion"), heads=2)
REPORT_CONFIG = replace(
    REPORT,
    decoder=replace(REPORT.decoder, vocab_size=TOKENIZER.vocab_size),
    vision_start_id=TOKENIZER.vision_start_id,
    vision_end_id=TOKENIZER.vision_end_id,
)
FILES = [
    "checksums.json",
    "config.json",
    "labels.json",
    "model.safetensors",
    "model_card.md",
    "preprocess.json",
    "tokenizer.json",
]


def make_part(task: str, config: object, **fields: object) -> Part:
    defaults = {"spec": SPEC, "region": "chest", "trained_on": f"300 studies ({task})"}
    return Part(task=task, config=config, **(defaults | fields))  # type: ignore[arg-type]


@pytest.fixture
def parts() -> dict[str, Part]:
    return {
        "segmentation": make_part(
            "segmentation", SEGMENTATION, patch=(8, 16, 16), split=Split(val_fraction=0.2)
        ),
        "classification": make_part(
            "classification", CLASSIFICATION, metrics={"auroc": 0.75, "f1": float("nan")}
        ),
        "report": make_part("report", REPORT_CONFIG),
    }


@pytest.mark.parametrize("markers", ["both", "bos", "none"])
def test_a_packed_report_over_towers_comes_back(tmp_path: Path, markers: str) -> None:
    asked = replace(PACKED, markers=markers)  # type: ignore[arg-type]
    asked = replace(asked, decoder=REPORT_CONFIG.decoder)
    config = with_markers(asked, TOKENIZER)
    torch.manual_seed(0)
    made = ReportModel(config).eval()
    spec = PreprocessSpec(shape=config.shape)
    part = make_part("report", config, spec=spec)
    folder = save_bundle(tmp_path / "b", {"report": part}, {"report": made}, TOKENIZER, PROMPT)
    found = load_bundle(folder)
    assert found.parts["report"].config == config
    x, tokens = sliced(), random_tokens(config)
    with torch.no_grad():
        assert torch.equal(found.modules["report"](x, tokens), made(x, tokens))


@pytest.fixture
def modules() -> dict[str, nn.Module]:
    """Classification trained the encoder on; the report kept it frozen."""
    torch.manual_seed(0)
    made = {
        "segmentation": SegmentationModel(SEGMENTATION),
        "classification": ClassificationModel(CLASSIFICATION),
        "report": ReportModel(REPORT_CONFIG),
    }
    made["report"].encoder.load_state_dict(made["classification"].encoder.state_dict())
    return made


@pytest.fixture
def folder(tmp_path: Path, parts: dict[str, Part], modules: dict[str, nn.Module]) -> Path:
    return save_bundle(tmp_path / "bundle", parts, modules, TOKENIZER, PROMPT)


def test_it_holds_the_documented_files_and_nothing_else(folder: Path) -> None:
    assert sorted(file.name for file in folder.iterdir()) == FILES
    assert list(folder.parent.iterdir()) == [folder]


def test_everything_comes_back(
    folder: Path, parts: dict[str, Part], modules: dict[str, nn.Module]
) -> None:
    bundle = load_bundle(folder)
    assert list(bundle.parts) == ["segmentation", "classification", "report"]
    assert bundle.parts["segmentation"] == parts["segmentation"]
    assert bundle.parts["report"] == parts["report"]
    assert bundle.parts["classification"].metrics == {"auroc": 0.75, "f1": None}
    assert bundle.prompt == PROMPT
    assert bundle.tokenizer is not None
    assert bundle.tokenizer.encode("The lungs") == TOKENIZER.encode("The lungs")
    for name, module in modules.items():
        loaded = bundle.modules[name]
        assert not loaded.training
        state = loaded.state_dict()
        assert list(state) == list(module.state_dict())
        assert all(torch.equal(state[key], value) for key, value in module.state_dict().items())


def test_parts_written_before_splits_were_recorded_load(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    for part in config["parts"].values():
        del part["split"]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "checksums.json").unlink()
    write_checksums(folder)
    assert [part.split for part in load_bundle(folder).parts.values()] == [None] * 3


def test_loaded_models_compute_the_same(folder: Path, modules: dict[str, nn.Module]) -> None:
    loaded = load_bundle(folder).modules["report"]
    x, tokens = torch.randn(1, 1, *SHAPE), random_tokens(REPORT_CONFIG, batch=1)
    assert torch.equal(loaded(x, tokens), modules["report"].eval()(x, tokens))


def test_equal_encoders_are_stored_once_and_loaded_as_one_module(folder: Path) -> None:
    with safe_open(str(folder / "model.safetensors"), framework="pt") as file:
        stored = set(file.keys())
    assert not any(key.startswith("report.encoder.") for key in stored)
    assert any(key.startswith("report.decoder.") for key in stored)
    modules = load_bundle(folder).modules
    assert modules["report"].encoder is modules["classification"].encoder
    assert modules["segmentation"].encoder is not modules["classification"].encoder


def test_encoders_of_equal_weights_and_other_strides_stay_apart(
    tmp_path: Path, parts: dict[str, Part], modules: dict[str, nn.Module]
) -> None:
    encoder: EncoderConfig = replace(ENCODER, strides=(2, 2, 2, 1))
    config = replace(CLASSIFICATION, encoder=encoder)
    other = ClassificationModel(config)
    other.load_state_dict(modules["classification"].state_dict())
    modules["classification"] = other
    parts["classification"] = replace(parts["classification"], config=config)
    loaded = load_bundle(save_bundle(tmp_path / "b", parts, modules, TOKENIZER)).modules
    assert loaded["report"].encoder is not loaded["classification"].encoder


def test_equal_weights_give_equal_fingerprints(
    tmp_path: Path, folder: Path, parts: dict[str, Part], modules: dict[str, nn.Module]
) -> None:
    before = load_bundle(folder).fingerprint
    again = save_bundle(tmp_path / "again", parts, modules, TOKENIZER, PROMPT)
    assert load_bundle(again).fingerprint == before
    modules["report"].decoder.norm.bias.data += 1
    changed = save_bundle(tmp_path / "changed", parts, modules, TOKENIZER, PROMPT)
    assert load_bundle(changed).fingerprint != before


def test_a_part_of_an_earlier_bundle_goes_into_the_next(
    tmp_path: Path, folder: Path, parts: dict[str, Part]
) -> None:
    earlier = load_bundle(folder)
    kept = {"segmentation": earlier.parts["segmentation"]}
    save_bundle(tmp_path / "next", kept, {"segmentation": earlier.modules["segmentation"]})
    loaded = load_bundle(tmp_path / "next")
    assert loaded.parts == {"segmentation": parts["segmentation"]}
    assert (loaded.tokenizer, loaded.prompt) == (None, None)


def test_labels_say_which_output_is_which(folder: Path) -> None:
    assert json.loads((folder / "labels.json").read_text()) == {
        "segmentation": {"lung": 1, "heart": 2},
        "classification": {"Nodule": 0, "Effusion": 1},
        "report": {},
    }


def test_the_card_says_what_it_is_for(folder: Path) -> None:
    card = (folder / "model_card.md").read_text()
    expected = [DISCLAIMER, "chest", "300 studies (report)", "| Nodule | 0 |", "| auroc | 0.75 |"]
    assert [text for text in [*expected, SPEC.hash, "8x16x16"] if text not in card] == []


def test_an_existing_folder_is_never_overwritten(
    folder: Path, parts: dict[str, Part], modules: dict[str, nn.Module]
) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(BundleError, match="exists already"):
        save_bundle(folder, parts, modules, TOKENIZER)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_failed_save_leaves_nothing(
    tmp_path: Path, parts: dict[str, Part], modules: dict[str, nn.Module]
) -> None:
    parts["report"] = replace(parts["report"], metrics={"loss": object()})
    with pytest.raises(TypeError):
        save_bundle(tmp_path / "bundle", parts, modules, TOKENIZER)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: the file is missing"):
        load_bundle(folder)


@pytest.mark.parametrize("name", [name for name in FILES if name != "checksums.json"])
def test_an_altered_file_is_named(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name}: the file was altered"):
        load_bundle(folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"../x": "0"}', "{}"])
def test_unusable_checksums_are_refused(folder: Path, text: str) -> None:
    (folder / "checksums.json").write_text(text)
    with pytest.raises(BundleError, match=r"checksums\.json"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("make", "found"),
    [(Path.mkdir, "it is not a bundle"), (Path.touch, "it is a file"), (None, "no such folder")],
)
def test_what_is_not_a_bundle_is_refused(tmp_path: Path, make: object, found: str) -> None:
    if callable(make):
        make(tmp_path / "thing")
    with pytest.raises(BundleError, match=f"thing: {found}"):
        load_bundle(tmp_path / "thing")


def test_the_folder_of_a_run_is_answered_with_the_bundle_in_it(folder: Path) -> None:
    with pytest.raises(BundleError, match="a training run, not a bundle") as error:
        load_bundle(folder.parent)
    assert str(error.value).endswith(f"Give {folder}.")


@pytest.mark.parametrize("damage", ["cut", "noise", "foreign"])
def test_weights_that_only_the_checksum_vouches_for_are_refused(folder: Path, damage: str) -> None:
    weights = folder / "model.safetensors"
    content = {"cut": weights.read_bytes()[:2000], "noise": bytes(range(256)) * 8}
    if damage == "foreign":
        save_file({"report.decoder.weight": torch.zeros(2)}, str(weights))
    else:
        weights.write_bytes(content[damage])
    (folder / "checksums.json").unlink()
    write_checksums(folder)
    with pytest.raises(BundleError, match="do not fit together"):
        load_bundle(folder)


def resealed(folder: Path, name: str, old: str, new: str) -> Path:
    """The bundle with one text replaced and its checksums made to fit, as a later version's."""
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))
    (folder / "checksums.json").unlink()
    write_checksums(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("config.json", '"format": 1', '"format": 2', "format is 2, this version reads 1"),
        ("config.json", '"padding"', '"paddings"', "unknown key 'paddings'"),
        ("config.json", '"region"', '"regions"', "region"),
        ("preprocess.json", '"antialias"', '"aliasing"', "unknown key 'aliasing'"),
        ("config.json", '"vision_end_id": 4', '"vision_end_id": 5', "do not fit together"),
        ("config.json", '"ffn": 32', '"ffn": 40', "do not fit together"),
        ("config.json", '"region": "chest"', '"region": 3', "region: expected str, got 3"),
        ("config.json", '"patch": [', '"patch": ["a", ', "patch: expected 3 values, got 4"),
    ],
)
def test_a_bundle_of_another_version_is_refused(
    folder: Path, name: str, old: str, new: str, message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        load_bundle(resealed(folder, name, old, new))


def test_the_quick_look_needs_no_torch_and_no_weights(folder: Path) -> None:
    code = (
        "import sys; from uvlm.models.bundle_files import read_bundle_info\n"
        f"info = read_bundle_info({str(folder)!r})\n"
        "print(list(info.parts), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['segmentation', 'classification', 'report'] False"
    assert read_bundle_info(folder).fingerprint == load_bundle(folder).fingerprint


def test_parts_that_do_not_fit_are_refused_before_anything_is_written(
    tmp_path: Path, parts: dict[str, Part], modules: dict[str, nn.Module]
) -> None:
    def save(p: dict[str, Part], m: dict[str, nn.Module], t: Tokenizer | None = TOKENIZER) -> None:
        save_bundle(tmp_path / "bundle", p, m, t)

    with pytest.raises(ConfigError, match="must be the same"):
        save({"report": parts["report"]}, modules)
    with pytest.raises(ConfigError, match="needs its tokenizer"):
        save(parts, modules, None)
    smaller = replace(parts["report"], config=REPORT)
    with pytest.raises(ConfigError, match="report model 50"):
        save({"report": smaller}, {"report": ReportModel(REPORT)})
    with pytest.raises(ConfigError, match="with a ReportModel"):
        save({"classification": parts["classification"]}, {"classification": modules["report"]})
    assert list(tmp_path.iterdir()) == []


def test_a_part_with_another_tasks_configuration_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a ReportConfig, got SegmentationConfig"):
        make_part("report", SEGMENTATION)
    with pytest.raises(ConfigError, match="unknown part 'detection'"):
        make_part("detection", SEGMENTATION)
    with pytest.raises(ConfigError, match="give both one shape"):
        make_part("report", REPORT, spec=PreprocessSpec(shape=(32, 32, 32)))


def test_what_is_no_part_comes_back_and_is_covered_by_the_checksums(tmp_path):
    first = load_bundle(tiny_bundle(tmp_path / "first"))
    extras = {"draft": {"tokens": torch.arange(5)}, "typical": {"mean": torch.rand(3)}}
    folder = save_bundle(
        tmp_path / "second", first.parts, first.modules, first.tokenizer, first.prompt, extras
    )
    found = load_bundle(folder).extras
    assert found.keys() == extras.keys()
    assert torch.equal(found["draft"]["tokens"], extras["draft"]["tokens"])
    assert first.extras == {}
    (folder / "draft.safetensors").write_bytes(b"altered")
    with pytest.raises(BundleError, match=r"draft\.safetensors"):
        load_bundle(folder)


def test_training_reports_belong_to_the_report_part_and_can_be_left_out(tmp_path):
    first = load_bundle(tiny_bundle(tmp_path / "first"))
    given = {"draft": {"tokens": torch.arange(5)}, "typical": {"mean": torch.rand(3)}}
    kept = (first.parts, first.modules, first.tokenizer, first.prompt)
    folder = save_bundle(tmp_path / "second", *kept, given)
    assert load_bundle(folder, task="report").extras.keys() == given.keys()
    assert load_bundle(folder, task="classification").extras.keys() == {"typical"}
    bundle = load_bundle(folder)
    kept = (bundle.parts, bundle.modules, bundle.tokenizer, bundle.prompt)
    extras = {name: tensors for name, tensors in bundle.extras.items() if name != "draft"}
    without = save_bundle(tmp_path / "without", *kept, extras)
    assert load_bundle(without).extras.keys() == {"typical"}
    said = "contains the training reports in full, readable"
    assert said in (folder / "model_card.md").read_text()
    assert said not in (without / "model_card.md").read_text()
    assert (without / "model.safetensors").read_bytes() == (
        folder / "model.safetensors"
    ).read_bytes()
