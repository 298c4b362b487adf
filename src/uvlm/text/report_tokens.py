"""Reports to token ids for the text half of contrastive pretraining: [CLS] words [SEP].

A BERT brings its vocabulary as `tokenizer.json`; without one a byte-level vocabulary is learned
from the reports. Names of special tokens inside a report are ordinary text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from uvlm.errors import ConfigError, InputError
from uvlm.text.cleaning import split_sentences

__all__ = ["ReportTokens", "Truncate", "load_report_tokens", "train_report_tokens"]

PAD, CLASS, END = "[PAD]", "[CLS]", "[SEP]"
SPECIAL = (PAD, CLASS, END)
SMALLEST = 256 + len(SPECIAL)
FILE = "tokenizer.json"

Truncate = Literal["head", "authors"]


class ReportTokens:
    """Encodes reports.

    Args:
        backend: must know [PAD], [CLS] and [SEP]
        max_tokens: longest result, [CLS] and [SEP] included
        truncate: of a longer report keep its beginning ("head"), or its first sentence and of the
            others, in random order, those that still fit ("authors")

    Attributes:
        pad_id: fills what is shorter than its neighbours in a batch
        vocab_size: 1 + the highest id

    Raises:
        ConfigError: a special token is missing, or `max_tokens` has no room for text.
    """

    def __init__(
        self, backend: tokenizers.Tokenizer, max_tokens: int, truncate: Truncate = "head"
    ) -> None:
        vocabulary = backend.get_vocab(with_added_tokens=True)
        missing = [name for name in SPECIAL if name not in vocabulary]
        if missing:
            raise ConfigError(
                f"the vocabulary lacks {', '.join(missing)}; give the tokenizer.json of a BERT."
            )
        if max_tokens < len(SPECIAL):
            raise ConfigError(
                f"max_tokens is {max_tokens}; with [CLS] and [SEP] it must be at least 3."
            )
        backend.encode_special_tokens = True
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self.max_tokens = max_tokens
        self.truncate = truncate
        self.pad_id, self._class_id, self._end_id = (vocabulary[name] for name in SPECIAL)
        self.vocab_size = 1 + max(vocabulary.values())

    def encode(self, report: str, rng: np.random.Generator | None = None) -> list[int]:
        """Ids of one report, at most `max_tokens`.

        Args:
            rng: draws the sentences that "authors" keeps; None takes them in the report's order, as
                validation does
        """
        room = self.max_tokens - 2
        words = self._words(report)
        if len(words) > room and self.truncate == "authors":
            words = self._some_sentences(report, room, rng)
        return [self._class_id, *words[:room], self._end_id]

    def to_json(self) -> str:
        """The content of `tokenizer.json`."""
        return str(self._backend.to_str(pretty=True))

    @classmethod
    def from_json(cls, text: str, max_tokens: int, truncate: Truncate = "head") -> ReportTokens:
        """What `to_json` gave, or another tokenizer.json with BERT's special tokens.

        Raises:
            ConfigError: it is none.
        """
        try:
            backend = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises bare Exception
            raise ConfigError(
                f"the tokenizer cannot be read ({type(error).__name__}); give a tokenizer.json "
                "written by Hugging Face tokenizers or by this package."
            ) from error
        return cls(backend, max_tokens, truncate)

    def _words(self, text: str) -> list[int]:
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def _some_sentences(self, report: str, room: int, rng: np.random.Generator | None) -> list[int]:
        """The authors' way, except that the first sentence counts towards the limit as well."""
        first, *others = [self._words(text) for text in split_sentences(report)]
        order: Sequence[int] = range(len(others))
        if rng is not None:
            order = rng.permutation(len(others)).tolist()
        kept = list(first)
        for place in order:
            if len(kept) + len(others[place]) <= room:
                kept += others[place]
        return kept


def load_report_tokens(base: Path, max_tokens: int, truncate: Truncate = "head") -> ReportTokens:
    """The vocabulary of the BERT in folder `base`.

    Raises:
        ConfigError: the folder has no tokenizer.json, or not that of a BERT.
    """
    file = base / FILE
    if not file.is_file():
        raise ConfigError.about(
            base,
            f"the text tower has no {FILE}",
            "Copy the model's tokenizer.json into the folder; older forms (vocab.txt) can be "
            "converted with transformers' "
            "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER).",
        )
    try:
        return ReportTokens.from_json(file.read_text(encoding="utf-8"), max_tokens, truncate)
    except (ConfigError, UnicodeDecodeError) as error:
        raise ConfigError.about(
            file, str(error).rstrip("."), "Give the folder of a BERT, as `hf download` fills it."
        ) from error


def train_report_tokens(
    texts: Iterable[str], vocab_size: int, max_tokens: int, truncate: Truncate = "head"
) -> ReportTokens:
    """Byte-level BPE learned from `texts`, small letters only; the same texts give the same result.

    (WordPiece of the library numbers its pieces in another order each time.) The vocabulary is
    smaller than `vocab_size` when the texts hold too few different words.

    Raises:
        ConfigError: `vocab_size` cannot hold the 256 bytes and the special tokens.
        InputError: there is no text to learn from.
    """
    if vocab_size < SMALLEST:
        raise ConfigError(f"text.vocab_size is {vocab_size}; it must be at least {SMALLEST}.")
    lines = [text for text in texts if text.strip()]
    if not lines:
        raise InputError("there is no text to learn a vocabulary from. Give the training reports.")
    backend = tokenizers.Tokenizer(models.BPE())
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(lines, trainer=trainer, length=len(lines))
    return ReportTokens(backend, max_tokens, truncate)
