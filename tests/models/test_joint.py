"""Two tasks over one encoder: stored once, complete in each part."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.models.tiny import ENCODER, REPORT, SHAPE, random_tokens
from uvlm.errors import ConfigError
from uvlm.models.config import ClassificationConfig, EncoderConfig, JointConfig
from uvlm.models.joint import JointModel
from uvlm.models.uvlm import ClassificationModel, ReportModel

CONFIG = JointConfig(
    classification=ClassificationConfig(encoder=ENCODER, classes=("a", "b"), heads=2),
    report=REPORT,
)
IMAGE = torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model() -> JointModel:
    torch.manual_seed(0)
    return JointModel(CONFIG).eval()


def test_the_encoder_is_registered_once(model: JointModel):
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    assert sorted(names) == sorted(dict(model.named_parameters()))
    encoder = {name for name in model.state_dict() if "encoder." in name}
    assert encoder == {f"encoder.{name}" for name in model.encoder.state_dict()}


def test_both_parts_see_the_one_encoder(model: JointModel):
    assert model.classification.encoder is model.report.encoder is model.encoder
    twin = copy.deepcopy(model)
    assert twin.classification.encoder is twin.encoder is not model.encoder


def test_a_part_is_a_whole_model_that_loads_into_one_of_its_own(model: JointModel):
    parts = model.parts()
    fresh = {
        "classification": ClassificationModel(CONFIG.classification).eval(),
        "report": ReportModel(CONFIG.report).eval(),
    }
    for name, module in fresh.items():
        assert type(parts[name]) is type(module)
        module.load_state_dict(parts[name].state_dict(), strict=True)
    tokens = random_tokens(REPORT, batch=1)
    with torch.no_grad():
        assert torch.equal(fresh["classification"](IMAGE), model.classification(IMAGE))
        assert torch.equal(fresh["report"](IMAGE, tokens), model.report(IMAGE, tokens))
        assert torch.equal(parts["report"](IMAGE, tokens), model.report(IMAGE, tokens))


def test_asking_for_the_parts_leaves_the_model_as_it_was(model: JointModel):
    before = list(model.state_dict())
    model.parts()
    assert list(model.state_dict()) == before


def test_weights_given_to_the_encoder_reach_both_parts(model: JointModel):
    state = {name: torch.ones_like(value) for name, value in model.encoder.state_dict().items()}
    model.encoder.load_state_dict(state)
    for part in model.parts().values():
        weights = part.get_submodule("encoder").state_dict().values()
        assert all(bool((value == 1).all()) for value in weights)


def test_two_encoder_configurations_are_refused():
    other = EncoderConfig(features=(4, 6, 8, 8), strides=(1, 2, 2, 2), blocks=(1, 1, 1, 1))
    with pytest.raises(ConfigError, match="share one encoder"):
        JointConfig(classification=ClassificationConfig(encoder=other, heads=2), report=REPORT)
