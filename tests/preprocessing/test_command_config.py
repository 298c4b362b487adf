"""A command module's JSON is read strictly, and what is wrong is said with the file's name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources

import pytest

from uvlm.config import to_dict
from uvlm.errors import ConfigError
from uvlm.preprocessing.abdomen_command import AbdomenConfig
from uvlm.preprocessing.command_config import load_config
from uvlm.preprocessing.preprocess_ct_rate_cls_report import DEFAULT, CtRateConfig
from uvlm.preprocessing.preprocess_rexgrounding_seg import RexGroundingConfig


@dataclass(frozen=True, kw_only=True)
class Small:
    size: int = 3

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError("size must be positive.")


@pytest.mark.parametrize(
    ("config", "default"),
    [
        (CtRateConfig, DEFAULT),
        (AbdomenConfig, "abdomen_atlas_config.json"),
        (RexGroundingConfig, "rexgrounding_ct_config.json"),
    ],
)
def test_a_shipped_file_holds_every_setting_with_its_default(config, default):
    assert load_config(config, None, default) == config()
    text = (resources.files("uvlm.preprocessing") / "configs" / default).read_text()
    assert json.loads(text) == json.loads(json.dumps(to_dict(config())))


def test_settings_that_are_left_out_keep_their_defaults(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"shape": [12, 24, 24]}')
    assert load_config(CtRateConfig, path, DEFAULT) == CtRateConfig(shape=(12, 24, 24))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"sise": 1}', r"unknown key 'sise'; did you mean 'size'\?"),
        ('{"merge_lut": {}}', r"unknown key 'merge_lut'; known: size"),
        ('{"size": "1"}', r"\.size: expected int, got '1'"),
        ('{"size": 1, "size": 2}', "'size' is set twice"),
        ('{"size": 0}', "size must be positive"),
        ("[]", "expected a table of settings, got list"),
        ('{"size": 1', "not usable as JSON"),
        ("\x00", "not usable as JSON"),
    ],
)
def test_anything_else_is_refused_with_the_name_of_the_file(tmp_path, text, message):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as refused:
        load_config(Small, path, DEFAULT)
    assert str(refused.value).startswith(str(path))
    assert str(refused.value).count(str(path)) == 1


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name):
    with pytest.raises(
        ConfigError, match=r"cannot be read .* Check the path given to --config-path"
    ):
        load_config(Small, tmp_path / name, DEFAULT)
