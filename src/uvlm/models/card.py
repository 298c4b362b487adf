"""The model card: what a person must know before using a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uvlm.models.bundle_files import Part, adapted
from uvlm.models.config import PretrainedConfig, ReportConfig
from uvlm.models.tower_config import SliceEncoderConfig
from uvlm.registry import DISCLAIMER

__all__ = ["model_card"]


def model_card(parts: Mapping[str, Part], *, reports_inside: bool = False) -> str:
    """Markdown: purpose, limits, and per part its data, preprocessing, labels and metrics.

    Args:
        reports_inside: the bundle holds the draft, which is the training reports
    """
    regions = ", ".join(dict.fromkeys(part.region for part in parts.values()))
    lines = [
        f"# CT model: {', '.join(parts)}",
        "",
        f"**{DISCLAIMER}**",
        "",
        f"For CT of the {regions}. Studies of another region, or prepared in another way than "
        "stated below, give results without meaning.",
        "",
        "Load it with `uvlm.load(FOLDER)`, or give the folder to `uvlm report --model`.",
    ]
    if reports_inside:
        lines += [
            "",
            "**This bundle contains the training reports in full, readable, in "
            "`draft.safetensors`.** Give it to nobody who may not read them. Training with "
            "`--no-draft` leaves them out.",
        ]
    for part in parts.values():
        lines += ["", f"## {part.task.capitalize()}", "", *_rows(part)]
        lines += _table("Label", "Output", part.labels)
        lines += _table("Metric", "Value", part.metrics)
    return "\n".join(lines) + "\n"


def _rows(part: Part) -> list[str]:
    if isinstance(part.config, SliceEncoderConfig):
        return _slices(part, part.config)
    shape = part.patch or (part.spec.shape if part.spec else None)
    voxels = f" of {'x'.join(map(str, shape))} voxels (z, y, x)" if shape else ""
    kind = "patches" if part.patch else "volumes"
    how = f"preprocessing `{part.spec.hash}`" if part.spec else "prepared by nnU-Net"
    return [
        f"- Trained on: {part.trained_on}",
        f"- Region: {part.region}",
        f"- Input: {kind}{voxels}, {how}",
        *_calibration(part),
        *_language_model(part),
    ]


def _slices(part: Part, config: SliceEncoderConfig) -> list[str]:
    low, high = config.window
    return [
        "- A 2D encoder, as it was given; its licence applies",
        f"- Input: {config.slices} axial slices of {config.size}x{config.size} pixels, {low:g} to "
        f"{high:g} HU, cut from the volume of the report",
        f"- Trained: {part.trained_on}",
    ]


def _calibration(part: Part) -> list[str]:
    if part.calibration is None:
        return []
    found = part.calibration
    return [
        f"- Probabilities: calibrated on {found.studies} validation studies, temperature "
        f"{found.temperature:.3f}"
    ]


def _language_model(part: Part) -> list[str]:
    decoder = part.config.decoder if isinstance(part.config, ReportConfig) else None
    if not isinstance(decoder, PretrainedConfig):
        return []
    name = decoder.base.name if decoder.base else decoder.hf.get("model_type")
    held = (
        "adapters of it are here; give its folder with --base" if adapted(part.config) else "tuned"
    )
    return [
        f"- Language model: {name}, fingerprint `{decoder.fingerprint}` ({held}); its licence "
        "applies"
    ]


def _table(left: str, right: str, values: Mapping[str, Any]) -> list[str]:
    if not values:
        return []
    rows = [f"| {name} | {_shown(value)} |" for name, value in values.items()]
    return ["", f"| {left} | {right} |", "| --- | --- |", *rows]


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
