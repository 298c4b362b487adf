"""The folder of a pretrained language model: what it holds, and whether it can be used.

config.json, tokenizer.json and *.safetensors as transformers writes them, in one file or in
shards named by model.safetensors.index.json. Nothing in it is run and nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from uvlm.errors import ConfigError, InputError, MissingExtraError
from uvlm.models.config import PretrainedConfig
from uvlm.text.tokenizer import Tokenizer

__all__ = ["base_files", "base_tokenizer", "check_base", "positions_of", "read_base"]

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
TOKENIZER = "tokenizer.json"
DOWNLOAD = "Give the folder of a Qwen3, Phi or Llama model as `hf download NAME` fills it."

NEEDED = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
NOT_KEPT = ("_name_or_path", "auto_map", "transformers_version")
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "final_logit_softcapping": (None,),
    "logits_scaling": (None, 1),
    "logit_scale": (None, 1),
    "embedding_multiplier": (None, 1),
    "quantization_config": (None,),
}
"""Settings that make a model compute more than embedding, layers, norm and output matrix, or keep
its weights in another form, and the values with which they do not."""

SCALED = ("gemma", "granite", "cohere")
"""Kinds of models that scale embeddings or logits by numbers of their own code."""


def read_base(config: PretrainedConfig) -> PretrainedConfig:
    """`config` with architecture, fingerprint, vocabulary and new tokens of its base folder.

    Raises:
        ConfigError: no folder was named, it cannot be used, or it is another one than `config`
            was made with.
    """
    folder = _folder(config.base)
    found = _architecture(folder)
    tokenizer = base_tokenizer(folder)
    read = replace(
        config,
        architecture=json.dumps(found, sort_keys=True),
        fingerprint=_fingerprint(folder),
        vocab_size=max(int(found["vocab_size"]), tokenizer.vocab_size),
        new_tokens=tuple(sorted(tokenizer.special_ids[name] for name in tokenizer.added)),
    )
    if config.fingerprint not in ("", read.fingerprint):
        raise _other(config, folder, read.fingerprint)
    return read


def base_tokenizer(folder: Path) -> Tokenizer:
    """The base's own tokenizer, with the markers it lacks added.

    Raises:
        ConfigError: the folder has none.
    """
    if not (folder / TOKENIZER).is_file():
        raise ConfigError.about(
            folder,
            f"the base model has no {TOKENIZER}",
            "Copy the model's tokenizer.json into the folder; older forms can be converted with "
            "transformers' AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER).",
        )
    return Tokenizer.load(folder)


def check_base(config: PretrainedConfig, folder: Path) -> list[Path]:
    """The weight files of `folder`, if it is the base that `config` was made with.

    Raises:
        ConfigError: it is another one, or cannot be used.
    """
    files, found = base_files(_folder(folder)), _fingerprint(folder)
    if found != config.fingerprint:
        raise _other(config, folder, found)
    return files


def base_files(folder: Path) -> list[Path]:
    """The weight files, in order of their names.

    Raises:
        ConfigError: there are none, or a shard is missing.
    """
    index = folder / INDEX
    if index.is_file():
        names = sorted(set(_json(index).get("weight_map", {}).values()))
        missing = [name for name in names if not (folder / Path(name).name).is_file()]
        if missing or not names:
            lacking = ", ".join(missing) or "every file"
            raise ConfigError.about(folder, f"the model lacks {lacking}", "Download it again.")
        return [folder / Path(name).name for name in names]
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt*"))
    found = "only pickled weights (*.bin), which can run code" if pickled else "no *.safetensors"
    raise ConfigError.about(folder, f"it holds {found}", "Give a model saved as safetensors.")


def positions_of(config: PretrainedConfig) -> int:
    """Longest sequence the base can read with full attention and one rotary table."""
    hf = config.hf
    limits = [hf.get("max_position_embeddings")]
    if hf.get("use_sliding_window", True):
        limits.append(hf.get("sliding_window"))
    rope = hf.get("rope_parameters") or hf.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type")) == "longrope":
        limits += [
            hf.get("original_max_position_embeddings"),
            rope.get("original_max_position_embeddings"),
        ]
    return min((int(limit) for limit in limits if limit), default=1 << 31)


def _folder(folder: Path | None) -> Path:
    if folder is None:
        raise ConfigError(
            "the pretrained decoder has no base model; name its folder with "
            "--model.decoder.base FOLDER."
        )
    if not folder.is_dir():
        raise ConfigError.about(folder, "no such folder", DOWNLOAD)
    if not (folder / CONFIG).is_file():
        raise ConfigError.about(folder, f"it has no {CONFIG}", DOWNLOAD)
    return folder


def _architecture(folder: Path) -> dict[str, Any]:
    """config.json, refused if our hooks or our face do not fit such a model."""
    found = _json(folder / CONFIG)
    refused = _why_not(found)
    if refused:
        raise ConfigError.about(folder / CONFIG, refused, DOWNLOAD)
    base_files(folder)
    return {key: value for key, value in found.items() if key not in NOT_KEPT}


def _why_not(found: dict[str, Any]) -> str | None:
    missing = [key for key in NEEDED if key not in found]
    if missing:
        return f"it does not say {', '.join(missing)}, as a text model does"
    names = found.get("architectures") or []
    causal = any(str(name).endswith("ForCausalLM") for name in names)
    if not causal or found.get("is_encoder_decoder"):
        return f"{', '.join(map(str, names)) or 'the model'} is no decoder-only causal model"
    if "auto_map" in found and not _in_transformers(found["model_type"], names):
        return "the model needs its own code, which is never run"
    if str(found["model_type"]).startswith(SCALED):
        return f"{found['model_type']} scales its embeddings or logits, which is not supported"
    for key, neutral in NEUTRAL.items():
        if found.get(key) not in neutral:
            return f"its {key} is not supported"
    return None


def _in_transformers(kind: str, names: list[str]) -> bool:
    """Whether transformers has the model itself: Phi-3's folders bring code that is not needed."""
    try:
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    except ImportError as error:
        raise MissingExtraError("transformers", "llm") from error
    return MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind) in names


def _other(config: PretrainedConfig, folder: Path, found: str) -> InputError:
    return ConfigError.about(
        folder,
        f"its weights have fingerprint {found}, needed are those with {config.fingerprint}",
        "Give the very files that training began with.",
    )


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError.about(file, f"it is not JSON ({error})", "Download it again.") from error
    if not isinstance(content, dict):
        raise ConfigError.about(file, "it is not a table of settings", "Download it again.")
    return content


def _fingerprint(folder: Path) -> str:
    """16 digits of the SHA-256 over all weight files: a fine-tuned copy differs."""
    files = base_files(folder)
    states = [(file, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    with ThreadPoolExecutor(max_workers=4) as pool:
        sums = list(pool.map(lambda state: _sha256(*state), states))
    return hashlib.sha256("".join(sums).encode()).hexdigest()[:16]


@cache
def _sha256(file: Path, size: int, modified: int) -> str:
    """Of a file in this state; a process reads each shard once."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 24):
            digest.update(block)
    return digest.hexdigest()
