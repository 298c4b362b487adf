"""Validate a finished run on all validation studies of its fold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from uvlm.models.bundle import load_bundle
from uvlm.models.config import JointConfig, PretrainedConfig
from uvlm.models.joint import JointModel
from uvlm.training.build import build_task, validator
from uvlm.training.config import RunConfig
from uvlm.training.folder import check_folder
from uvlm.training.session import Session, open_session, report_config

__all__ = ["validate"]


def validate(config: RunConfig, bundle: Path) -> dict[str, float]:
    """Metrics of the bundle's weights; every process of a distributed run calls this.

    Args:
        config: of the run that has written the bundle

    Raises:
        BundleError, CatalogError, InputError: the bundle, the catalogs or the settings are no
            longer as they were.
    """
    check_folder(config, resume=True)
    report = report_config(config.model)
    base = report.decoder.base if report and isinstance(report.decoder, PretrainedConfig) else None
    loaded = load_bundle(bundle, base=base)
    whole = replace(config.loop, validate_studies=2**31)
    # The encoder is the bundle's; the earlier stage may be gone.
    session = open_session(replace(config, init=None, loop=whole), bundle.parent)
    if loaded.tokenizer is not None:
        session = replace(session, tokenizer=loaded.tokenizer)
    task = build_task(session, _model(session, loaded.modules))
    task.to(session.accelerator.device)
    return validator(session, task)()


def _model(session: Session, modules: dict[str, Any]) -> Any:
    if not isinstance(session.model_config, JointConfig):
        return modules[session.config.task]
    model = JointModel(session.model_config)
    for name, module in model.parts().items():
        module.load_state_dict(modules[name].state_dict())
    return model
