"""What became of every study survives a kill at any byte."""

import errno

import pytest

from uvlm.preprocessing.records import Record, RecordLog, read_records
from uvlm.preprocessing.study import Statement


def record(name, **fields):
    return Record(series_id=name, key="k", signature="s", source=f"{name}.nii.gz", **fields)


FULL = record(
    "a",
    seconds=1.5,
    peak_gb=0.25,
    bytes_written=7,
    image={"shape": [1, 2, 3], "padding": None},
    masks={"all": {"lung": {"voxels": 3}}},
    labels={"Mass": 1.0},
    columns={"spleen_ml": "12"},
    statements=(Statement("A nodule.\nA “second” line.", 0.5),),
    notes=("Nothing overlaps.",),
)


def write(path, *records):
    with RecordLog(path) as file:
        for each in records:
            file.add(each)
    return path


def test_what_is_added_is_read_back(tmp_path):
    path = write(tmp_path / "studies.jsonl", FULL, record("b", error="broken"))
    assert read_records(path) == {"a": FULL, "b": record("b", error="broken")}
    assert len(path.read_text().splitlines()) == 2


def test_the_last_record_of_a_series_counts_over_all_runs(tmp_path):
    path = tmp_path / "studies.jsonl"
    write(path, record("a", error="broken"), record("b"))
    write(path, record("a"))
    assert read_records(path) == {"a": record("a"), "b": record("b")}


def test_a_failure_does_not_hide_that_a_series_was_prepared(tmp_path):
    path = tmp_path / "studies.jsonl"
    write(path, FULL, record("b", error="broken"), record("b", error="out of reach"))
    write(path, record("a", error="out of reach"))
    assert read_records(path) == {"a": FULL, "b": record("b", error="out of reach")}


def test_without_a_file_nothing_is_known(tmp_path):
    assert read_records(tmp_path / "studies.jsonl") == {}


@pytest.mark.parametrize("kept", [0, 1, 5, -1])
def test_a_torn_last_line_is_passed_over_and_then_cut_off(tmp_path, kept):
    path = write(tmp_path / "studies.jsonl", record("a"))
    whole = path.read_bytes()
    torn = record("b").line().encode()[:kept]
    path.write_bytes(whole + torn)
    assert read_records(path) == {"a": record("a")}
    write(path, record("c"))
    assert path.read_bytes() == whole + record("c").line().encode()


def test_a_file_that_is_one_torn_line_becomes_empty(tmp_path):
    path = tmp_path / "studies.jsonl"
    path.write_bytes(b"x" * 200_000)
    write(path, record("a"))
    assert path.read_bytes() == record("a").line().encode()


def test_a_torn_line_longer_than_a_block_is_cut_off(tmp_path):
    path = write(tmp_path / "studies.jsonl", record("a"))
    whole = path.read_bytes()
    path.write_bytes(whole + b"y" * 200_000)
    write(path)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("line", [b"\xff\xfe\n", b"{}\n", b"[1]\n", b'{"series_id": 1}\n', b"\n"])
def test_lines_that_are_no_records_are_passed_over(tmp_path, line):
    path = tmp_path / "studies.jsonl"
    path.write_bytes(line + record("a").line().encode())
    assert read_records(path) == {"a": record("a")}


def test_a_disk_that_is_full_leaves_whole_lines(tmp_path):
    path = write(tmp_path / "studies.jsonl", record("a"))
    whole = path.read_bytes()

    class Full:
        """Takes ten bytes, then no more."""

        def __init__(self, file):
            self.file, self.left = file, 10

        def write(self, data):
            if not self.left:
                raise OSError(errno.ENOSPC, "No space left on device")
            taken = self.file.write(data[: self.left])
            self.left -= taken
            return taken

        def __getattr__(self, name):
            return getattr(self.file, name)

    with RecordLog(path) as file:
        file._file = Full(file._file)
        with pytest.raises(OSError, match="No space"):
            file.add(record("b"))
    assert path.read_bytes() == whole
