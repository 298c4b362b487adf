"""`uvlm_train DATASET CONFIGURATION FOLD`: the published training command, over the same trainers.

Accepts what the published commands write, and the options of `nnUNetv2_train` that mean something
here. Several GPUs: `accelerate launch -m uvlm.nnunet.train DATASET CONFIGURATION FOLD ...`.
"""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uvlm.errors import ConfigError, UvlmError

if TYPE_CHECKING:
    from uvlm.nnunet.settings import Mode

__all__ = ["main", "run"]

RESULTS = "nnUNet_results"
SEGMENTATION = "nnUNetTrainer_ResEncoderUNet"
MODES: tuple[Mode, ...] = ("only_cls", "only_report", "both")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="uvlm_train", description=__doc__)
    add = parser.add_argument
    add("dataset_name_or_id", metavar="DATASET", help="number, or DatasetNNN_NAME")
    add("configuration", metavar="CONFIGURATION", help="of the plan, as 3d_fullres")
    add("fold", metavar="FOLD", help="0; for the segmentation 0 to 4, or all")
    add("-tr", "--trainer_class_name", default="nnUNetTrainer_UVLM", metavar="TRAINER")
    add("-p", "--plans_identifier", default="nnUNetPlans", metavar="PLANS")
    add("--mode", choices=MODES, help="labels, reports or both (default: the plan's)")
    add(
        "--pretrained_encoder_checkpoint_path",
        type=Path,
        metavar="PATH",
        help="bundle or checkpoint of an earlier stage; its encoder is the start",
    )
    add("--c", action="store_true", help="continue the training")
    add("--val", action="store_true", help="only validate a finished training, options as then")
    add("--npz", action="store_true", help="segmentation: keep the probabilities of validation")
    add("-device", "--device", choices=("cuda", "cpu"), default="cuda")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code of the command; 2 for wrong input."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("uvlm").setLevel(logging.INFO)
    try:
        run(args)
    except UvlmError as error:
        sys.stderr.write(f"uvlm_train: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    return 0


def run(args: argparse.Namespace) -> None:
    """Train as the parsed options say, then validate.

    Raises:
        UvlmError: what the command was given cannot be used.
    """
    if args.c and args.val:
        raise ConfigError("--c continues a training, --val only validates; give one of the two.")
    if not os.environ.get(RESULTS):
        raise ConfigError(f"{RESULTS} is not set; export the folder results go to.")
    trainer = _trainer(args)
    if args.val and not (Path(trainer.output_folder) / "checkpoint_final.pth").is_file():
        raise ConfigError(f"{trainer.output_folder}: the training is not finished; drop --val.")
    if args.trainer_class_name == SEGMENTATION:  # the others find their own checkpoints
        from nnunetv2.run.run_training import maybe_load_checkpoint

        maybe_load_checkpoint(trainer, args.c, args.val)
    if not args.val:
        trainer.run_training()
    trainer.perform_actual_validation(args.npz)


def _trainer(args: argparse.Namespace) -> Any:
    """The trainer, with the options in its plan."""
    import torch

    from uvlm.nnunet.dataset import dataset_folder, read_json
    from uvlm.nnunet.trainers import TRAINERS

    name = args.trainer_class_name
    if name not in TRAINERS:
        near = difflib.get_close_matches(name, TRAINERS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(TRAINERS)}."
        raise ConfigError(f"unknown trainer {name!r}; {hint}")
    folder = dataset_folder(args.dataset_name_or_id)
    known = ", ".join(sorted(path.stem for path in folder.glob("*Plans*.json")))
    plans = read_json(
        folder / f"{args.plans_identifier}.json",
        f"Give another with -p: {known}." if known else "Write one with `uvlm nnunet plans`.",
    )
    dataset = read_json(folder / "dataset.json", "Prepare the dataset first.")
    _check_configuration(plans, args.configuration, folder / f"{args.plans_identifier}.json")
    changes = _changes(args)
    if changes and name == SEGMENTATION:
        raise ConfigError(
            f"--mode and --pretrained_encoder_checkpoint_path are for labels and reports, not for "
            f"{SEGMENTATION}; drop them."
        )
    architecture = plans["configurations"][args.configuration].get("architecture")
    if architecture is not None:
        architecture["arch_kwargs"] |= changes
    plans["continue_training"] = args.c
    if args.device == "cpu":
        torch.set_num_threads(os.cpu_count() or 1)
    return TRAINERS[name](
        plans=plans,
        configuration=args.configuration,
        fold=_fold(args.fold),
        dataset_json=dataset,
        device=torch.device(args.device),
    )


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if args.mode is not None:
        changes["mode"] = args.mode
    if args.pretrained_encoder_checkpoint_path is not None:
        path = args.pretrained_encoder_checkpoint_path
        changes["pretrained_encoder_checkpoint_path"] = os.path.abspath(path)
    return changes


def _check_configuration(plans: dict[str, Any], name: str, path: Path) -> None:
    known = plans.get("configurations")
    if not isinstance(known, dict) or name not in known:
        names = ", ".join(known) if isinstance(known, dict) else "none"
        raise ConfigError.about(path, f"it has no configuration {name!r}", f"It has: {names}.")


def _fold(text: str) -> int | str:
    if text == "all" or text.isdecimal():
        return text if text == "all" else int(text)
    raise ConfigError(f"fold {text!r} is no number, nor `all`.")


if __name__ == "__main__":
    sys.exit(main())
