"""What a run is made from, read and checked before anything is written: studies, tokenizer, earlier
bundle, bank, and the processes it runs in."""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from accelerate import Accelerator

from uvlm.data.bank import Bank
from uvlm.data.dataset import Encode, EncodeQuestion
from uvlm.data.questions import QuestionRow
from uvlm.data.slice_bank import SliceBank
from uvlm.data.studies import Need, Studies, load_studies
from uvlm.errors import ConfigError
from uvlm.models.bundle import Bundle, load_bundle
from uvlm.models.bundle_files import Split
from uvlm.models.config import (
    ClassificationConfig,
    EncoderConfig,
    JointConfig,
    PretrainedConfig,
    ReportConfig,
    SegmentationConfig,
)
from uvlm.models.contrastive_config import ContrastiveConfig
from uvlm.models.handover import check_split
from uvlm.models.markers import with_markers
from uvlm.models.pretrained_architecture import positions_of
from uvlm.models.pretrained_base import base_tokenizer, read_base
from uvlm.models.text_tower import read_text_base, text_tokenizer
from uvlm.text.prompts import (
    AUTHORS_PROMPT,
    DEFAULT_PROMPT,
    Example,
    build_example,
    findings_sentence,
    question_prompt,
    spacing_sentence,
)
from uvlm.text.questions import ask
from uvlm.text.report_tokens import ReportTokens
from uvlm.text.tokenizer import Tokenizer, train_tokenizer
from uvlm.training.config import ModelConfig, RunConfig, TaskName
from uvlm.training.processes import join_processes
from uvlm.training.tasks.classification import ClassificationTask
from uvlm.training.tasks.contrastive import ContrastiveTask
from uvlm.training.tasks.joint import JointTask
from uvlm.training.tasks.report import ReportTask
from uvlm.training.tasks.segmentation import SegmentationTask
from uvlm.training.weights import divided

__all__ = ["NEED", "Session", "open_session", "report_config"]

log = logging.getLogger(__name__)

NEED: dict[TaskName, tuple[Need, ...]] = {
    "segmentation": SegmentationTask.need,
    "classification": ClassificationTask.need,
    "report": ReportTask.need,
    "joint": JointTask.need,
    "contrastive": ContrastiveTask.need,
    "contrastive_2e3": ContrastiveTask.need,
}
"""What a study must have for each task."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """The parts of a run that its steps, its validation and its bundle share."""

    config: RunConfig
    out: Path
    studies: Studies
    tokenizer: Tokenizer | None
    model_config: ModelConfig
    earlier: Bundle | None
    bank: Bank | None
    accelerator: Accelerator
    text_tokens: ReportTokens | None = None
    """Of contrastive runs."""
    slices: SliceBank | None = None

    @property
    def pad_id(self) -> int:
        """Fills what is shorter than its neighbours in a batch."""
        tokens = self.tokenizer or self.text_tokens
        return tokens.pad_id if tokens else 0

    @property
    def learned(self) -> tuple[Need, ...]:
        """What the studies of a batch bring."""
        return _learned(self.config)

    @property
    def frozen(self) -> bool:
        """Whether the encoder stays as it is."""
        return self.config.optim.encoder_lr == 0

    @property
    def prompt(self) -> str | None:
        """The constant text before every report."""
        report = report_config(self.model_config)
        if report is None:
            return None
        return AUTHORS_PROMPT if report.mask == "authors" else DEFAULT_PROMPT

    @property
    def encode(self) -> Encode | None:
        """Report to tokens, for runs that learn reports."""
        if self.tokenizer is None or self.prompt is None:
            return None
        return partial(build_example, self.tokenizer, self.prompt)

    @property
    def encode_question(self) -> EncodeQuestion | None:
        """Question and answer to tokens, for runs that learn to answer."""
        if self.tokenizer is None or self.prompt is None or not self.config.data.questions:
            return None
        return partial(_encode_question, self.tokenizer, self.prompt)

    @property
    def identity(self) -> dict[str, Any]:
        """What a run must have in common with the one that resumes it, its settings aside."""
        report = report_config(self.model_config)
        base = report.decoder if report else None
        return {
            "studies, labels and reports": self.studies.digest,
            "processes": self.accelerator.num_processes,
            "weights divided by": _divided_by(self.accelerator),
            "initial bundle": self.earlier.fingerprint if self.earlier else None,
            "feature bank": self.bank.fingerprint if self.bank else None,
            "base model": base.fingerprint if isinstance(base, PretrainedConfig) else None,
            "tokenizer": _tokenizer_digest(self.tokenizer or self.text_tokens),
            "2D encoder of the slices": self.slices.encoder if self.slices else None,
        }


def _encode_question(
    tokenizer: Tokenizer,
    prompt: str,
    question: QuestionRow,
    answer: str,
    rng: np.random.Generator | None,
) -> Example:
    asked = ask(question.type, question.anatomy, question.finding, rng)
    return build_example(tokenizer, question_prompt(prompt, asked), answer)


def _divided_by(accelerator: Accelerator) -> str | None:
    """FSDP and DeepSpeed write checkpoints of their own."""
    return str(accelerator.distributed_type.value) if divided(accelerator) else None


def report_config(model: ModelConfig) -> ReportConfig | None:
    """The decoder's part of a network, if it has one."""
    if isinstance(model, JointConfig):
        return model.report
    return model if isinstance(model, ReportConfig) else None


def open_session(config: RunConfig, out: Path) -> Session:
    """Read all that the run needs.

    Raises:
        ConfigError, CatalogError, BundleError, InputError: it cannot be used.
    """
    model = _read_base(config.model)
    earlier = load_bundle(config.init, base=_base(model)) if config.init else None
    if earlier is not None:
        check_split(earlier, Split(val_fraction=config.data.val_fraction))
    studies = load_studies(config.data, _need(config))
    _check_findings(config, studies, earlier)
    accelerator = join_processes(config)
    tokenizer = _tokenizer(config, model, studies)
    text_tokens = _text_tokens(model, studies, earlier)
    session = Session(
        config=config,
        out=out,
        studies=studies,
        tokenizer=tokenizer,
        model_config=_complete(model, studies, tokenizer, text_tokens),
        earlier=earlier,
        bank=Bank.open(config.data.bank) if config.data.bank else None,
        accelerator=accelerator,
        text_tokens=text_tokens,
        slices=open_slices(config, studies),
    )
    _check_lengths(session)
    return session


def _learned(config: RunConfig) -> tuple[Need, ...]:
    if isinstance(config.model, ContrastiveConfig):
        return ("text",)
    return ("question",) if config.data.questions else NEED[config.task]


def _need(config: RunConfig) -> tuple[Need, ...]:
    """What the studies must have; a decoder that is told the findings learns from labels too."""
    need, report = _learned(config), report_config(config.model)
    told = report is not None and report.findings and "labels" not in need
    return (*need, "labels") if told else need


def _check_findings(config: RunConfig, studies: Studies, earlier: Bundle | None) -> None:
    """Who is to tell the findings later must be there, and speak of the same labels."""
    report = report_config(config.model)
    if report is None or not report.findings or config.task == "joint":
        return
    head = earlier.parts.get("classification") if earlier else None
    if head is None:
        raise ConfigError(
            "model.findings tells the decoder what a class head finds, and there is none. Give a "
            "bundle with a classification part: --init BUNDLE."
        )
    if tuple(head.labels) != studies.labels:
        first = next((n for n in studies.labels if n not in head.labels), "in another order")
        raise ConfigError(
            f"model.findings: the catalog has {len(studies.labels)} labels ({first}, ...), the "
            f"classification part of {config.init} {len(head.labels)}. Train it on this catalog."
        )


def _longest_told(report: ReportConfig, studies: Studies) -> str:
    """What a prompt may say of a study, all of it."""
    spacing = spacing_sentence((320, 512, 512), (1.25, 0.75, 0.75)) if report.spacing else ""
    findings = findings_sentence(studies.labels) if report.findings else ""
    return " ".join(filter(None, (spacing, findings)))


def _check_lengths(session: Session) -> None:
    """Refuse reports that are too long for a pretrained decoder before the run begins."""
    report, encode = report_config(session.model_config), session.encode
    if encode is None or report is None or not isinstance(report.decoder, PretrainedConfig):
        return
    positions, longest = positions_of(report.decoder), 0
    told = _longest_told(report, session.studies)
    room = positions - report.before_text
    constant = len((session.prompt or "") + told)
    for row in (*session.studies.train, *session.studies.val):
        # A token stands for a byte at least: most reports need not be encoded to be known short.
        text = row.report or ""
        if constant + len(text.encode()) > room:
            longest = max(longest, len(encode(text, told).ids))
    if longest > room:
        raise ConfigError(
            f"the longest report takes {longest} positions with its prompt, beside "
            f"{report.before_text} visual tokens and markers; the base model reads "
            f"{positions}. Use a deeper injection.reference_stage, or a base that reads more."
        )


def open_slices(config: RunConfig, studies: Studies) -> SliceBank | None:
    """The slice bank, if the encoder needs one; a feature bank may stand for it, if it is not
    named."""
    encoder = config.model.encoder
    if isinstance(encoder, EncoderConfig) or not encoder.gated:
        return None
    if config.data.slices is None and config.data.bank and config.slice_encoder:
        raise ConfigError(
            "slice_encoder is kept beside the slices it made; name their bank as well with "
            "--data.slices BANK."
        )
    if config.data.slices is None and config.data.bank:
        return None
    if config.data.slices is None:
        raise ConfigError(
            "the encoder looks at features of slices; make them with `uvlm slices` and name their "
            "bank with --data.slices BANK."
        )
    bank = SliceBank.open(config.data.slices)
    rows = (*studies.train, *studies.val)
    bank.check(rows, width=encoder.slice_width, spec_hash=studies.spec.hash)
    return bank


def _text_tokens(
    model: ModelConfig, studies: Studies, earlier: Bundle | None
) -> ReportTokens | None:
    """Of a contrastive run: the base's, that of the bundle it goes on from, or a new one."""
    if not isinstance(model, ContrastiveConfig):
        return None
    if model.text.base is None and earlier is not None and earlier.text_tokens is not None:
        return earlier.text_tokens
    return text_tokenizer(model.text, [row.report or "" for row in studies.train])


def _read_base(model: ModelConfig) -> ModelConfig:
    """Fill in what only the folder of a pretrained decoder, or text tower, knows."""
    if isinstance(model, ContrastiveConfig):
        return replace(model, text=read_text_base(model.text))
    report = report_config(model)
    if report is None or not isinstance(report.decoder, PretrainedConfig):
        return model
    report = replace(report, decoder=read_base(report.decoder))
    return replace(model, report=report) if isinstance(model, JointConfig) else report


def _base(model: ModelConfig) -> Path | None:
    """Folder of the pretrained decoder; an earlier bundle may hold adapters of it too."""
    decoder = getattr(report_config(model), "decoder", None)
    return decoder.base if isinstance(decoder, PretrainedConfig) else None


def _tokenizer(config: RunConfig, model: ModelConfig, studies: Studies) -> Tokenizer | None:
    report = report_config(model)
    if report is None:
        return None
    if isinstance(report.decoder, PretrainedConfig):
        if config.tokenizer is not None:
            raise ConfigError("a pretrained decoder brings its tokenizer; leave --tokenizer unset.")
        assert report.decoder.base is not None
        return base_tokenizer(report.decoder.base)
    if config.tokenizer is not None:
        return Tokenizer.load(config.tokenizer)
    reports = [row.report or "" for row in studies.train]
    if config.data.questions:
        reports = [text for row in studies.train for text in _words(studies, row.series_id)]
    # Every sequence begins with the prompt: unless its words are learned with the reports', a
    # small vocabulary spells it out, a third of the sequence.
    words = re.sub(r"<\|.*?\|>", " ", DEFAULT_PROMPT) + _longest_told(report, studies)
    prompts = [words] * len(reports)
    return train_tokenizer(reports + prompts, report.decoder.vocab_size)


def _words(studies: Studies, series: str) -> list[str]:
    """Of a study's questions, in their plainest wording, with their answers."""
    return [f"{each.question} {' '.join(each.answers)}" for each in studies.questions[series]]


def _tokenizer_digest(tokenizer: Tokenizer | ReportTokens | None) -> str | None:
    if tokenizer is None:
        return None
    return hashlib.sha256(tokenizer.to_json().encode()).hexdigest()[:16]


def _complete(
    model: ModelConfig,
    studies: Studies,
    tokenizer: Tokenizer | None,
    text_tokens: ReportTokens | None,
) -> ModelConfig:
    """Fill in what only the catalog and the tokenizer know."""
    if isinstance(model, ContrastiveConfig):
        assert text_tokens is not None
        size = model.text.vocab_size if model.text.base else text_tokens.vocab_size
        return replace(model, text=replace(model.text, vocab_size=size))
    if isinstance(model, JointConfig):
        return replace(
            model,
            classification=_with_classes(model.classification, studies.labels),
            report=_with_tokens(model.report, studies, tokenizer),
        )
    if isinstance(model, ReportConfig):
        return _with_tokens(model, studies, tokenizer)
    if isinstance(model, SegmentationConfig):
        return _with_classes(model, studies.classes)
    return _with_classes(model, studies.labels)


def _with_tokens(
    model: ReportConfig, studies: Studies, tokenizer: Tokenizer | None
) -> ReportConfig:
    assert tokenizer is not None
    decoder = model.decoder
    if not isinstance(decoder, PretrainedConfig):
        decoder = replace(decoder, vocab_size=tokenizer.vocab_size)
    return with_markers(replace(model, shape=studies.spec.shape, decoder=decoder), tokenizer)


Classes = TypeVar("Classes", SegmentationConfig, ClassificationConfig)


def _with_classes(model: Classes, found: tuple[str, ...]) -> Classes:
    if model.classes not in ((), found):
        first = next((c for c in model.classes if c not in found), "in another order")
        raise ConfigError(
            f"model.classes are {len(model.classes)} ({first}, ...), the catalog has {len(found)} "
            f"({', '.join(found[:3])}, ...). Give the catalog this run is for, or take its classes "
            "with --model.classes and no value."
        )
    return replace(model, classes=found)
