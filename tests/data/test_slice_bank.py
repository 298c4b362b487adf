"""A slice bank gives back what was put in, or says what is wrong."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from uvlm.data.bank import Bank
from uvlm.data.slice_bank import SliceBank, SliceKey
from uvlm.errors import ConfigError, InputError
from uvlm.preprocessing.catalog import Row

KEY = SliceKey(
    encoder="0123456789abcdef",
    spec_hash="fedcba9876543210",
    slices=4,
    width=6,
    window=(-1000.0, 1000.0),
)


def features(series: str) -> Tensor:
    """Other values for every study."""
    generator = torch.Generator().manual_seed(sum(series.encode()))
    return torch.randn(4, 6, generator=generator)


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    made = []
    for i in range(3):
        image = tmp_path / f"s{i}.b2nd"
        image.write_bytes(bytes(100 + i))
        made.append(
            Row(
                series_id=f"s{i}",
                case_id=f"s{i}",
                patient_id=f"s{i}",
                split=None,
                image=image,
                mask=None,
                labels=(),
                report="Clear.",
            )
        )
    return made


def sizes(rows: list[Row]) -> dict[str, int]:
    return {row.series_id: row.image.stat().st_size for row in rows}


def fill(folder: Path, rows: list[Row], key: SliceKey = KEY) -> list[str]:
    """What had to be made."""
    bank = SliceBank.begin(folder, key, sizes(rows))
    made = bank.missing([row.series_id for row in rows])
    for series in made:
        bank.write(series, features(series))
    return made


@pytest.fixture
def folder(tmp_path: Path, rows: list[Row]) -> Path:
    fill(tmp_path / "bank", rows)
    return tmp_path / "bank"


def test_every_study_comes_back_in_half_precision(folder: Path):
    bank = SliceBank.open(folder)
    assert (bank.slices, bank.width, bank.encoder) == (4, 6, KEY.encoder)
    for series in ("s0", "s1", "s2"):
        assert torch.equal(bank.read(series), features(series).half())


def test_loader_processes_get_the_bank_too(folder: Path):
    bank = pickle.loads(pickle.dumps(SliceBank.open(folder)))
    assert torch.equal(bank.read("s2"), features("s2").half())


def test_files_are_plain_safetensors(folder: Path):
    assert load_file(folder / "s1.safetensors")["features"].shape == (4, 6)


def test_a_bank_that_serves_is_accepted(folder: Path, rows: list[Row]):
    bank = SliceBank.open(folder)
    bank.check(rows)
    bank.check(rows[:2], slices=4, width=6, encoder=KEY.encoder, spec_hash=KEY.spec_hash)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"slices": 32}, "holds 4 slices of each study, this run takes 32.*--slices 32"),
        ({"width": 768}, "have 6 numbers each, the model takes 768.*slice_width to 6"),
        ({"encoder": "f" * 16}, "2D encoder 0123456789abcdef, the model was trained with ffff"),
    ],
)
def test_another_count_width_or_encoder_is_refused(folder: Path, rows, asked, message):
    with pytest.raises(InputError, match=rf"bank: .*{message}"):
        SliceBank.open(folder).check(rows, **asked)


def test_missing_studies_are_refused_by_name(folder: Path, rows: list[Row]):
    bank = SliceBank.open(folder)
    unknown = replace(rows[0], series_id="s9")
    with pytest.raises(InputError, match=r"1 of 4 studies are missing.*is s9.*uvlm slices"):
        bank.check([*rows, unknown])
    (folder / "s1.safetensors").unlink()
    with pytest.raises(InputError, match="1 of 3 studies are missing, the first is s1"):
        bank.check(rows)
    for series in ("s1", "s9"):
        with pytest.raises(InputError, match=rf"{series}.safetensors: there are no features"):
            bank.read(series)


def test_a_volume_of_another_size_is_refused_then_made_anew(folder: Path, rows: list[Row]):
    rows[1].image.write_bytes(bytes(99))
    with pytest.raises(InputError, match=r"s1 were cut from a file of 101 bytes.*now has 99"):
        SliceBank.open(folder).check(rows)
    assert fill(folder, rows) == ["s1"]
    SliceBank.open(folder).check(rows)


def test_slices_of_a_finer_preparation_of_the_same_series_serve_if_the_run_says_so(
    folder: Path, rows: list[Row]
):
    rows[1].image.write_bytes(bytes(99))
    SliceBank.open(folder).check(rows, spec_hash="another grid")
    with pytest.raises(InputError, match="cut from a file"):
        SliceBank.open(folder).check(rows, spec_hash=KEY.spec_hash)


def test_only_what_is_missing_is_made_and_the_bank_grows(folder: Path, rows: list[Row]):
    before = SliceBank.open(folder).fingerprint
    assert fill(folder, rows) == []
    assert SliceBank.open(folder).fingerprint == before
    more = replace(rows[0], series_id="a new one")
    assert fill(folder, [more]) == ["a new one"]
    SliceBank.open(folder).check([*rows, more])
    assert SliceBank.open(folder).fingerprint != before


@pytest.mark.parametrize("cut", [1, 40, 10_000])
def test_a_file_cut_short_counts_as_missing(folder: Path, rows: list[Row], cut: int):
    path = folder / "s0.safetensors"
    path.write_bytes(path.read_bytes()[:-cut])
    bank = SliceBank.open(folder)
    with pytest.raises(InputError, match=r"s0.safetensors: cannot be read.*Delete this file"):
        bank.read("s0")
    assert fill(folder, rows) == ["s0"]


def test_a_changed_byte_is_noticed(folder: Path):
    path = folder / "s0.safetensors"
    content = bytearray(path.read_bytes())
    content[content.index(features("s0").half().numpy().tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="s0 do not match their checksum"):
        SliceBank.open(folder).read("s0")


def test_a_file_of_another_shape_is_refused(folder: Path):
    wrong = {"features": torch.zeros(2, 6).half(), "crc32": torch.zeros(1, dtype=torch.int64)}
    save_file(wrong, folder / "s0.safetensors")
    with pytest.raises(InputError, match=r"holds \(2, 6\) torch.float16, the bank has \(4, 6\)"):
        SliceBank.open(folder).read("s0")


@pytest.mark.parametrize(
    ("series", "values", "message"),
    [
        ("s9", torch.zeros(4, 6), "not begun for s9"),
        ("s0", torch.zeros(3, 6), r"features of \(3, 6\) .*has \(4, 6\)"),
        ("s0", torch.full((4, 6), 1e6), "s0 are not finite or too large"),
    ],
)
def test_what_does_not_fit_is_not_written(folder: Path, series, values, message):
    with pytest.raises(InputError, match=message):
        SliceBank.open(folder).write(series, values)
    assert torch.equal(SliceBank.open(folder).read("s0"), features("s0").half())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "f" * 16}, "encoder is 0123456789abcdef there, ffff"),
        ({"slices": 8}, "slices is 4 there, 8 here"),
        ({"window": (0.0, 1.0)}, "window is .*there"),
    ],
)
def test_going_on_needs_the_same_features(folder: Path, rows, changes, message):
    with pytest.raises(InputError, match=message):
        fill(folder, rows, replace(KEY, **changes))
    SliceBank.open(folder).check(rows)


def test_no_bank_a_damaged_and_another_one_are_refused(tmp_path: Path, folder: Path):
    with pytest.raises(InputError, match=r"no slice bank.*uvlm slices"):
        SliceBank.open(tmp_path / "nothing")
    index = folder / "index.json"
    content = json.loads(index.read_text())
    for damaged in ("{", "[1]", json.dumps(content | {"image_bytes": 3})):
        index.write_text(damaged)
        with pytest.raises(InputError, match=r"index.json: unreadable.*make it again"):
            SliceBank.open(folder)
    index.write_text('{"format": 1, "key": {}}')
    with pytest.raises(InputError, match=r"goes to --data.bank"):
        SliceBank.open(folder)


def test_a_feature_bank_reader_refuses_it(folder: Path):
    with pytest.raises(InputError, match=r"index.json"):
        Bank.open(folder)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, rows: list[Row]):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="something else"):
        fill(tmp_path, rows)
    assert not (tmp_path / "index.json").exists()


def test_a_series_that_could_leave_the_folder_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="could not be a file name"):
        SliceBank.begin(tmp_path / "bank", KEY, {"../s0": 1})


def test_leftovers_of_killed_writers_go_but_not_what_others_write(folder: Path):
    for series in ("s0", "s1"):
        (folder / f".{series}.safetensors.123.tmp").write_bytes(b"half")
    SliceBank.open(folder).clear_leftovers(["s0"])
    assert [p.name for p in folder.glob(".*.tmp")] == [".s1.safetensors.123.tmp"]


@pytest.mark.parametrize("changes", [{"slices": 0}, {"width": 0}, {"window": (5.0, 5.0)}])
def test_impossible_keys_are_refused(changes):
    with pytest.raises(ConfigError):
        replace(KEY, **changes)
