"""The runs of the paper's tables by name, each a line away from another.

    ct_rate/seg_fl-cls-rep+sc
    dataset tasks in order   what differs

The last task is the one the recipe trains. Those before it name the recipe whose bundle it starts
from, here `ct_rate/seg_fl-cls`. Without a variant the encoder is frozen in report runs, nothing is
injected, 384 visual tokens enter, and the decoder is the one of 0.1B from scratch: the reading of
Table 5 that its numbers allow. The paper leaves open how long runs take; lengths are the authors'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from uvlm.errors import BundleError, ConfigError
from uvlm.models.config import (
    ClassificationConfig,
    DecoderConfig,
    InjectionConfig,
    PretrainedConfig,
    ReportConfig,
    SegmentationConfig,
    authors,
)
from uvlm.registry import ABDOMEN_LABELS, CT_RATE_LABELS, OWN_VOCABULARY
from uvlm.training.config import LossConfig, RunConfig
from uvlm.training.recipes import classification, report, segmentation

__all__ = ["check_start", "earlier_recipe", "paper_run"]

SCOPES = {"seg_c": "coarse", "seg_cl": "coarse+lesions", "seg_fl": "fine+lesions"}
"""Task of a name -> what `uvlm prepare ... --scopes` calls its classes."""

LABELS = {"ct_rate": CT_RATE_LABELS, "abdomen_atlas": ABDOMEN_LABELS}

REGION = {"ct_rate": "chest", "abdomen_atlas": "abdomen"}
"""Dataset -> body region of its catalogs, and of the bundles trained on them."""


def paper_run(name: str) -> RunConfig:
    """The run called `name`, one of `registry.PAPER_ROWS`."""
    dataset, tasks, variants = _parts(name)
    if tasks[-1] == "cls":
        config = classification()
        config = replace(config, model=ClassificationConfig(classes=LABELS[dataset]))
    elif tasks[-1] == "rep":
        # Row 7 of Table 5, with Qwen3's vocabulary as in the paper: three quarters of the 0.1B.
        model = ReportConfig(decoder=DecoderConfig(), injection=InjectionConfig(layers=()))
        config = replace(report(), model=model)
    else:
        config = segmentation()
        config = replace(config, model=SegmentationConfig(classes=_classes(dataset, tasks[-1])))
    for variant in variants:
        config = VARIANTS[variant](config)
    return config


def _injected(run: RunConfig) -> RunConfig:
    """SC: stage N-j+1 enters before layer j (Eq. 5)."""
    return _changed(run, injection=replace(_report(run).injection, layers=None))


def _more_tokens(run: RunConfig) -> RunConfig:
    """VT 3,072: the stage before the deepest gives the visual tokens."""
    return _changed(run, injection=replace(_report(run).injection, reference_stage=-2))


def _lora(run: RunConfig) -> RunConfig:
    """Q4B-L: low-rank adapters on Qwen3-4B."""
    run = replace(run, loop=replace(run.loop, activation_checkpointing=True))
    return _changed(run, decoder=PretrainedConfig(tuning="lora"))


def _full(run: RunConfig) -> RunConfig:
    """Q4B-F: all weights of Qwen3-4B."""
    return _changed(_lora(run), decoder=PretrainedConfig(tuning="full"))


def _unfrozen(run: RunConfig) -> RunConfig:
    """No Frz: the encoder learns on, at a tenth of the rate."""
    return replace(run, optim=replace(run.optim, encoder_lr=0.1))


def _authors(run: RunConfig) -> RunConfig:
    """As the published code trains: its network, its loss over the prompt, one study per step."""
    model = _report(run)
    if model.injection.layers == ():  # as shipped; with injection, eight as in the paper
        model = replace(model, decoder=DecoderConfig(layers=5))
    data = replace(run.data, batch_size=1)
    return replace(run, model=authors(model), loss=LossConfig(prompt=True), data=data)


VARIANTS: dict[str, Callable[[RunConfig], RunConfig]] = {
    "sc": _injected,
    "vt3072": _more_tokens,
    "q4b_lora": _lora,
    "q4b_full": _full,
    "unfrozen": _unfrozen,
    "authors": _authors,
}
"""What follows a `+` in a name."""


def earlier_recipe(name: str) -> str | None:
    """The recipe whose bundle `name` starts from; None for the first task of a chain."""
    dataset, tasks, _ = _parts(name)
    return f"{dataset}/{'-'.join(tasks[:-1])}" if len(tasks) > 1 else None


def check_start(
    name: str, config: RunConfig, *, smoke: bool = False, vocabulary: bool = True
) -> None:
    """Refuse a run of the paper that lacks what makes it that run.

    Args:
        name: one of `registry.PAPER_ROWS`
        config: its settings after those of the command line
        smoke: a trial on synthetic studies, which needs only the base model
        vocabulary: whether reports are read; a feature bank holds none

    Raises:
        ConfigError: it starts from no bundle, a tokenizer or a base model is missing, or a catalog
            is of another body region.
        BundleError: `init` is no bundle, or is known to be that of another body region or chain of
            tasks.
        CatalogError: a catalog's dataset.json is damaged.
    """
    decoder = getattr(config.model, "decoder", None)
    if isinstance(decoder, PretrainedConfig) and decoder.base is None:
        raise ConfigError(
            f"{name} trains a pretrained model on. Name its folder (the paper: Qwen3-4B) with "
            "--model.decoder.base."
        )
    if smoke:
        return
    _check_region(name, config.data.catalog)
    before = earlier_recipe(name)
    if before is not None:
        _check_init(name, before, config.init)
    if not vocabulary:
        return
    paper = DecoderConfig().vocab_size
    if isinstance(decoder, DecoderConfig) and (decoder.vocab_size, config.tokenizer) == (
        paper,
        None,
    ):
        raise ConfigError(
            f"{name} has the vocabulary of the paper, the {paper:,} entries of Qwen3. Give its "
            "tokenizer.json with --tokenizer, or learn a vocabulary from the reports with "
            f"--model.decoder.vocab-size {OWN_VOCABULARY}."
        )


def _check_region(name: str, catalogs: Sequence[Path]) -> None:
    """Every catalog shows the region of the recipe's dataset, as far as it says so."""
    from uvlm.preprocessing.catalog import read_region

    wanted = REGION[_parts(name)[0]]
    for path in catalogs:
        found = read_region(path.parent)
        if found not in (wanted, "unknown"):
            raise ConfigError(
                f"{name} is a run on the {wanted}, the catalog {path} is of the {found}. Give a "
                f"catalog of the {wanted}, or train a recipe of the {found}."
            )


def _check_init(name: str, before: str, init: Path | None) -> None:
    """The bundle a chain goes on from has learned the tasks before, as far as it says so."""
    from uvlm.models.bundle_files import ENCODERS, read_bundle_info

    dataset, tasks, _ = _parts(before)
    if init is None:
        raise ConfigError(
            f"{name} starts from what {before} has learned. Train {before} first and give its "
            f"bundle with --init; from nothing, it would be {dataset}/{_parts(name)[1][-1]}."
        )
    if not init.is_dir():  # a checkpoint file says what it holds only when it is read
        return
    parts = read_bundle_info(init).parts
    last = [part for part in ENCODERS if part in parts][-1]
    regions = {part.region for part in parts.values()} - {REGION[dataset], "unknown"}
    wanted = "classification" if tasks[-1] == "cls" else "segmentation"
    first = _first_task(before, parts)
    labels = _labels_of(parts)
    if regions:
        region = " and ".join(sorted(regions))
        found = f"it was trained on the {region}; {name} is a run on the {REGION[dataset]}"
    elif last not in (wanted, "encoder"):  # an encoder alone does not say what it has learned
        found = f"its last part is {last}; {name} starts from a {wanted} part"
    elif labels not in (dataset, None):
        found = f"it has the labels of {labels}; {name} starts from {before}"
    elif first != f"{dataset}/{tasks[0]}":
        found = f"its first task was {first}; {name} starts from {before}"
    else:
        return
    raise BundleError.about(init, found, f"Give the bundle of {before}.")


def _first_task(before: str, parts: Mapping[str, Any]) -> str:
    """Recipe a bundle began with, of either dataset; the first of `before` if it does not say, or
    has classes of its own."""
    dataset, tasks, _ = _parts(before)
    told = f"{dataset}/{tasks[0]}"
    if "segmentation" not in parts:
        return told
    known = {_classes(data, task): f"{data}/{task}" for data in LABELS for task in SCOPES}
    own = told if tasks[0] in SCOPES else "a segmentation"
    return known.get(parts["segmentation"].config.classes, own)


def _labels_of(parts: Mapping[str, Any]) -> str | None:
    """Dataset whose labels a bundle has learned; None if it has none or its own."""
    if "classification" not in parts:
        return None
    known = {classes: dataset for dataset, classes in LABELS.items()}
    return known.get(parts["classification"].config.classes)


def _parts(name: str) -> tuple[str, list[str], list[str]]:
    """(dataset, tasks, variants)"""
    dataset, rest = name.split("/")
    tasks, *variants = rest.split("+")
    return dataset, tasks.split("-"), variants


def _classes(dataset: str, task: str) -> tuple[str, ...]:
    """Names of the classes, the first with value 1; imported late, the tables are long."""
    if dataset == "ct_rate":
        from uvlm.preprocessing.sources.rexgrounding_classes import scope_named

        return tuple(scope_named(SCOPES[task]).classes)
    from uvlm.preprocessing.sources.abdomen_classes import scopes_of

    return tuple(scopes_of([SCOPES[task]])[0].classes)


def _report(run: RunConfig) -> ReportConfig:
    assert isinstance(run.model, ReportConfig)
    return run.model


def _changed(run: RunConfig, **settings: Any) -> RunConfig:
    """`run` with other settings of its report model."""
    return replace(run, model=replace(_report(run), **settings))
