"""The trainers over nnU-Net's folders: what a fold holds, what goes on, what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.data.toy_catalog import LABELS, make_catalog
from tests.models.tiny_base import tiny_base
from uvlm.errors import BundleError
from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.models.bundle import load_bundle
from uvlm.nnunet.plans import write_plan
from uvlm.nnunet.train import main
from uvlm.preprocessing.nnunet_plans import Case, dataset_of, plans_of

NAME = "Dataset145_Toy"
SMALL: dict[str, Any] = {
    "features_per_stage": [4, 8],
    "n_blocks_per_stage": [1, 1],
    "num_epochs": 2,
    "num_iterations_per_epoch": 2,
    "num_val_iterations_per_epoch": 1,
    "llm_embed_dim": 16,
    "num_heads": 2,
    "ffn_dim": 32,
    "num_layers": 2,
    "vocab_size": 300,
    "run": {"data.val_fraction": 0.3, "model.heads": 2},
}

Train = Callable[..., int]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """nnU-Net's own warnings are not ours to mend, and one thread is kept for other tests."""
    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="nnunetv2")
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    monkeypatch.setattr("uvlm.nnunet.train.os.cpu_count", lambda: 1)
    return tmp_path


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_catalog(tmp_path_factory.mktemp("studies"))


def planned(kind: str, catalog: Path, **changes: Any) -> str:
    """Name of a small plan."""
    run = {k: v for k, v in SMALL["run"].items() if kind == "cls" or "heads" not in k}
    if kind == "both":
        run["model.classification.heads"] = 2
    changes = SMALL | {"run": run} | changes
    return write_plan(kind, NAME, catalogs=[catalog], changes=changes).stem


def trained(plans: str, *words: str, trainer: str = "nnUNetTrainer_UVLM") -> int:
    return main([NAME, "3d_fullres", "0", "-tr", trainer, "-p", plans, "-device", "cpu", *words])


def fold(folders: Path, plans: str, trainer: str = "nnUNetTrainer_UVLM") -> Path:
    return folders / "results" / NAME / f"{trainer}__{plans}__3d_fullres" / "fold_0"


def test_a_fold_holds_checkpoints_bundle_and_validation(folders, catalog):
    plans = planned("cls", catalog)
    assert trained(plans) == 0
    out = fold(folders, plans)
    bundle = load_bundle(out / "bundle")
    assert bundle.parts["classification"].config.classes == LABELS
    expected = bundle.modules["classification"].state_dict()
    for name in ("checkpoint_best.pth", "checkpoint_final.pth"):
        content = torch.load(out / name, weights_only=True)
        assert content["trainer_name"] == "nnUNetTrainer_UVLM"
        assert content["init_args"] == {"configuration": "3d_fullres", "fold": 0}
        read = load_bundle(out / name).modules["classification"].state_dict()
        assert read.keys() == expected.keys()
        assert all(torch.equal(read[key], expected[key]) for key in read)
    for name in ("plans.json", "dataset.json"):
        assert (out.parent / name).is_file()
    summary = json.loads((out / "validation" / "summary.json").read_text())
    assert {"auroc", *(f"auroc/{label}" for label in LABELS)} <= summary.keys()
    log = next(out.glob("training_log_*.txt")).read_text()
    assert "step 4" in log
    assert "Bundle: " in log


def test_the_stages_follow_each_other_and_the_command_line_beats_the_plan(folders, catalog):
    cls, both = planned("cls", catalog), planned("both", catalog)
    assert trained(cls) == 0
    earlier = fold(folders, cls) / "checkpoint_best.pth"
    report = planned("report", catalog, mode="both")
    words = ("--mode", "only_report", "--pretrained_encoder_checkpoint_path", str(earlier))
    assert trained(report, *words) == 0
    bundle = load_bundle(fold(folders, report) / "checkpoint_best.pth")
    assert set(bundle.parts) == {"classification", "report"}
    given = load_bundle(earlier).modules["classification"].encoder.state_dict()
    frozen = bundle.modules["report"].encoder.state_dict()
    assert all(torch.equal(frozen[name], given[name]) for name in given)
    assert trained(both) == 0
    assert set(load_bundle(fold(folders, both) / "bundle").parts) == {"classification", "report"}
    assert {"auroc", "answer_ce"} <= json.loads(
        (fold(folders, both) / "validation/summary.json").read_text()
    ).keys()


def test_a_finished_fold_is_kept_and_can_be_validated_again(folders, catalog, capsys):
    plans = planned("cls", catalog)
    assert trained(plans, "--val") == 2
    assert "not finished" in capsys.readouterr().err
    assert trained(plans) == 0
    out = fold(folders, plans)
    before = (out / "checkpoint_best.pth").read_bytes()
    assert trained(plans) == 2
    assert "Continue with --c" in capsys.readouterr().err
    summary = out / "validation" / "summary.json"
    found = json.loads(summary.read_text())
    summary.unlink()
    assert trained(plans, "--val") == 0
    assert json.loads(summary.read_text()) == found
    assert trained(plans, "--c") == 0
    assert (out / "checkpoint_best.pth").read_bytes() == before
    path = folders / "preprocessed" / NAME / f"{plans}.json"
    path.write_text(path.read_text().replace('"model.heads": 2', '"model.heads": 4'))
    assert trained(plans, "--val") == 2  # the plan is another now
    assert "the run was started with" in capsys.readouterr().err


def test_continuing_gives_the_weights_of_a_run_that_was_never_stopped(
    folders, catalog, monkeypatch
):
    whole, stopped = planned("cls", catalog), None
    assert trained(whole) == 0
    stopped = write_plan("cls", NAME, catalogs=[catalog], changes=SMALL, name="Stopped").stem

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("uvlm.training.run.write_bundle", stop)
        assert trained(stopped) == 130
    assert not (fold(folders, stopped) / "bundle").exists()
    assert trained(stopped, "--c") == 0
    one, other = (load_bundle(fold(folders, each) / "bundle") for each in (whole, stopped))
    expected = one.modules["classification"].state_dict()
    found = other.modules["classification"].state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_pretrained_decoder_from_its_folder(folders, catalog, tmp_path):
    base = tiny_base(tmp_path / "base")
    plans = planned("report", catalog, llm_model_path=str(base), lora_r=2, lora_alpha=4)
    assert trained(plans, trainer="nnUNetTrainer_UVLM_Qwen3") == 0
    out = fold(folders, plans, "nnUNetTrainer_UVLM_Qwen3")
    bundle = load_bundle(out / "bundle", base=base)
    assert bundle.parts["report"].config.decoder.tuning == "lora"
    read = load_bundle(out / "checkpoint_best.pth", base=base).modules["report"].state_dict()
    expected = bundle.modules["report"].state_dict()
    assert read.keys() == expected.keys()
    assert all(torch.equal(read[key], expected[key]) for key in read)
    with pytest.raises(BundleError, match="--base FOLDER"):
        load_bundle(out / "checkpoint_best.pth")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-tr", "nnUNetTrainer_UVML"], "did you mean nnUNetTrainer_UVLM"),
        (["-p", "UVLMPlans"], "Give another with -p: UVLMPlans_chest_cls"),
        (["-tr", "nnUNetTrainer_ResEncoderUNet", "--mode", "both"], "not for nnUNetTrainer_ResE"),
        (["-device", "cuda"], "-device cpu"),
        (["--c", "--val"], "one of the two"),
        (["--pretrained_encoder_checkpoint_path", "absent.pth"], "absent.pth"),
    ],
)
def test_wrong_words_are_refused(folders, catalog, capsys, words, message):
    if "cuda" in words and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    plans = planned("cls", catalog)
    assert trained(plans, *words) == 2
    assert message in capsys.readouterr().err
    assert not (fold(folders, plans) / "run").exists()


@pytest.mark.parametrize("number", ["1", "all", "x"])
def test_other_folds_than_0_are_refused_for_labels_and_reports(folders, catalog, capsys, number):
    plans = planned("cls", catalog)
    assert main([NAME, "3d_fullres", number, "-p", plans, "-device", "cpu"]) == 2
    assert f"fold {number}" in capsys.readouterr().err.replace("'", "")


def test_a_wrong_key_in_the_plan_is_named_with_the_nearest(folders, catalog, capsys):
    plans = planned("cls", catalog)
    path = folders / "preprocessed" / NAME / f"{plans}.json"
    path.write_text(path.read_text().replace('"initial_lr"', '"inital_lr"'))
    assert trained(plans) == 2
    message = capsys.readouterr().err
    assert str(path) in message
    assert "did you mean 'initial_lr'" in message


def test_an_encoder_of_other_widths_is_refused(folders, catalog, capsys):
    plans = planned("cls", catalog)
    assert trained(plans) == 0
    wide = planned("report", catalog, features_per_stage=[8, 8])
    earlier = fold(folders, plans) / "checkpoint_best.pth"
    assert trained(wide, "--pretrained_encoder_checkpoint_path", str(earlier)) == 2
    assert "features is (4, 8) there, (8, 8) here" in capsys.readouterr().err


def test_a_batch_that_the_processes_do_not_divide_is_refused(folders, catalog, capsys, monkeypatch):
    plans = planned("cls", catalog)
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert trained(plans) == 2
    assert "batch_size 2 cannot be divided by 3 processes" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_share_the_plans_batch(folders, catalog):
    # AdamW would turn the rounding of gradients that are zero into steps of full length.
    changes = SMALL | {"optimizer_type": "SGD", "initial_lr": 1e-2}
    plans, shared = (
        write_plan("cls", NAME, catalogs=[catalog], changes=changes, name=name).stem
        for name in ("Alone", "Shared")
    )
    assert trained(plans) == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "uvlm.nnunet.train", NAME, "3d_fullres", "0"]
    done = subprocess.run(
        [*command, "-p", shared, "-device", "cpu"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (fold(folders, shared) / "validation/summary.json").is_file()
    one, two = (load_bundle(fold(folders, each) / "bundle") for each in (plans, shared))
    expected = one.modules["classification"].state_dict()
    for name, found in two.modules["classification"].state_dict().items():
        torch.testing.assert_close(found, expected[name], rtol=0, atol=1e-6)


def test_nnunets_prediction_and_pretrained_weights_are_refused_with_the_way_to_go():
    from uvlm.errors import ConfigError
    from uvlm.nnunet.trainers import nnUNetTrainer_UVLM

    with pytest.raises(ConfigError, match="uvlm report"):
        nnUNetTrainer_UVLM.build_network_architecture()
    with pytest.raises(ConfigError, match="pretrained_encoder_checkpoint_path"):
        nnUNetTrainer_UVLM.initialize(object.__new__(nnUNetTrainer_UVLM))


def test_checkpoints_of_nnunet_cannot_be_switched_off(folders, catalog):
    from uvlm.errors import ConfigError
    from uvlm.nnunet.trainers import nnUNetTrainer_UVLM

    path = folders / "preprocessed" / NAME / f"{planned('cls', catalog)}.json"
    plan, dataset = (
        json.loads(each.read_text()) for each in (path, path.with_name("dataset.json"))
    )
    trainer = nnUNetTrainer_UVLM(plan, "3d_fullres", 0, dataset, torch.device("cpu"))
    trainer.disable_checkpointing = True
    with pytest.raises(ConfigError, match="--disable_checkpointing is for segmentation"):
        trainer.run_training()


@pytest.mark.parametrize("name", ["nnUNetTrainer_ResEncoderUNet", "nnUNetTrainer_UVLM"])
def test_without_a_gpu_the_way_to_the_cpu_is_told(name, monkeypatch):
    from uvlm.errors import ConfigError
    from uvlm.nnunet.trainers import TRAINERS

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="add -device cpu"):
        TRAINERS[name]({}, "3d_fullres", 0, {}, torch.device("cuda"))


@pytest.mark.parametrize(
    ("turned", "kept"), [([0, 1, 2], (0, 1)), ([2, 0, 1], (1, 2)), ([1, 2, 0], (0, 2))]
)
def test_left_and_right_are_never_mirrored(folders, turned, kept):
    from uvlm.nnunet.trainers import nnUNetTrainer_ResEncoderUNet

    spec = PreprocessSpec(shape=(32, 64, 64))
    case = Case(series_id="a", shape=spec.shape, spacing=(1.5, 1, 1), foreground=(0, 50))
    plans = plans_of(NAME, [case], spec) | {"transpose_forward": turned, "continue_training": False}
    trainer = nnUNetTrainer_ResEncoderUNet(
        plans, "3d_fullres", 0, dataset_of({"organ": 1}, spec, 1), torch.device("cpu")
    )
    *_, axes = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    assert axes == trainer.inference_allowed_mirroring_axes == kept
