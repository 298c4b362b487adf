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

from uvlm.errors import ConfigError, InputError
from uvlm.models.config import PretrainedConfig
from uvlm.models.pretrained_architecture import why_not
from uvlm.text.tokenizer import Tokenizer

__all__ = [
    "base_files",
    "base_fingerprint",
    "base_tokenizer",
    "check_base",
    "read_base",
    "read_settings",
]

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
TOKENIZER = "tokenizer.json"
DOWNLOAD = "Give the folder of a Qwen3, Phi or Llama model as `hf download NAME` fills it."

NOT_KEPT = ("_name_or_path", "auto_map", "transformers_version")


def read_base(config: PretrainedConfig) -> PretrainedConfig:
    """`config` with architecture, fingerprint, vocabulary and new tokens of its base folder.

    Raises:
        ConfigError: no folder was named, it cannot be used, or it is another one than `config`
            was made with.
    """
    folder = _folder(config.base)
    found = _architecture(folder)
    tokenizer, known = base_tokenizer(folder), int(found["vocab_size"])
    read = replace(
        config,
        architecture=json.dumps(found, sort_keys=True),
        fingerprint=base_fingerprint(folder),
        vocab_size=max(known, tokenizer.vocab_size),
        new_tokens=tuple(
            sorted(
                entry
                for name, entry in tokenizer.special_ids.items()
                if name in tokenizer.added or entry >= known
            )
        ),
    )
    if config.fingerprint not in ("", read.fingerprint):
        raise _other(config, folder, read.fingerprint)
    if config.vocab_size not in (0, read.vocab_size):
        raise ConfigError(
            f"model.decoder.vocab_size is {config.vocab_size}, the base's {read.vocab_size}; leave "
            "it unset."
        )
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
    files, found = base_files(_folder(folder)), base_fingerprint(folder)
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
        names = sorted(set(read_settings(index).get("weight_map", {}).values()))
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
    found = read_settings(folder / CONFIG)
    refused = why_not(found)
    if refused:
        raise ConfigError.about(folder / CONFIG, refused, DOWNLOAD)
    base_files(folder)
    return {key: value for key, value in found.items() if key not in NOT_KEPT}


def _other(config: PretrainedConfig, folder: Path, found: str) -> InputError:
    return ConfigError.about(
        folder,
        f"its weights have fingerprint {found}, needed are those with {config.fingerprint}",
        "Give the very files that training began with.",
    )


def read_settings(file: Path) -> dict[str, Any]:
    """The table in a config.json.

    Raises:
        ConfigError: it is none.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError.about(file, f"it is not JSON ({error})", "Download it again.") from error
    if not isinstance(content, dict):
        raise ConfigError.about(file, "it is not a table of settings", "Download it again.")
    return content


def base_fingerprint(folder: Path) -> str:
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
