"""CSV files are read whole, or refused naming row and column."""

import pytest

from uvlm.errors import CatalogError
from uvlm.preprocessing.table import defused, read_table, restored


def write(folder, text, encoding="utf-8"):
    path = folder / "table.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_rows_are_numbered_as_in_a_spreadsheet(tmp_path):
    path = write(tmp_path, 'id,text\na,"two\nlines, and a comma"\n\nb, plain \n')
    table = read_table(path)
    assert table.columns == ("id", "text")
    assert table.rows == (
        (2, {"id": "a", "text": "two\nlines, and a comma"}),
        (4, {"id": "b", "text": "plain"}),
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_line_ends_and_byte_order_marks_do_not_matter(tmp_path, encoding, newline):
    table = read_table(write(tmp_path, newline.join(["id,text", "a,é", ""]), encoding))
    assert table.rows == ((2, {"id": "a", "text": "é"}),)


def test_long_texts_are_read_whole(tmp_path):
    text = "long " * 100_000
    assert len(read_table(write(tmp_path, f'id,text\na,"{text}."\n')).rows[0][1]["text"]) == 500_001


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("id,text,id\n", "column 'id' twice"),
        ("id,text\na,b,c\n", "row 2 has 3 fields, the header 2"),
        ("id,text\na,b\nc\n", "row 3 has 1 fields"),
        ('id,text,other\na,b,c\nd,"cut off', "row 3, column 'text': a quoted field"),
        ('id,text\na,"b"c\n', "row 2, column 'text': a quoted field"),
    ],
)
def test_faulty_tables_are_refused(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(CatalogError, match=message) as caught:
        read_table(path)
    assert str(path) in str(caught.value)


def test_files_that_are_no_text_are_refused(tmp_path):
    with pytest.raises(CatalogError, match="cannot be read"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(CatalogError, match="cannot be read"):
        read_table(tmp_path)
    (tmp_path / "binary.csv").write_bytes(b"\x1f\x8b\x08\xff\xfe")
    with pytest.raises(CatalogError, match="not UTF-8"):
        read_table(tmp_path / "binary.csv")


def test_a_missing_column_names_the_one_most_like_it(tmp_path):
    table = read_table(write(tmp_path, "serie_id,report\n"))
    with pytest.raises(CatalogError, match="no column 'series_id'; did you mean 'serie_id'"):
        table.require(["report", "series_id"])


def test_the_encoding_and_the_delimiter_can_be_told(tmp_path):
    path = write(tmp_path, "id;text\na;é, è\n", "cp1252")
    assert read_table(path, encoding="cp1252", delimiter=";").rows == (
        (2, {"id": "a", "text": "é, è"}),
    )
    with pytest.raises(CatalogError, match="not separated by semicolons"):
        read_table(write(tmp_path, "id;text\na\n"), delimiter=";")


def test_words_in_a_label_cell_are_not_repeated(tmp_path):
    table = read_table(write(tmp_path, "id,Emphysema\na,Anna Rossi coughs\n"))
    with pytest.raises(CatalogError, match="row 2, column 'Emphysema': the label of 17 characters"):
        table.label(2, "Emphysema", table.rows[0][1]["Emphysema"])


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        *(
            ("=1+1", "'=1+1"),
            ("- none", "'- none"),
            ("+x", "'+x"),
            ("@x", "'@x"),
            ("\t=1", "'\t=1"),
        ),
        *(("'=1", "''=1"), ("''- a", "'''- a")),
        *((text, text) for text in ("", "-5.2", "+1e3", "'", "'tis", "a=b", " - a", "5 mm")),
    ],
)
def test_a_cell_that_is_a_formula_to_spreadsheets_becomes_words_and_comes_back(cell, written):
    assert defused(cell) == written
    assert restored(written) == cell
