"""A user's CSV in whatever encoding and delimiter, read strictly and said."""

from __future__ import annotations

from pathlib import Path

import pytest

from uvlm.errors import CatalogError
from uvlm.preprocessing.sources.folder_table import label_value, parse_split, read_any
from uvlm.preprocessing.table import Table

ROWS = "id;Größe;report\na;1,5;kein Befund, keiner\nb;2,5;é\n"


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_every_usual_encoding_gives_the_same_cells(tmp_path, encoding):
    table, notes = read_any(write(tmp_path / "a.csv", ROWS, encoding))
    assert table.columns == ("id", "Größe", "report")
    assert table.rows == (
        (2, {"id": "a", "Größe": "1,5", "report": "kein Befund, keiner"}),
        (3, {"id": "b", "Größe": "2,5", "report": "é"}),
    )
    assert any("cp1252" in note for note in notes) == (encoding == "cp1252")


def test_the_letters_beyond_ascii_show_a_wrong_encoding(tmp_path):
    _, notes = read_any(write(tmp_path / "a.csv", "id,report\na,Größe über é\n", "cp1252"))
    assert "if ß é ö ü look wrong" in notes[0]


def test_turkish_is_not_read_as_icelandic(tmp_path):
    path = write(tmp_path / "a.csv", "id,report\na,sağ akciğerde şüpheli\n", "cp1254")
    with pytest.raises(CatalogError, match=r"Turkish \(cp1254\).*--encoding"):
        read_any(path)
    table, _ = read_any(path, encoding="cp1254")
    assert table.rows[0][1]["report"] == "sağ akciğerde şüpheli"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_found(tmp_path, delimiter):
    text = f'id{delimiter}report\na{delimiter}"one, two; three"\n'
    assert read_any(write(tmp_path / "a.csv", text))[0].rows[0][1]["report"] == "one, two; three"


def test_the_delimiter_that_fits_all_rows_counts_not_the_commonest(tmp_path):
    text = "id;findings, impression, rest\na;x, y, z\nb;x\n"
    assert read_any(write(tmp_path / "a.csv", text))[0].columns == (
        "id",
        "findings, impression, rest",
    )


def test_excels_own_delimiter_line_is_understood(tmp_path):
    table, _ = read_any(write(tmp_path / "a.csv", "sep=;\r\nid;x\r\na;1\r\n"))
    assert table.rows == ((3, {"id": "a", "x": "1"}),)


def test_a_delimiter_line_without_one_is_no_delimiter(tmp_path):
    assert read_any(write(tmp_path / "a.csv", "sep=\nid;x\na;1\n"))[0].columns == ("id", "x")


def test_rows_of_cleared_cells_are_left_out(tmp_path):
    table, _ = read_any(write(tmp_path / "a.csv", "id;x\na;1\n;\n ; \nb;2\n"))
    assert [number for number, _ in table.rows] == [2, 5]


def test_options_overrule(tmp_path):
    path = write(tmp_path / "a.csv", "id|x\na|é\n", "cp437")
    table, _ = read_any(path, encoding="cp437", delimiter="|")
    assert table.rows[0][1]["x"] == "é"


def test_a_table_of_one_column_is_read(tmp_path):
    assert read_any(write(tmp_path / "a.csv", "id\na\nb\n"))[0].columns == ("id",)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"id,x\na,\x81\n", "not text in cp1252"),
        ("id,x\na,1\n".encode("utf-16-le"), "zero bytes.*--encoding utf-16"),
        (b"PK\x03\x04\x00\x00\xfe\xdd", "zero bytes"),
        (b'id,x\na,"cut off\n', "not properly closed"),
        (b"id,x\na,1,2\n", "row 2 has 3 fields, the header 2"),
        (b"id,id\na,1\n", "column 'id' twice"),
        (b"", "empty"),
    ],
)
def test_what_is_no_whole_table_is_refused(tmp_path, data, message):
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    with pytest.raises(CatalogError, match=message):
        read_any(path)


def test_options_that_do_not_apply_are_refused(tmp_path):
    with pytest.raises(CatalogError, match="Leave --sheet out"):
        read_any(write(tmp_path / "a.csv", "id\na\n"), sheet="x")
    with pytest.raises(CatalogError, match="no encoding"):
        read_any(tmp_path / "a.xlsx", encoding="utf-8")
    with pytest.raises(CatalogError, match="unknown encoding"):
        read_any(write(tmp_path / "a.csv", "id\na\n"), encoding="utf-99")


TABLE = Table(Path("t.csv"), ("id", "Emphysema"), ())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("1.0", 1),
        ("1,0", 1),
        ("Yes", 1),
        ("ABSENT", 0),
        ("", None),
        ("Ja", 1),
        ("NON", 0),
        ("WAHR", 1),
        ("Hayır", 0),
        ("YANLIŞ", 0),
    ],
)
def test_words_for_labels(text, value):
    assert label_value(TABLE, 2, "Emphysema", text) == value


def test_a_label_that_is_a_path_names_file_row_and_column():
    with pytest.raises(CatalogError, match=r"t\.csv: row 7, column 'Emphysema': .*TODO_DATA_PATH"):
        label_value(TABLE, 7, "Emphysema", "TODO_DATA_PATH/0")


def test_a_sentence_in_a_label_cell_is_not_quoted():
    with pytest.raises(CatalogError, match="the label of 31 characters") as caught:
        label_value(TABLE, 7, "Emphysema", "Patient Smith has no emphysema.")
    assert "Smith" not in str(caught.value)


def test_words_for_splits():
    words = {"Training": "train", "val": "valid", "validation": "valid", "TEST": "test", "": None}
    assert {word: parse_split(TABLE, 2, "split", word) for word in words} == words
    with pytest.raises(CatalogError, match="the split 'holdout'"):
        parse_split(TABLE, 2, "split", "holdout")
