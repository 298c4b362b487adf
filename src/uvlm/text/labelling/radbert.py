"""CT-CLIP's report classifier over 18 classes, from weights the user has (they are gated).

The folder holds `config.json` and the tokenizer of zzxslp/RadBERT-RoBERTa-4m and the checkpoint
`RadBertClassifier.pth` of the CT-RATE repository, or another with the same names of tensors. As in
`text_classifier/` of CT-CLIP: at most 512 tokens, a linear layer on the pooled output, a class is
present from a probability of 0.5. A report longer than that is read without its end, often the
impression; how many are is logged.

Shapes: B reports, T tokens, C classes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uvlm.errors import InputError, MissingExtraError
from uvlm.registry import CT_RATE_LABELS
from uvlm.text.labelling.protocol import Labels

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["RadBert"]

log = logging.getLogger(__name__)

LONGEST, BATCH, THRESHOLD = 512, 32, 0.5
PROGRESS = 10
"""Batches between two lines of the log."""

ENCODER, HEAD = "model.", "classifier."
"""How the checkpoint's tensors begin."""


class RadBert:
    """A labeller; gives no evidence."""

    def __init__(
        self,
        folder: Path | str,
        checkpoint: Path | str | None = None,
        *,
        classes: Sequence[str] = CT_RATE_LABELS,
        device: str = "auto",
    ) -> None:
        """Read the weights.

        Args:
            folder: tokenizer and configuration, as `hf download` fills it
            checkpoint: None: the only .pth file of the folder
            classes: of the linear layer, in its order
            device: "auto" is the first GPU, else the CPU

        Raises:
            InputError: a file is missing, damaged, or holds other tensors.
            MissingExtraError: transformers is not installed.
        """
        import torch

        folder = Path(folder)
        self._classes = tuple(classes)
        self._file = _checkpoint(folder) if checkpoint is None else Path(checkpoint)
        self._tokenizer, config = _read_folder(folder)
        # RoBERTa's positions begin after that of padding.
        unused = int(config.pad_token_id) + 1 if "roberta" in config.model_type else 0
        self._longest = min(LONGEST, int(config.max_position_embeddings) - unused)
        chosen = "cuda" if torch.cuda.is_available() else "cpu"
        self._device = torch.device(chosen if device == "auto" else device)
        self._encoder, self._head = self._build(config)

    @property
    def name(self) -> str:
        return "radbert@ct-clip"

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    def label(self, reports: Sequence[str]) -> list[Labels]:
        """One `Labels` per report; all zeros where there is no text."""
        filled = [i for i, report in enumerate(reports) if report.strip()]
        values = [dict.fromkeys(self._classes, 0) for _ in reports]
        rows = self.probabilities([reports[i] for i in filled])
        for i, row in zip(filled, rows, strict=True):
            present = (int(p >= THRESHOLD) for p in row)
            values[i] = dict(zip(self._classes, present, strict=True))
        return [Labels(values=one, evidence=()) for one in values]

    def probabilities(self, reports: Sequence[str]) -> list[list[float]]:
        """One row of C probabilities per report."""
        return [row for batch in self._batches(reports) for row in batch]

    def _batches(self, reports: Sequence[str]) -> Iterator[list[list[float]]]:
        import torch

        cut = 0
        for start in range(0, len(reports), BATCH):
            batch = list(reports[start : start + BATCH])
            tokens = self._tokenizer(batch, verbose=False)["input_ids"]
            cut += sum(len(row) > self._longest for row in tokens)
            encoded = self._tokenizer(
                batch,
                max_length=self._longest,
                truncation=True,
                padding=True,
                return_tensors="pt",
            ).to(self._device)
            with torch.inference_mode():
                output = self._encoder(
                    input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"]
                )
                logits_BC: Tensor = self._head(output.pooler_output)
            yield logits_BC.double().sigmoid().tolist()
            if (start // BATCH + 1) % PROGRESS == 0:
                log.info("%d of %d reports labelled", start + len(batch), len(reports))
        if cut:
            log.warning(
                "%d of %d reports are longer than %d tokens; their end was not read",
                cut,
                len(reports),
                self._longest,
            )

    def _build(self, config: Any) -> tuple[nn.Module, nn.Module]:
        from torch import nn
        from transformers import AutoModel

        tensors = _read_checkpoint(self._file)
        auto: Any = AutoModel
        encoder: nn.Module = auto.from_config(config, attn_implementation="eager")
        head = nn.Linear(int(config.hidden_size), len(self._classes))
        _load(self._file, encoder, ENCODER, tensors)
        _load(self._file, head, HEAD, tensors)
        return encoder.to(self._device).eval(), head.to(self._device).eval()


def _checkpoint(folder: Path) -> Path:
    found = sorted(folder.glob("*.pth")) if folder.is_dir() else []
    if len(found) != 1:
        what = f"{len(found)} .pth files" if folder.is_dir() else "no such folder"
        raise InputError.about(
            folder,
            what,
            "Put RadBertClassifier.pth of CT-RATE into the folder of zzxslp/RadBERT-RoBERTa-4m, or "
            "name it with --checkpoint.",
        )
    return found[0]


def _read_folder(folder: Path) -> tuple[Any, Any]:
    """(tokenizer, configuration); nothing is downloaded and no code of the folder is run."""
    try:
        from transformers import AutoConfig, AutoTokenizer
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    except ImportError as error:
        raise MissingExtraError("transformers", "llm") from error
    remedy = "Give the folder of zzxslp/RadBERT-RoBERTa-4m as `hf download` fills it."
    try:
        kind = json.loads((folder / "config.json").read_text("utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        raise InputError.about(folder, "no readable config.json", remedy) from None
    if kind not in CONFIG_MAPPING:
        raise InputError.about(folder, f"model type {kind!r} is unknown to transformers", remedy)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        # The authors ask for small letters; RoBERTa's tokenizer keeps capitals all the same.
        tokenizer: Any = AutoTokenizer.from_pretrained(
            folder, do_lower_case=True, local_files_only=True
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError.about(folder, f"unreadable ({type(error).__name__})", remedy) from None
    if tokenizer.pad_token is None or len(tokenizer) > config.vocab_size:
        found = f"a tokenizer of {len(tokenizer)} entries for a model of {config.vocab_size}"
        raise InputError.about(folder, found, remedy)
    return tokenizer, config


def _read_checkpoint(path: Path) -> dict[str, Any]:
    """Tensors by name; nothing else can be in the file."""
    import pickle

    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError.about(
            path, f"cannot be read ({error.strerror})", "Check the path."
        ) from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError):
        raise InputError.about(
            path, "no file of tensors, or one with more in it", "Download it again."
        ) from None
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not all(torch.is_tensor(t) for t in found.values()):
        raise InputError.about(path, "no table of tensors", "Give RadBertClassifier.pth.")
    return {str(name).removeprefix("module."): tensor for name, tensor in found.items()}


def _load(path: Path, module: nn.Module, prefix: str, tensors: dict[str, Any]) -> None:
    """Put the tensors that begin with `prefix` into `module`; all of it must be there."""
    own = module.state_dict()
    found = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    wrong = [
        name
        for name, tensor in own.items()
        if name not in found or found[name].shape != tensor.shape
    ]
    if wrong:
        shape = tuple(found[wrong[0]].shape) if wrong[0] in found else "missing"
        raise InputError.about(
            path,
            f"{prefix}{wrong[0]} is {shape}, not {tuple(own[wrong[0]].shape)} as the configuration "
            f"and its classes say",
            "Give RadBertClassifier.pth beside the configuration it was trained with.",
        )
    # Older transformers stored the numbers of the positions too.
    module.load_state_dict({name: found[name] for name in own})
