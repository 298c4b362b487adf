"""Weights of a pretrained decoder: the base's from its folder, our own to a bundle and back.

Every tensor of the base is accounted for: used, a repetition of the tied embedding, or a table
that is computed; anything else is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from uvlm.errors import ConfigError
from uvlm.models.pretrained_base import check_base
from uvlm.models.pretrained_build import tie
from uvlm.models.pretrained_rows import first_rows

if TYPE_CHECKING:
    from uvlm.models.pretrained import PretrainedDecoder
    from uvlm.models.uvlm import ReportModel

__all__ = ["base_keys", "load_base_weights", "load_own_state", "own_state"]

ADAPTED = ".base_layer."
OURS = (".lora_A.", ".lora_B.")
COMPUTED = "rotary_emb.inv_freq"


def load_base_weights(model: ReportModel, base: Path | None = None) -> None:
    """Give a fresh report model the weights of its base; new tokens begin near the mean of the old.

    Parameters are replaced, not filled: build the optimiser afterwards.

    Args:
        base: the base's folder; default the one of the configuration

    Raises:
        ConfigError: the folder is missing, or holds another model.
    """
    from uvlm.models.pretrained import PretrainedDecoder

    decoder = model.decoder
    if not isinstance(decoder, PretrainedDecoder):
        raise ConfigError("this decoder is trained from scratch and has no base.")
    folder = base or decoder.config.base
    if folder is None:
        raise ConfigError("no folder of the base model was given.")
    files = check_base(decoder.config, folder)
    wanted = _wanted(decoder)
    for name, tensor in _tensors(files):
        keys = wanted.pop(name, None)
        if keys is None:
            _check_left_out(decoder, name, folder)
            continue
        _place(decoder, keys, tensor, folder)
    if wanted:
        raise ConfigError.about(
            folder, f"it lacks {len(wanted)} tensors, as {min(wanted)}", "Download it again."
        )
    tie(decoder.model)


def own_state(module: nn.Module) -> dict[str, Tensor]:
    """State dict without the frozen weights of a base, and each tied weight once.

    Of a module without a pretrained decoder: its state dict.
    """
    left_out = base_keys(module)
    return {key: value for key, value in module.state_dict().items() if key not in left_out}


def load_own_state(module: nn.Module, state: Mapping[str, Tensor], *, assign: bool = False) -> None:
    """Take over what `own_state` gave; the base's frozen weights stay.

    Raises:
        RuntimeError: a tensor is missing, unknown or of another shape.
    """
    expected = own_state(module).keys()
    if expected != state.keys():
        differing = sorted(expected ^ state.keys())
        raise RuntimeError(f"{len(differing)} tensors differ, as {differing[0]}")
    module.load_state_dict(state, strict=False, assign=assign)
    for decoder in _decoders(module).values():
        tie(decoder.model)


def base_keys(module: nn.Module) -> set[str]:
    """Keys of the state dict that `own_state` leaves out."""
    return {
        f"{prefix}{key}"
        for prefix, decoder in _decoders(module).items()
        for key in _left_out(decoder)
    }


def _decoders(module: nn.Module) -> dict[str, PretrainedDecoder]:
    """Prefix of its keys -> each pretrained decoder in `module`."""
    from uvlm.models.pretrained import PretrainedDecoder

    return {
        f"{name}." if name else "": part
        for name, part in module.named_modules()
        if isinstance(part, PretrainedDecoder)
    }


def _left_out(decoder: PretrainedDecoder) -> set[str]:
    """The output matrix where it is the embedding, and with adapters all that is frozen."""
    model = decoder.model
    repeated = set[str]()
    if model.config.tie_word_embeddings:
        head = _name_of(model, model.get_output_embeddings())
        repeated = {f"model.{head}.weight", f"model.{head}.rows"}
    if decoder.config.tuning == "full":
        return repeated
    own = {key for key in decoder.state_dict() if key.endswith(".rows") or _adapter(key)}
    return (decoder.state_dict().keys() - own) | repeated


def _adapter(key: str) -> bool:
    return any(part in key for part in OURS)


def _wanted(decoder: PretrainedDecoder) -> dict[str, str]:
    """Name in the base's files -> name of the parameter in `decoder.model`."""
    model: Any = decoder.model
    names = (name for name, _ in model.named_parameters())  # a tied one once, as the embedding
    own = (name for name in names if not name.endswith(".rows") and not _adapter(name))
    return {name.replace(ADAPTED, "."): name for name in own}


def _tensors(files: list[Path]) -> Iterator[tuple[str, Tensor]]:
    for path in files:
        with safe_open(str(path), framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                yield name, file.get_tensor(name)


def _check_left_out(decoder: PretrainedDecoder, name: str, folder: Path) -> None:
    model: Any = decoder.model
    head = f"{_name_of(model, model.get_output_embeddings())}.weight"
    repeated = name == head and model.config.tie_word_embeddings
    if not repeated and not name.endswith(COMPUTED):
        raise ConfigError.about(
            folder, f"it holds {name}, which its config.json does not explain", "Download it again."
        )


def _place(decoder: PretrainedDecoder, name: str, tensor: Tensor, folder: Path) -> None:
    """Put one tensor of the base into its module, in that parameter's data type."""
    model: Any = decoder.model
    parent, _, last = name.rpartition(".")
    module = model.get_submodule(parent)
    old: nn.Parameter = getattr(module, last)
    vocabulary = module in (model.get_input_embeddings(), model.get_output_embeddings())
    if vocabulary and last == "weight":
        tensor = _with_new_rows(decoder, module, tensor, old.dtype)
    if tensor.shape != old.shape:
        raise ConfigError.about(
            folder,
            f"its {name} has shape {tuple(tensor.shape)}, config.json says {tuple(old.shape)}",
            "Download it again.",
        )
    # A clone: nothing depends on the file afterwards, and it is aligned as fresh weights are.
    value = tensor.to(old.dtype, copy=True)
    setattr(module, last, nn.Parameter(value, requires_grad=old.requires_grad))


def _with_new_rows(
    decoder: PretrainedDecoder, module: Any, known_VE: Tensor, dtype: torch.dtype
) -> Tensor:
    """The base's vocabulary at its new length; rows of new tokens go where they are trained."""
    config = decoder.config
    if not config.new_tokens and len(known_VE) == config.vocab_size:
        return known_VE
    mean_1E = known_VE.float().mean(dim=0, keepdim=True).to(dtype)
    missing = max(config.vocab_size - len(known_VE), 0)
    longer_VE = torch.cat((known_VE.to(dtype), mean_1E.expand(missing, -1)))
    if config.new_tokens:
        rows = first_rows(known_VE, config.new_tokens)
        if config.tuning == "lora":
            module.rows = nn.Parameter(rows)
        else:
            longer_VE[list(config.new_tokens)] = rows.to(dtype)
    return longer_VE


def _name_of(model: nn.Module, wanted: nn.Module) -> str:
    """Under which name `wanted` stands in `model`."""
    return str(next(name for name, module in model.named_modules() if module is wanted))
