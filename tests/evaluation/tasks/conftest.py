"""Small tables, written as a user would."""

import csv

import pytest


@pytest.fixture
def write(tmp_path):
    def save(name, header, rows):
        path = tmp_path / name
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *rows])
        return path

    return save


def values_of(result):
    """(protocol, name) -> value"""
    return {(score.protocol, score.name): score.value for score in result.scores}


@pytest.fixture
def scores():
    return values_of
