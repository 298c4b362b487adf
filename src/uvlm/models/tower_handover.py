"""Hand what contrastive pretraining made to the tasks that follow: stage 1 to stage 2, both to the
towers of a report model."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from uvlm.errors import BundleError
from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.models.bundle import Bundle
from uvlm.models.contrastive import ContrastiveModel
from uvlm.models.handover import Handover, load_encoder, recorded
from uvlm.models.tower_config import TowersConfig, ViTConfig

__all__ = ["GATE", "TOWER_PARTS", "take_over"]

GATE = "encoder.gate."
"""What stage 2 has and stage 1 has not."""

TOWER_PARTS: dict[str, str] = {"volume": "contrastive", "slices": "contrastive_2e3"}
"""Tower of a report model -> part of a bundle whose encoder it takes."""


def take_over(target: nn.Module, bundle: Bundle, spec: PreprocessSpec | None) -> Handover:
    """Give `target` what it begins with: stage 2 the whole of stage 1 but for its gate, the towers
    of a report model the encoders of both, any other model the encoder trained last.

    Args:
        spec: preprocessing of the run that begins; a difference is warned of and recorded

    Raises:
        BundleError: the bundle lacks a part, or it differs in a setting or size.
    """
    model: Any = target
    config = model.config.encoder
    if isinstance(target, ContrastiveModel) and isinstance(config, ViTConfig) and config.gated:
        given = _stage_1(target, bundle)
        return recorded(bundle, "contrastive", given, spec)
    if isinstance(config, TowersConfig):
        source, given = _towers(model, bundle)
        return recorded(bundle, source, given, spec)
    return load_encoder(target, bundle, spec)


def _stage_1(target: nn.Module, bundle: Bundle) -> dict[str, Tensor]:
    given: dict[str, Tensor] = _module(bundle, "contrastive").state_dict()
    own = {name: t for name, t in target.state_dict().items() if not name.startswith(GATE)}
    odd = sorted(given.keys() ^ own.keys())
    odd += [name for name in own.keys() & given.keys() if own[name].shape != given[name].shape]
    if odd:
        raise BundleError.about(
            bundle.path,
            f"its contrastive part differs from this run's model in {len(odd)} tensors, as "
            f"{odd[0]}",
            "Give both stages the same encoder, text tower and width.",
        )
    target.load_state_dict(given, strict=False)
    return given


def _towers(model: Any, bundle: Bundle) -> tuple[str, dict[str, Tensor]]:
    """From an earlier report part with the same towers, or each from its stage."""
    config, earlier = model.config.encoder, bundle.modules.get("report")
    if earlier is not None and earlier.get_submodule("encoder").config == config:
        given: dict[str, Tensor] = earlier.get_submodule("encoder").state_dict()
        model.encoder.load_state_dict(given, strict=True)
        return "report", given
    given, last = {}, ""
    for name, part in TOWER_PARTS.items():
        wanted = getattr(config, name)
        if wanted is None:
            continue
        encoder: Any = _module(bundle, part).get_submodule("encoder")
        if encoder.config != wanted:
            raise BundleError.about(
                bundle.path,
                f"the encoder of its {part} part is {encoder.config}, the tower {name} of this run "
                f"{wanted}",
                "Give both runs one configuration of the tower.",
            )
        weights = encoder.state_dict()
        model.encoder.get_submodule(name).load_state_dict(weights, strict=True)
        given |= {f"{name}.{key}": tensor for key, tensor in weights.items()}
        last = part
    return last, given


def _module(bundle: Bundle, part: str) -> nn.Module:
    if part not in bundle.modules:
        recipe = "hsenet_clip" if part == "contrastive" else "hsenet_2e3"
        raise BundleError.about(
            bundle.path,
            f"it has no {part} part; it holds {', '.join(bundle.parts)}",
            f"Give the bundle that `uvlm train {recipe}` wrote.",
        )
    return bundle.modules[part]
