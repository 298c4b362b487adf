"""The 49 classes, their groups, and the structures and categories that become them."""

import json

import pytest

from uvlm.errors import ConfigError
from uvlm.preprocessing.sources.rexgrounding_classes import (
    CATEGORIES,
    CLASSES,
    COARSE,
    LESIONS,
    SCOPES,
    STRUCTURES,
    UNPLACED,
    category_of,
    lesion_scope,
    scope_named,
)


def test_there_are_34_structures_and_14_lesions():
    assert list(CLASSES.values()) == list(range(1, 49))
    assert list(LESIONS.values()) == list(range(35, 49))
    assert CLASSES["Gallbladder"] == 4
    assert CLASSES["Pulmonary artery"] == 34


def test_names_and_values_are_those_of_the_released_dataset(real_data):
    path = real_data / "uvlm_examples/Dataset200_UVLM_ChestSeg_Test/dataset.json"
    labels = json.loads(path.read_text())["labels"]
    assert labels == {"background": 0, **CLASSES}


def test_every_structure_of_totalsegmentator_has_a_place_or_is_known_to_have_none(real_data):
    path = real_data / "totalsegmentator/labels_total_v2.json"
    names = set(json.loads(path.read_text()).values())
    assert names == (set(STRUCTURES) | set(UNPLACED)) - {"pulmonary_artery"}
    assert set(STRUCTURES.values()) == set(range(1, 35))


def test_sides_stay_apart():
    for name, value in STRUCTURES.items():
        known = next(each for each, number in CLASSES.items() if number == value)
        if known.endswith((" R", " L")):
            assert name.split("_")[-1] == {"R": "right", "L": "left"}[known[-1]]


@pytest.mark.parametrize(("name", "count"), [*zip(SCOPES, (15, 29, 48), strict=True)])
def test_scopes_number_every_value_without_gaps(name, count):
    scope = scope_named(name)
    assert sorted(scope.classes.values()) == list(range(1, count + 1))
    assert sorted(scope.table) == list(range(1, 49))
    assert set(scope.table.values()) == set(scope.classes.values())


def test_groups_hold_every_structure_once():
    grouped = [each for parts in COARSE.values() for each in parts]
    assert sorted(grouped) == sorted(name for name, value in CLASSES.items() if value < 35)


def test_lesions_are_lung_in_the_coarse_scope_and_classes_in_the_others():
    coarse, both = scope_named("coarse"), scope_named("coarse+lesions")
    assert {coarse.table[value] for value in LESIONS.values()} == {coarse.classes["lung"]}
    assert both.table[LESIONS["2d"]] == both.classes[CATEGORIES["2d"]]
    assert both.table[CLASSES["Gallbladder"]] == both.classes["liver"]


def test_without_anatomy_the_lesions_are_numbered_from_1():
    scope = lesion_scope()
    assert scope.classes[CATEGORIES["1a"]] == scope.table[35] == 1
    assert len(scope.classes) == len(scope.table) == 14


def test_unknown_scopes_are_refused():
    with pytest.raises(ConfigError, match="known: coarse"):
        scope_named("seg_full")


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("2d", "2d"),
        ("2D", "2d"),
        ("1a. Bronchial wall thickening", "1a"),
        ("Pulmonary nodules and masses", "2d"),
        ("Atelectasis / consolidation", "2b"),
        ("3a", None),
        ("12", None),
        ("10c", None),
        ("2i", None),
        ("2d: nodules", "2d"),
        ("2d, 2e", None),
        ("2d and 2e", None),
        ("1a-b", None),
        ("cardiomegaly", None),
        ("", None),
    ],
)
def test_categories_are_codes_or_names(given, code):
    assert category_of(given) == code
