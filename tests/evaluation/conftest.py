"""Fixtures of several files here."""

import pytest

from tests.evaluation.systems import IDS, PATIENTS, VALUES, measures
from uvlm.evaluation.result_files import read_result, write_result
from uvlm.evaluation.results import build_result


@pytest.fixture
def stored(tmp_path):
    def write(name, values=VALUES, ids=IDS, patients=PATIENTS, task="report", **options):
        result = build_result(
            task=task, ids=ids, patients=patients, measures=measures(values), **options
        )
        write_result(result, tmp_path / name)
        return read_result(tmp_path / name)

    return write
