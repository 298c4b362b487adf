"""One run at a time in a folder, leftovers removed, changes of files noticed."""

import errno
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from uvlm.errors import CatalogError, ImageError
from uvlm.preprocessing.disk import (
    DiskFullError,
    disk_full,
    fullest,
    lock,
    refuse_sources_in,
    remove_leftovers,
    signature_of,
)


def dead_pid():
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    return int(done.stdout)


def test_a_folder_is_held_by_one_run_at_a_time(tmp_path):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from uvlm.preprocessing.disk import lock\n"
        "with lock(Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(CatalogError, match="another run is writing") as caught, lock(tmp_path):
            pass
        assert str(tmp_path) in str(caught.value)
        # Let go of by a kill, too.
        other.kill()
        other.wait()
        with lock(tmp_path):
            pass


def test_a_disk_without_locks_is_used_all_the_same(tmp_path, monkeypatch, caplog):
    def unknown(*_, **__):
        raise NotImplementedError("flock")

    monkeypatch.setattr("filelock.FileLock.acquire", unknown)
    with lock(tmp_path):
        pass
    assert f"{tmp_path}: this disk has no locks" in caplog.text


@pytest.mark.parametrize("source", ["imagesTr/a.nii.gz", "imagesTr/a", "link/a.nii.gz"])
def test_results_are_not_put_among_raw_data(tmp_path, source):
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "link").symlink_to("imagesTr")
    with pytest.raises(CatalogError, match="results would lie among raw data"):
        refuse_sources_in(tmp_path, [tmp_path / "imagesTr"], [tmp_path / source])


def test_results_are_not_put_into_a_study(tmp_path):
    out = tmp_path / "dicom" / "out"
    with pytest.raises(CatalogError, match="results would lie among raw data"):
        refuse_sources_in(out, [out / "imagesTr"], [tmp_path / "dicom"])


def test_results_may_lie_beside_above_or_below_raw_data(tmp_path):
    raw = [tmp_path / "raw/a/a.nii.gz", tmp_path / "raw" / "dicom"]
    for out in (tmp_path / "raw/out", tmp_path / "raw/a/out", tmp_path, tmp_path / "other"):
        refuse_sources_in(out, [out / "imagesTr", out / "labelsTr"], raw)


@pytest.mark.parametrize("out", ["raw", "raw/a", "raw/a/b"])
def test_results_are_not_put_into_a_folder_of_studies(tmp_path, out):
    raw = [tmp_path / "raw/a/b/ct.nii.gz", tmp_path / "raw/c/ct.nii.gz"]
    with pytest.raises(CatalogError, match="results would lie among raw data"):
        refuse_sources_in(tmp_path / out, [tmp_path / out / "imagesTr"], raw)


def test_only_what_dead_processes_were_writing_is_removed(tmp_path):
    dead, alive = dead_pid(), os.getpid()
    gone = [f".a.{dead}.tmp.b2nd", f".catalog.csv.{dead}.tmp"]
    stay = [
        f".a.{alive}.tmp.b2nd", f"a.{dead}.tmp.b2nd", f".a.{dead}.tmp.b2nd.bak", ".a.tmp.b2nd",
        f".a.{dead}.b2nd", f".{dead}.tmp", ".a.x.tmp",
    ]  # fmt: skip
    for name in (*gone, *stay):
        (tmp_path / name).touch()
    (tmp_path / f".folder.{dead}.tmp").mkdir()
    (tmp_path / f".link.{dead}.tmp").symlink_to(tmp_path / "a")
    below = tmp_path / "below"
    below.mkdir()
    (below / gone[0]).touch()
    assert remove_leftovers([tmp_path, tmp_path / "absent"]) == 2
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*stay, f".folder.{dead}.tmp", f".link.{dead}.tmp", "below"}
    assert (below / gone[0]).exists()


def test_a_signature_knows_name_size_and_time(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"12")
    os.utime(file, ns=(5, 5))
    first = signature_of([file])
    assert signature_of([file]) == first
    os.utime(file, ns=(5, 6))
    assert signature_of([file]) != first
    file.write_bytes(b"123")
    os.utime(file, ns=(5, 5))
    assert signature_of([file]) != first
    file.write_bytes(b"12")
    os.utime(file, ns=(5, 5))
    assert signature_of([file]) == first
    assert signature_of([file.rename(tmp_path / "b")]) != first


def test_a_folder_stands_for_all_files_below_it(tmp_path):
    deep = tmp_path / "folder" / "deep"
    deep.mkdir(parents=True)
    (deep / "1.dcm").write_bytes(b"1")
    first = signature_of([tmp_path / "folder"])
    assert signature_of([tmp_path / "folder"]) == first
    (deep / "2.dcm").write_bytes(b"2")
    second = signature_of([tmp_path / "folder"])
    (deep / "2.dcm").unlink()
    assert second != first == signature_of([tmp_path / "folder"])
    assert signature_of([tmp_path / "absent"]) == signature_of([tmp_path / "absent"]) != first


def raised(error, cause=None):
    try:
        raise error from cause
    except Exception as caught:
        return caught


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_known_by_its_cause(tmp_path, number):
    cause = OSError(number, "full")
    assert disk_full(cause, tmp_path, 0)
    assert disk_full(raised(ImageError("could not be written"), cause), tmp_path, 0)
    assert not disk_full(OSError(errno.EACCES, "no"), tmp_path, 1 << 60)
    assert not disk_full(raised(ImageError("not HU")), tmp_path, 1 << 60)


def test_blosc2_gives_no_reason_so_the_room_left_decides(tmp_path):
    error = raised(ImageError("could not be written"), RuntimeError("blosc2"))
    assert disk_full(error, tmp_path, 1 << 60)
    assert not disk_full(error, tmp_path, 0)


def test_the_fullest_disk_is_named(tmp_path, monkeypatch):
    room = {tmp_path / "a": 10, tmp_path / "b": 5}
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=room[folder]))
    assert fullest(room) == tmp_path / "b"


def test_a_full_disk_is_no_fault_of_the_input(tmp_path):
    error = DiskFullError.at(tmp_path)
    assert error.exit_code == 1
    assert "MB free" in str(error)
    assert "run the same command again" in str(error)
