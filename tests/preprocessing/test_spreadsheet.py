"""An Excel sheet becomes the text a person sees in it, or is refused by row and column."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from uvlm.errors import CatalogError
from uvlm.preprocessing.spreadsheet import read_spreadsheet


def write(path: Path, rows: list[list[Any]], title: str = "Reports") -> Path:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = title
    for row in rows:
        sheet.append(row)
    book.save(path)
    return path


def test_cells_are_the_text_a_person_sees(tmp_path):
    moment = datetime.datetime(2024, 5, 6, 7, 8, 9)
    values = [12, 12.0, 1.5, True, False, datetime.datetime(2024, 5, 6), moment, " x ", None]
    path = write(tmp_path / "a.xlsx", [[f"c{k}" for k in range(9)], values])
    ((number, cells),) = read_spreadsheet(path).rows
    assert number == 2
    assert list(cells.values()) == [
        "12", "12", "1.5", "1", "0", "2024-05-06", "2024-05-06 07:08:09", "x", "",
    ]  # fmt: skip


def test_a_format_of_zeros_shows_leading_zeros(tmp_path):
    path = write(tmp_path / "a.xlsx", [["id"], [42]])
    book = openpyxl.load_workbook(path)
    book.active["A2"].number_format = "00000"
    book.save(path)
    assert read_spreadsheet(path).rows == ((2, {"id": "00042"}),)


def test_row_numbers_are_those_excel_shows(tmp_path):
    path = write(tmp_path / "a.xlsx", [[], ["id", "x"], [], ["a", 1], [], ["b", None]])
    table = read_spreadsheet(path)
    assert table.columns == ("id", "x")
    assert [number for number, _ in table.rows] == [4, 6]


def test_empty_columns_are_left_out(tmp_path):
    path = write(tmp_path / "a.xlsx", [["id", None, "x", None], ["a", None, 1, None]])
    assert read_spreadsheet(path).rows == ((2, {"id": "a", "x": "1"}),)


def test_short_rows_are_filled_up(tmp_path):
    path = write(tmp_path / "a.xlsx", [["id", "x"], ["a"]])
    assert read_spreadsheet(path).rows == ((2, {"id": "a", "x": ""}),)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["id", None], ["a", "b"]], "row 1: column B has cells but no name"),
        ([["List of studies"], ["id", "x"], ["a", 1]], "row 1: column B has cells but no name"),
        ([["id", "id"], ["a", "b"]], "column 'id' twice"),
        ([["id", "x"], ["a", "=1+1"]], "row 2, column B: a formula without a computed value"),
        ([["id", "x"], ["a", "#REF!"]], "row 2, column B: the error value #REF!"),
        ([["id"], [1234567890123456]], "row 2, column A: a number of more digits"),
        ([], "is empty"),
    ],
)
def test_what_cannot_be_known_is_refused(tmp_path, rows, message):
    path = write(tmp_path / "a.xlsx", rows)
    with pytest.raises(CatalogError, match=message):
        read_spreadsheet(path)


def test_merged_header_cells_are_refused(tmp_path):
    path = write(tmp_path / "a.xlsx", [["id", "both", None], ["a", 1, 0]])
    book = openpyxl.load_workbook(path)
    book.active.merge_cells("B1:C1")
    book.save(path)
    with pytest.raises(CatalogError, match="column C has cells but no name"):
        read_spreadsheet(path)


def test_of_several_sheets_one_must_be_named(tmp_path):
    path = write(tmp_path / "a.xlsx", [["id"], ["a"]])
    book = openpyxl.load_workbook(path)
    book.create_sheet("Other").append(["id"])
    book.create_sheet("Empty")
    book.save(path)
    with pytest.raises(CatalogError, match="--sheet"):
        read_spreadsheet(path)
    assert read_spreadsheet(path, "Reports").rows == ((2, {"id": "a"}),)
    with pytest.raises(CatalogError, match="no sheet 'Reprots'"):
        read_spreadsheet(path, "Reprots")


def test_an_empty_second_sheet_does_not_matter(tmp_path):
    path = write(tmp_path / "a.xlsx", [["id"], ["a"]])
    book = openpyxl.load_workbook(path)
    book.create_sheet("Empty")
    book.save(path)
    assert read_spreadsheet(path).columns == ("id",)


@pytest.mark.parametrize("content", [b"", b"id,report\na,b\n", b"PK\x03\x04 cut off"])
def test_what_is_no_workbook_is_refused(tmp_path, content):
    path = tmp_path / "a.xlsx"
    path.write_bytes(content)
    with pytest.raises(CatalogError, match=r"a\.xlsx"):
        read_spreadsheet(path)


def test_a_missing_file_and_the_old_format_are_refused(tmp_path):
    with pytest.raises(CatalogError, match="cannot be read"):
        read_spreadsheet(tmp_path / "none.xlsx")
    with pytest.raises(CatalogError, match="old Excel format"):
        read_spreadsheet(tmp_path / "old.xls")
