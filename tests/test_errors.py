"""One tree, one form of message, one exit code each."""

from __future__ import annotations

import inspect

import pytest

from uvlm import errors
from uvlm.errors import ImageError, InputError, MissingExtraError, UvlmError


def test_every_error_is_in_the_tree():
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), UvlmError)


def test_every_error_class_is_exported():
    classes = [
        name
        for name, c in vars(errors).items()
        if inspect.isclass(c) and c.__module__ == errors.__name__
    ]
    assert sorted(classes) == sorted(errors.__all__)


@pytest.mark.parametrize("name", ["ImageError", "CatalogError", "BundleError", "ConfigError"])
def test_the_users_mistakes_exit_with_2_and_are_value_errors(name):
    error = getattr(errors, name)("x")
    assert error.exit_code == 2
    assert isinstance(error, InputError)
    assert isinstance(error, ValueError)


@pytest.mark.parametrize("name", ["MissingExtraError", "TrainingDivergedError"])
def test_other_failures_exit_with_1(name):
    assert getattr(errors, name).exit_code == 1


@pytest.mark.parametrize("found", ["an empty file", "an empty file."])
def test_a_message_names_file_finding_and_remedy(found):
    error = ImageError.about("a.nii", found, "Copy it again.")
    assert isinstance(error, ImageError)
    assert str(error) == "a.nii: an empty file. Copy it again."


def test_a_missing_extra_is_answered_with_the_line_that_installs_it():
    error = MissingExtraError("pycocoevalcap", "metrics")
    assert "pip install 'uvlm[metrics]'" in str(error)
    assert isinstance(error, ImportError)
