"""Text to token ids and back: a byte-level BPE of our own, or any Hugging Face `tokenizer.json`.

A byte-level vocabulary holds all 256 bytes, so that any text survives the round trip. The names of
special tokens inside ordinary text are ordinary text: a report can never smuggle in an end of
turn. Only `encode(..., markup=True)`, for prompts, reads them as tokens.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from uvlm.errors import ConfigError, InputError
from uvlm.registry import OWN_VOCABULARY

__all__ = ["SPECIAL_TOKENS", "Tokenizer", "train_tokenizer"]

log = logging.getLogger(__name__)

VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
PAD = "<|endoftext|>"
SAMPLE = "Nodule of 1.5 x 2 cm in S6, (70%)."

SPECIAL_TOKENS: tuple[str, ...] = (PAD, TURN_START, TURN_END, VISION_START, VISION_END)
"""Names as in Qwen's tokenizers, so that one of those needs no new token."""


class Tokenizer:
    """Encodes and decodes; knows the ids of the special tokens.

    Attributes:
        added: special tokens that the given vocabulary lacked and received at its end.
    """

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        missing = [name for name in SPECIAL_TOKENS if backend.token_to_id(name) is None]
        backend.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL_TOKENS])
        backend.encode_special_tokens = True
        backend.no_truncation()
        backend.no_padding()
        self.added: tuple[str, ...] = tuple(missing)
        self._backend = backend
        self._markup = re.compile("(" + "|".join(map(re.escape, SPECIAL_TOKENS)) + ")")
        vocabulary = backend.get_vocab(with_added_tokens=True)
        ids = {name: vocabulary[name] for name in SPECIAL_TOKENS}
        self.special_ids: dict[str, int] = ids
        self.vision_start_id = ids[VISION_START]
        self.vision_end_id = ids[VISION_END]
        self.eos_id = ids[TURN_END]
        self.pad_id = ids[PAD]
        # The highest id, not the number of entries: a vocabulary may have gaps.
        self.vocab_size: int = 1 + max(vocabulary.values())

    def encode(self, text: str, *, markup: bool = False) -> list[int]:
        """Token ids; with `markup` the names of special tokens in `text` become those tokens."""
        pieces = self._markup.split(text) if markup else [text]
        ids: list[int] = []
        for piece in pieces:
            if markup and piece in self.special_ids:
                ids.append(self.special_ids[piece])
            elif piece:
                ids.extend(self._backend.encode(piece, add_special_tokens=False).ids)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids, special tokens left out."""
        special = set(self.special_ids.values())
        plain = [int(i) for i in ids if int(i) not in special]
        return str(self._backend.decode(plain, skip_special_tokens=False))

    def to_json(self) -> str:
        """The content of `tokenizer.json`."""
        return str(self._backend.to_str(pretty=True))

    def save(self, path: Path | str) -> Path:
        """Write `tokenizer.json` into folder `path`, or the file itself when it ends in .json."""
        path = Path(path)
        path = path if path.suffix == ".json" else path / "tokenizer.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            partial.write_text(self.to_json(), encoding="utf-8")
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        return path

    @classmethod
    def load(cls, path: Path | str) -> Tokenizer:
        """Read a `tokenizer.json`, or the one in a folder; missing special tokens are added.

        Raises:
            InputError: there is none, or it is not a tokenizer.
        """
        path = Path(path)
        file = path / "tokenizer.json" if path.is_dir() else path
        if not file.is_file():
            found = "the folder holds no tokenizer.json" if path.is_dir() else "no such file"
            raise InputError.about(
                path, found, "Give a Hugging Face tokenizer.json or a folder that holds one."
            )
        try:
            backend = tokenizers.Tokenizer.from_str(file.read_text(encoding="utf-8"))
        except Exception as error:  # the library raises bare Exception
            raise InputError.about(
                file,
                f"it is not a tokenizer ({type(error).__name__}: {error})",
                "Give the tokenizer.json written by Hugging Face tokenizers or by this package.",
            ) from error
        tokenizer = cls(backend)
        if tokenizer.added:
            log.warning(
                "%s: added %s; the vocabulary now has %d entries",
                file,
                ", ".join(tokenizer.added),
                tokenizer.vocab_size,
            )
        back = tokenizer.decode(tokenizer.encode(SAMPLE)).strip()
        if back != SAMPLE:
            log.warning(
                "%s: text does not come back as it was, %r becomes %r; reports will be written so. "
                "Byte-level tokenizers keep every character",
                file,
                SAMPLE,
                back,
            )
        return tokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int = OWN_VOCABULARY) -> Tokenizer:
    """Byte-level BPE learned from `texts`; the same texts give the same tokenizer.

    The vocabulary is smaller than `vocab_size` when the texts hold too few different words.

    Raises:
        ConfigError: `vocab_size` cannot hold the 256 bytes and the special tokens.
        InputError: there is no text to learn from.
    """
    smallest = 256 + len(SPECIAL_TOKENS)
    if vocab_size < smallest:
        raise ConfigError(f"vocab_size is {vocab_size}; it must be at least {smallest}.")
    lines = [text for text in texts if text.strip()]
    if not lines:
        raise InputError("there is no text to train a tokenizer on. Give the training reports.")
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(lines, trainer=trainer, length=len(lines))
    return Tokenizer(backend)
