"""The log averages, survives a resume without doubled rows, and the picture is drawn."""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib
import pytest

from uvlm.training.hooks import History


def rows(out: Path) -> list[tuple[str, str, float]]:
    with (out / "log.csv").open(newline="") as file:
        return [(r["step"], r["name"], float(r["value"])) for r in csv.DictReader(file)]


def test_the_log_averages_between_its_rows(tmp_path: Path):
    history = History(tmp_path, every=2, steps=3, first_step=1)
    for step, loss in ((1, 1.0), (2, 3.0), (3, 7.0)):
        history(step, {"loss": loss})
    history.close()
    assert rows(tmp_path) == [("2", "loss", 2.0), ("3", "loss", 7.0)]


def test_rows_after_the_checkpoint_are_dropped_on_resuming(tmp_path: Path):
    first = History(tmp_path, every=1, steps=9, first_step=1)
    for step in range(1, 6):
        first(step, {"loss": float(step)})
    first.close()
    second = History(tmp_path, every=1, steps=9, first_step=4)
    second(4, {"loss": 40.0})
    second.close()
    assert [(step, value) for step, _, value in rows(tmp_path)] == [
        ("1", 1.0),
        ("2", 2.0),
        ("3", 3.0),
        ("4", 40.0),
    ]


def test_the_picture_is_drawn_without_matplotlibs_global_state(tmp_path: Path):
    import matplotlib.pyplot as plt

    backend = matplotlib.get_backend()
    history = History(tmp_path, every=1, steps=2, first_step=1)
    history(1, {"loss": 1.0})
    assert not (tmp_path / "progress.png").exists()
    history(2, {"loss": 0.5, "val/dice": 0.3, "val/dice/liver": float("nan")})
    history.close()
    assert (tmp_path / "progress.png").read_bytes().startswith(b"\x89PNG")
    assert (matplotlib.get_backend(), plt.get_fignums()) == (backend, [])


def test_what_was_collected_before_a_kill_is_in_the_next_row(tmp_path: Path):
    first = History(tmp_path, every=3, steps=9, first_step=1)
    first(1, {"loss": 1.0})
    first(2, {"loss": 2.0})
    kept = dict(first.recent)
    first.close()
    second = History(tmp_path, every=3, steps=9, first_step=3, recent=kept)
    second(3, {"loss": 6.0})
    second.close()
    assert rows(tmp_path) == [("3", "loss", 3.0)]


@pytest.mark.parametrize("tail", ["2,lo", "2,loss,0.1", '2,"loss', "\0\0\0\0"])
def test_a_row_that_a_kill_cut_short_is_dropped(tmp_path: Path, tail: str):
    (tmp_path / "log.csv").write_text("step,name,value\r\n1,loss,0.5\r\n" + tail)
    history = History(tmp_path, every=1, steps=9, first_step=3)
    history.close()
    assert rows(tmp_path) == [("1", "loss", 0.5)]


def test_an_empty_log_is_begun_anew(tmp_path: Path):
    (tmp_path / "log.csv").write_text("")
    History(tmp_path, every=1, steps=9, first_step=3).close()
    assert rows(tmp_path) == []
