"""All files of a folder are written, or none; a path that takes none is named."""

import pytest

from uvlm.errors import InputError
from uvlm.evaluation.written import check_free, write_whole


def test_a_folder_under_a_file_is_refused_before_and_while_writing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" / "deep" / "out"
    with pytest.raises(InputError, match=r"cannot be made: .*file is a file"):
        check_free(out, ["a.txt"])
    monkeypatch.setattr("uvlm.evaluation.written.check_free", lambda *_: None)
    with pytest.raises(InputError, match="cannot be written"):
        write_whole(out, {"a.txt": "text"})
    assert (tmp_path / "file").read_text() == "mine"


def test_what_exists_is_kept_and_a_new_folder_is_made(tmp_path):
    out = tmp_path / "a" / "b"
    assert write_whole(out, {"a.txt": "text"}) == [out / "a.txt"]
    with pytest.raises(InputError, match="give another folder"):
        write_whole(out, {"b.txt": "", "a.txt": "other"})
    assert [path.name for path in out.iterdir()] == ["a.txt"]
