"""Datasets of nnUNet_preprocessed, by number or name."""

from __future__ import annotations

import pytest

from uvlm.errors import ConfigError, InputError
from uvlm.nnunet.dataset import dataset_folder, read_json, write_new

NAME = "Dataset145_Toy"


def test_a_dataset_is_found_by_number_or_name(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    (tmp_path / NAME).mkdir()
    assert dataset_folder("145") == dataset_folder(NAME) == tmp_path / NAME
    with pytest.raises(InputError, match="there is no dataset 7"):
        dataset_folder("7")
    (tmp_path / "Dataset145_Other").mkdir()
    with pytest.raises(InputError, match=r"the number 145: Dataset145_Other, Dataset145_Toy"):
        dataset_folder("145")
    with pytest.raises(ConfigError, match="is no dataset"):
        dataset_folder("../other")
    monkeypatch.delenv("nnUNet_preprocessed")
    with pytest.raises(ConfigError, match="nnUNet_preprocessed is not set"):
        dataset_folder("145")


def test_tables_are_written_once_and_read_with_care(tmp_path):
    path = tmp_path / "plan.json"
    with pytest.raises(InputError, match=r"no such file\. Plan first"):
        read_json(path, "Plan first.")
    write_new(path, {"a": 1})
    write_new(path, {"a": 1})
    assert read_json(path, "") == {"a": 1}
    with pytest.raises(InputError, match="exists with other content"):
        write_new(path, {"a": 2})
    for wrong, message in (("[1]", "not a table"), ("{", "not JSON")):
        path.write_text(wrong)
        with pytest.raises(InputError, match=message):
            read_json(path, "")
