"""A bank gives back what was put in, or says what is wrong; a killed writer leaves no half."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from uvlm.data.bank import Bank, missing_shards
from uvlm.data.bank_files import (
    BankIndex,
    BankKey,
    clear_leftovers,
    read_index,
    records_per_shard,
    shard_path,
    write_index,
    write_shard,
)
from uvlm.data.config import AugmentConfig
from uvlm.errors import InputError
from uvlm.preprocessing.catalog import Row

AUGMENT = AugmentConfig()
KEY = BankKey(
    encoder="0123456789abcdef",
    spec_hash="fedcba9876543210",
    token_grid=(1, 2, 3),
    padding="end",
    stages=((2, 4), (3, 8)),
    augment=AUGMENT,
)
PLAIN = replace(KEY, augment=None)


def record(series: str, view: int) -> dict[int, Tensor]:
    """Other values for every record."""
    generator = torch.Generator().manual_seed(sum(series.encode()) * 10 + view)
    return {
        stage: torch.randn(KEY.tokens, channels, generator=generator).half()
        for stage, channels in KEY.stages
    }


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    """Five studies; the fourth and fifth are for validation."""
    made = []
    for i in range(5):
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


@pytest.fixture
def index(rows: list[Row]) -> BankIndex:
    """3 x 3 + 2 = 11 records in shards of 4."""
    return BankIndex(
        key=KEY,
        views={row.series_id: 3 if i < 3 else 1 for i, row in enumerate(rows)},
        image_bytes={row.series_id: row.image.stat().st_size for row in rows},
        per_shard=4,
    )


def fill(folder: Path, index: BankIndex) -> Path:
    write_index(folder, index)
    for number in missing_shards(folder, index):
        first = number * index.per_shard
        records = index.records[first : first + index.per_shard]
        write_shard(folder, number, index.key, [record(*r) for r in records])
    return folder


@pytest.fixture
def folder(tmp_path: Path, index: BankIndex) -> Path:
    return fill(tmp_path / "bank", index)


def test_every_record_comes_back_as_it_was(folder: Path, index: BankIndex):
    bank = Bank.open(folder)
    assert len(index.records) == 11
    for series, view in index.records:
        expected, got = record(series, view), bank.read(series, view)
        assert got.keys() == {2, 3}
        assert all(torch.equal(expected[stage], got[stage]) for stage in expected)


def test_loader_processes_get_the_bank_too(folder: Path):
    bank = pickle.loads(pickle.dumps(Bank.open(folder)))
    assert torch.equal(bank.read("s2", 2)[3], record("s2", 2)[3])


def test_only_the_stages_asked_for_are_read(folder: Path):
    assert Bank.open(folder).only((3, 9)).read("s0").keys() == {3}


def test_shards_are_plain_safetensors(folder: Path):
    tensors = load_file(shard_path(folder, 2))
    assert tensors["stage2"].shape == (3, 6, 4)
    assert tensors["stage3"].dtype == torch.float16


def test_a_shard_has_a_few_records_of_the_papers_size_and_one_record_at_least():
    huge = replace(KEY, token_grid=(64, 64, 64), stages=((1, 320),))
    assert records_per_shard(huge) == 1
    paper = replace(KEY, token_grid=(6, 8, 8), stages=((6, 320),))
    assert records_per_shard(paper) == 8
    every = tuple(enumerate((32, 64, 128, 256, 320, 320), start=1))
    assert records_per_shard(replace(paper, stages=every)) == 2


@pytest.mark.parametrize(("processes", "shards"), [(1, 3), (3, 4), (5, 6), (11, 11), (20, 11)])
def test_no_process_is_left_without_a_shard(index: BankIndex, processes: int, shards: int):
    shared = index.shared_by(processes)
    assert shared.shards == shards
    assert sum(map(shared.records_in, range(shards))) == 11
    assert all(shared.records_in(number) >= 1 for number in range(shards))


def test_a_bank_that_was_begun_keeps_its_shards(folder: Path, index: BankIndex):
    assert write_index(folder, index.shared_by(5)) == index == read_index(folder)


def test_of_shards_alike_one_is_opened(folder: Path, index: BankIndex, monkeypatch):
    shard_path(folder, 0).write_bytes(bytes(shard_path(folder, 0).stat().st_size))
    opened = []
    plain = Path.open

    def noted(path: Path, *args, **kwargs):
        opened.append(path.name)
        return plain(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", noted)
    assert missing_shards(folder, index) == [0]
    assert [name[:11] for name in opened] == ["shard-00000", "shard-00001", "shard-00002"]
    opened.clear()
    assert missing_shards(fill(folder, index), index) == []
    opened.clear()
    Bank.open(folder)
    # The second is as the first; the third holds fewer records.
    assert [name[:11] for name in opened if name.startswith("shard")] == [
        "shard-00000",
        "shard-00002",
    ]


def test_an_unfinished_bank_is_refused_with_what_is_missing(folder: Path, index: BankIndex):
    shard_path(folder, 1).unlink()
    with pytest.raises(InputError, match=r"1 of its 3 shards.*shard-00001"):
        Bank.open(folder)
    fill(folder, index)
    assert torch.equal(Bank.open(folder).read("s1", 1)[2], record("s1", 1)[2])


@pytest.mark.parametrize("cut", [1, 100, 100_000])
def test_a_shard_cut_short_counts_as_missing(folder: Path, index: BankIndex, cut: int):
    path = shard_path(folder, 0)
    os.truncate(path, max(path.stat().st_size - cut, 0))
    assert missing_shards(folder, index) == [0]


def test_a_changed_byte_is_noticed_where_it_is_read(folder: Path):
    path = shard_path(folder, 0)
    content = bytearray(path.read_bytes())
    at = content.index(record("s1", 0)[3].numpy().tobytes())
    content[at] ^= 1
    path.write_bytes(content)
    bank = Bank.open(folder)
    bank.read("s0", 0)
    with pytest.raises(InputError, match=r"shard-00000.*s1, view 0, do not match"):
        bank.read("s1", 0)


def test_a_shard_that_vanished_meanwhile_is_refused(folder: Path):
    bank = Bank.open(folder)
    shard_path(folder, 0).unlink()
    with pytest.raises(InputError, match="cannot be read"):
        bank.read("s0")


def test_no_bank_and_a_damaged_index_are_refused(tmp_path: Path, folder: Path):
    with pytest.raises(InputError, match="uvlm features"):
        Bank.open(tmp_path / "nothing")
    (folder / "index.json").write_text("{")
    with pytest.raises(InputError, match="unreadable"):
        Bank.open(folder)
    (folder / "index.json").write_text('{"format": 9}')
    with pytest.raises(InputError, match="format is 9"):
        Bank.open(folder)
    (folder / "index.json").write_text("[1]")
    with pytest.raises(InputError, match="unreadable"):
        Bank.open(folder)


@pytest.mark.parametrize(
    "changes", [{"per_shard": 0}, {"views": {"s0": 0}}, {"image_bytes": {"s0": 100}}]
)
def test_an_index_that_contradicts_itself_is_refused(folder: Path, changes):
    path = folder / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InputError, match=r"index\.json.*Delete the bank"):
        Bank.open(folder)


def test_going_on_needs_the_same_features_and_studies(folder: Path, index: BankIndex):
    write_index(folder, index)  # the same again is no fault
    other = replace(index, key=replace(KEY, encoder="f" * 16))
    with pytest.raises(InputError, match=r"key\.encoder is 0123456789abcdef there, ffff"):
        write_index(folder, other)
    fewer = replace(index, views={"s0": 3}, image_bytes={"s0": 100})
    with pytest.raises(InputError, match="views of 5 studies there, 1 here"):
        write_index(folder, fewer)
    assert read_index(folder) == index


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, index: BankIndex):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="something else"):
        write_index(tmp_path / "mine", index)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_leftovers_of_killed_writers_go_but_not_what_others_write(tmp_path: Path, index: BankIndex):
    folder = tmp_path / "bank"
    write_index(folder, index)
    for number in (0, 1):
        (folder / f".shard-0000{number}.123.tmp").write_bytes(b"half")
    clear_leftovers(folder, [1, 2])
    fill(folder, index)
    names = sorted(p.name for p in folder.iterdir())
    assert names == [
        ".shard-00000.123.tmp",
        "index.json",
        *(f"shard-0000{i}.safetensors" for i in range(3)),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "f" * 16}, "encoder 0123456789abcdef, this run has ffff"),
        ({"spec_hash": "f" * 16}, "preprocessing fedcba9876543210, this run has ffff"),
        ({"token_grid": (2, 2, 3)}, r"token grid \(1, 2, 3\), this run has \(2, 2, 3\)"),
        ({"padding": "spatial"}, "padding end, this run has spatial"),
        ({"stages": ((1, 2), (3, 8))}, r"lacks the \(stage, channels\) \[\(1, 2\)\]"),
        ({"augment": AugmentConfig(spatial=False)}, "its views were made with"),
    ],
)
def test_a_bank_of_other_features_is_refused(folder: Path, rows, changes, message):
    with pytest.raises(InputError, match=message):
        Bank.open(folder).check(replace(KEY, **changes), rows[:3], rows[3:])


def test_a_bank_that_serves_is_accepted(folder: Path, rows):
    bank = Bank.open(folder)
    bank.check(KEY, rows[:3], rows[3:])
    bank.check(PLAIN, rows[:3], rows[3:])
    bank.check(replace(PLAIN, stages=((3, 8),)), rows, ())


def test_a_run_that_augments_needs_views_of_its_training_studies(folder: Path, rows):
    with pytest.raises(InputError, match="unchanged view of 1 training studies"):
        Bank.open(folder).check(KEY, rows[:4], rows[4:])


def test_a_missing_study_is_refused_by_name(folder: Path, rows):
    unknown = replace(rows[0], series_id="s9")
    with pytest.raises(InputError, match="1 of 6 studies are missing, the first is s9"):
        Bank.open(folder).check(KEY, rows[:3], [*rows[3:], unknown])


def test_a_study_prepared_again_otherwise_is_refused(folder: Path, rows):
    rows[4].image.write_bytes(bytes(99))
    with pytest.raises(InputError, match="s4 was encoded from a file of 104 bytes"):
        Bank.open(folder).check(KEY, rows[:3], rows[3:])


def test_the_fingerprint_follows_key_and_studies(tmp_path: Path, folder: Path, index: BankIndex):
    alike = fill(tmp_path / "alike", index)
    other = fill(tmp_path / "other", replace(index, key=replace(KEY, seed=1)))
    prints = [Bank.open(path).fingerprint for path in (folder, alike, other)]
    assert prints[0] == prints[1] != prints[2]
