"""One generator for every plan: body region, and what is learned there.

A plan for segmentation is nnU-Net's own for the dataset with the paper's network in it, so that
its data, prepared by nnU-Net or by `uvlm prepare`, are used as they are. A plan for labels and
reports names catalogs, and `dataset.json` beside it is written if there is none. No torch import.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args

from uvlm.config import to_dict
from uvlm.errors import CatalogError, ConfigError, InputError
from uvlm.nnunet.dataset import dataset_folder, read_json, write_new
from uvlm.nnunet.residual import residual_plan
from uvlm.nnunet.run_config import Place, run_config
from uvlm.nnunet.settings import PlanSettings, read_settings
from uvlm.preprocessing.catalog import Catalog, read_catalog
from uvlm.preprocessing.nnunet_plans import (
    CONFIGURATION,
    NETWORK,
    network_for,
    residual_unet,
)
from uvlm.preprocessing.sources import abdomen_classes, rexgrounding_classes

__all__ = ["Kind", "write_plan"]

Grid = tuple[int, int, int]
Kind = Literal[
    "seg", "seg_coarse", "seg_coarse_lesions", "seg_fine_lesions", "cls", "report", "both"
]
MODES: dict[str, str] = {"cls": "only_cls", "report": "only_report", "both": "both"}
UVLM = "uvlm.models.uvlm"
"""Stands where plans name the network's class; nnU-Net itself never builds it."""

BATCH = 2
DESCRIBED: dict[str, Any] = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0},
    "numTraining": 0,
    "file_ending": ".nii.gz",
}
"""What nnU-Net asks of `dataset.json`, where catalogs say what is learned."""


def write_plan(
    kind: str,
    dataset: str,
    *,
    catalogs: Sequence[Path] = (),
    region: str | None = None,
    base: str = "nnUNetPlans",
    name: str | None = None,
    patch: Grid | None = None,
    batch_size: int = BATCH,
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """Write the plan and return its path.

    Args:
        kind: one of `Kind`
        dataset: name of the folder in nnUNet_preprocessed
        catalogs: for labels and reports
        region: needed where no catalog says it
        base: plan of the same dataset that a segmentation starts from
        name: of the plan; by default made of region and kind
        patch: voxels (z, y, x) of a segmentation's patches
        batch_size: studies per step over all processes
        changes: further keys of network_arch_init_kwargs

    Raises:
        ConfigError: the kind, a key or the region is unknown, a value is impossible, or the
            network does not fit.
        InputError: the plan exists with other content, or the base plan is missing.
        CatalogError: the catalogs are faulty or disagree, or lack what is to be learned.
    """
    if kind not in get_args(Kind):
        raise ConfigError(f"unknown kind {kind!r}; known: {', '.join(get_args(Kind))}.")
    folder = dataset_folder(dataset)
    read = [read_catalog(path) for path in catalogs]
    region = _region(read, region)
    name = name or f"UVLMPlans_{region}_{kind}"
    if not re.fullmatch(r"\w[\w.+-]*", name, re.ASCII):
        raise ConfigError(f"--name {name!r}: a plan's name has letters, digits and _ . + - only.")
    if batch_size < 1:
        raise ConfigError(f"--batch-size must be at least 1, got {batch_size}.")
    path = folder / f"{name}.json"
    own = {"region": region}
    if kind in MODES:
        if patch is not None:
            raise ConfigError("--patch is for segmentation; labels and reports take whole volumes.")
        plan = _prepared_plan(kind, path, own, read, changes or {})
    else:
        if name == base:
            raise ConfigError(f"--name {name} would replace the plan it starts from.")
        plan = _segmentation_plan(kind, path, base, own, patch, changes or {})
    plan["configurations"][CONFIGURATION]["batch_size"] = batch_size
    plan |= {"dataset_name": folder.name, "plans_name": name}
    _check(plan, path, trained_here=kind in MODES)
    folder.mkdir(parents=True, exist_ok=True)
    write_new(path, plan)
    if kind in MODES and not (folder / "dataset.json").exists():
        write_new(folder / "dataset.json", DESCRIBED)
    return path


def _check(plan: Mapping[str, Any], path: Path, *, trained_here: bool) -> None:
    """Refuse now what the trainer would refuse."""
    if not trained_here:
        residual_plan(plan, CONFIGURATION)
        return
    configuration = plan["configurations"][CONFIGURATION]
    settings = read_settings(configuration["architecture"]["arch_kwargs"], path)
    place = Place(
        plan=path,
        shape=tuple(configuration["patch_size"]),
        batch_size=configuration["batch_size"],
        processes=1,
        device="cpu",
        out=path.parent,
        pretrained=settings.llm_model_path is not None,
    )
    run_config(settings, place)


def _architecture(
    name: str, stages: int, own: Mapping[str, Any], changes: Mapping[str, Any], path: Path
) -> dict[str, Any]:
    """Of the paper's network; `changes` come last, `path` is for messages."""
    features, asked = changes.get("features_per_stage"), changes.get("n_stages")
    if isinstance(features, list):
        stages = len(features)
    elif isinstance(asked, int):
        stages = asked
    paper = residual_unet(stages)
    kwargs = to_dict(paper["arch_kwargs"] | dict(own) | dict(changes))
    read_settings(kwargs, path)
    return paper | {"network_class_name": name, "arch_kwargs": kwargs}


def _region(catalogs: Sequence[Catalog], region: str | None) -> str:
    said = {catalog.region for catalog in catalogs} | ({region} if region else set())
    if len(said) > 1:
        raise ConfigError(f"several body regions: {', '.join(sorted(said))}; train one at a time.")
    if not said:
        raise ConfigError("no body region; give --region, or a --catalog that says it.")
    return said.pop()


def _segmentation_plan(
    kind: str,
    path: Path,
    base: str,
    own: Mapping[str, str],
    patch: Grid | None,
    changes: Mapping[str, Any],
) -> dict[str, Any]:
    folder = path.parent
    plan = read_json(folder / f"{base}.json", "Run nnUNetv2_plan_and_preprocess or uvlm prepare.")
    described = read_json(folder / "dataset.json", "Prepare the dataset first.")
    _check_classes(kind, own["region"], described, folder)
    if CONFIGURATION not in plan.get("configurations", {}):
        raise InputError.about(
            folder / f"{base}.json", f"no configuration {CONFIGURATION}", "Plan the dataset in 3D."
        )
    kept = plan["configurations"][CONFIGURATION]
    if plan["transpose_forward"] != [0, 1, 2]:
        raise InputError.about(
            folder / f"{base}.json",
            f"it turns volumes ({plan['transpose_forward']}), so left and right cannot be told",
            "Give nnU-Net images whose slices are axial.",
        )
    size = tuple(int(n) for n in kept["median_image_size_in_voxels"])
    paper_patch, stages = network_for(patch or size)  # type: ignore[arg-type]
    kept["architecture"] = _architecture(NETWORK, stages, own, changes, path)
    deepest = 2 ** (kept["architecture"]["arch_kwargs"]["n_stages"] - 1)
    kept["patch_size"] = [n // deepest * deepest for n in patch or paper_patch]
    if min(kept["patch_size"]) < 1:
        raise ConfigError(f"the patch {patch} is too small for {stages} stages; give a larger one.")
    plan["configurations"] = {CONFIGURATION: kept}
    return plan


def _check_classes(kind: str, region: str, described: Mapping[str, Any], folder: Path) -> None:
    scope = kind.removeprefix("seg").lstrip("_").replace("_", "+")
    if not scope:
        return
    if region == "abdomen":
        wanted: Mapping[str, int] = abdomen_classes.SCOPES[scope].classes
    else:
        wanted = rexgrounding_classes.scope_named(scope).classes
    found = {name: value for name, value in described["labels"].items() if value != 0}
    if found != dict(wanted):
        raise InputError.about(
            folder / "dataset.json",
            f"its {len(found)} classes are not the {len(wanted)} of {region} {scope}",
            f"Prepare it with --scopes {scope}, or use the kind seg for classes of your own.",
        )


def _prepared_plan(
    kind: str,
    path: Path,
    own: Mapping[str, Any],
    catalogs: Sequence[Catalog],
    changes: Mapping[str, Any],
) -> dict[str, Any]:
    if not catalogs:
        raise ConfigError(f"a plan for {kind} needs --catalog, written by `uvlm prepare`.")
    first = catalogs[0]
    for catalog in catalogs:
        if catalog.spec is None or catalog.spec != first.spec:
            found = "its preprocessing is unknown or differs from the first's"
            raise CatalogError.about(catalog.path, found, "Prepare the datasets alike.")
    assert first.spec is not None
    shape = first.spec.shape
    _, stages = network_for(shape)
    own = {
        **own,
        "mode": MODES[kind],
        "csv_paths": [os.path.abspath(catalog.path) for catalog in catalogs],
        "cls_columns": list(first.labels) if kind != "report" else [],
        "report_column": "report",
    }
    shown = ("llm_embed_dim", "num_heads", "num_layers", "initial_lr", "encoder_lr_multiplier")
    defaults = {each.name: each.default for each in fields(PlanSettings)}
    own |= {name: defaults[name] for name in shown}
    own["freeze_encoder"] = kind == "report"
    resampling: dict[str, Any] = {"order": 3, "order_z": 0, "force_separate_z": None}
    configuration: dict[str, Any] = {
        "data_identifier": "uvlm_store",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": BATCH,
        "patch_size": list(shape),
        "median_image_size_in_voxels": list(shape),
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["NoNormalization"],
        "use_mask_for_norm": [False],
        "batch_dice": False,
        "architecture": _architecture(UVLM, stages, own, changes, path),
    }
    for what in ("data", "seg", "probabilities"):
        configuration[f"resampling_fn_{what}"] = "resample_data_or_seg_to_shape"
        configuration[f"resampling_fn_{what}_kwargs"] = {"is_seg": what == "seg"} | resampling
    return {
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": list(shape),
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {CONFIGURATION: configuration},
        "experiment_planner_used": "uvlm nnunet plans",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {},
    }
