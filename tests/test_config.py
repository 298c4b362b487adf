"""Configurations survive the way to JSON and back, and nothing misspelt slips through."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uvlm.config import LATER, config_hash, from_dict, to_dict
from uvlm.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Part:
    width: int = 4
    rate: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Whole:
    name: str
    part: Part = Part()
    shape: tuple[int, int, int] = (1, 2, 3)
    steps: tuple[int, ...] = ()
    clip: tuple[float, float] | None = None
    mode: Literal["a", "b"] = "a"
    where: Path | None = None
    flag: bool = False
    table: dict[str, int] | None = None
    anything: Any = None


configs = st.builds(
    Whole,
    name=st.text(),
    part=st.builds(Part, width=st.integers(), rate=st.floats(allow_nan=False)),
    shape=st.tuples(*[st.integers()] * 3),
    steps=st.lists(st.integers()).map(tuple),
    clip=st.none() | st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 2),
    mode=st.sampled_from(["a", "b"]),
    where=st.none() | st.just(Path("a/b")),
    flag=st.booleans(),
    table=st.none() | st.dictionaries(st.text(), st.integers()),
)


@given(configs)
def test_every_config_survives_json(config):
    assert from_dict(Whole, json.loads(json.dumps(to_dict(config)))) == config


@given(configs)
def test_the_hash_depends_on_the_values_only(config):
    assert config_hash(config) == config_hash(from_dict(Whole, to_dict(config)))
    assert config_hash(config) != config_hash(replace(config, name=config.name + "x"))


def test_the_hash_does_not_change_between_versions():
    assert config_hash(Whole(name="x")) == config_hash(to_dict(Whole(name="x")))
    assert config_hash({"b": 1, "a": [1, 2]}) == "94a786c3662bc7be"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "x", "prat": {}}, "unknown key 'prat'; did you mean 'part'"),
        ({"name": "x", "zzz": 1}, "unknown key 'zzz'; known: name"),
        ({"name": "x", "part": {"widht": 1}}, r"Whole\.part: unknown key 'widht'"),
        ({}, "name"),
        ({"name": 3}, r"Whole\.name: expected str, got 3"),
        ({"name": "x", "shape": [1, 2]}, "expected 3 values, got 2"),
        ({"name": "x", "shape": 3}, "expected a list"),
        ({"name": "x", "shape": [1, 2, 2.5]}, r"shape\[2\]: expected int, got 2.5"),
        ({"name": "x", "mode": "c"}, "expected one of"),
        ({"name": "x", "flag": 1}, "expected bool, got 1"),
        ({"name": "x", "part": {"width": True}}, "expected int, got True"),
        ({"name": "x", "part": 3}, "expected a table"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(values, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(Whole, values)


def test_a_whole_number_is_a_fraction_too():
    rate = from_dict(Part, {"rate": 1}).rate
    assert (rate, type(rate)) == (1.0, float)


@dataclass(frozen=True, kw_only=True)
class Grown(Part):
    crop: bool = field(default=False, metadata=LATER)


def test_a_later_field_is_left_out_while_it_has_its_default():
    assert config_hash(Grown()) == config_hash(Part())
    assert from_dict(Grown, to_dict(Part())) == Grown()
    assert config_hash(Grown(crop=True)) != config_hash(Part())
    assert from_dict(Grown, to_dict(Grown(crop=True))) == Grown(crop=True)
