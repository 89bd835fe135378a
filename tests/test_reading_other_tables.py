"""Tables as people have them: JSON documents, workbooks, Arrow, folders of texts, nested values."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentikit import InputError, open_dataset
from sentikit.extension import InputFile, read_rows

REVIEWS = [{"text": "fine", "stars": 4}, {"text": 'näh \\ "quoted" {[]}', "stars": None}]


def rows_of(path: str | Path, **options: Any) -> list[dict[str, Any]]:
    with read_rows(path, **options) as rows:
        return [dict(row) for _, row in rows]


def refusal(path: str | Path, **options: Any) -> str:
    with pytest.raises(InputError) as refused:
        rows_of(path, **options)
    return refused.value.message


def workbook(name: str, *sheets: tuple[str, Sequence[Sequence[Any]]]) -> Path:
    """Write a workbook with these sheets."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets:
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(list(row))
    book.save(name)
    return Path(name)


class TestJson:
    @pytest.mark.parametrize("indent", [None, 2])
    @pytest.mark.parametrize("wrapped", [False, True])
    def test_a_json_array_and_an_object_around_it_give_the_same_rows(
        self, indent: int | None, wrapped: bool
    ) -> None:
        value = {"count": 2, "tags": ["a"], "reviews": REVIEWS} if wrapped else REVIEWS
        Path("a.json").write_text(json.dumps(value, indent=indent, ensure_ascii=False))
        assert rows_of("a.json") == REVIEWS

    def test_an_array_of_texts_is_a_column_of_texts(self) -> None:
        Path("a.json").write_text('["good", "bad"]')
        assert rows_of("a.json") == [{"text": "good"}, {"text": "bad"}]

    def test_json_lines_in_a_json_file_are_read_as_such(self) -> None:
        Path("a.json").write_text("\n".join(map(json.dumps, REVIEWS)))
        assert rows_of("a.json") == REVIEWS

    def test_memory_does_not_grow_with_the_document(self) -> None:
        import tracemalloc

        with open("big.json", "w") as stream:
            stream.write("[")
            stream.write(",".join(json.dumps({"text": f"{n} " * 50}) for n in range(30_000)))
            stream.write("]")
        tracemalloc.start()
        with read_rows("big.json") as rows:
            assert sum(1 for _ in rows.cells("text")) == 30_000
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert Path("big.json").stat().st_size > 7.5e6
        assert peak < 3e6

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            ("", "is empty"),
            ("[]", "is empty"),
            ("{}", "no list of rows"),
            ('{"text": "a"}', "no list of rows"),
            ('{"a": [{"text": "x"}], "b": [{"text": "y"}]}', "several lists: 'a', 'b'"),
            ('[{"text": "a"},\n{"text": }]', "line 2: not valid JSON"),
            ('[{"text": "a"}', "line 1: not valid JSON"),
            ('[{"text": "a"}] x', "more text follows"),
            ("[1, 2]", "item 1: an object is needed; this is a number"),
            ('[{"text": "\\ud83d"}]', "half of a character"),
            ('[{"n": Infinity}]', "Infinity is not a JSON number"),
            ("[" * 100_000, "nested too deeply"),
        ],
    )
    def test_json_that_is_no_table_is_refused(self, content: str, expected: str) -> None:
        Path("a.json").write_text(content)
        assert expected in refusal("a.json")

    def test_a_wrapped_document_named_jsonl_is_not_read_as_one_row(self) -> None:
        Path("a.jsonl").write_text(json.dumps({"reviews": REVIEWS}))
        assert "one JSON object around the rows, in 'reviews'" in refusal("a.jsonl")
        assert rows_of("a.jsonl", format="json") == REVIEWS


class TestNested:
    @pytest.fixture(params=["jsonl", "parquet", "arrow"])
    def nested(self, request: pytest.FixtureRequest) -> str:
        values = [{"id": 1, "review": {"title": "T", "body": "B"}}, {"id": 2, "review": None}]
        name = f"nested.{request.param}"
        table = pa.Table.from_pylist(values)
        if request.param == "jsonl":
            Path(name).write_text("\n".join(map(json.dumps, values)))
        elif request.param == "parquet":
            pq.write_table(table, name)
        else:
            with pa.ipc.new_file(name, table.schema) as writer:
                writer.write_table(table)
        return name

    def test_a_field_is_found_by_its_path(self, nested: str) -> None:
        with read_rows(nested) as rows:
            assert rows.find_column("text", "review.body") == "review.body"
            found = [cells for _, cells in rows.cells("review.body", "id")]
        assert found == [("B", "1"), (None, "2")]

    def test_a_struct_is_refused_as_text(self, nested: str) -> None:
        with read_rows(nested) as rows:
            read = rows.text_reader()
            where, row = next(iter(rows))
            with pytest.raises(InputError) as refused:
                read(where, row)
        message = refused.value.message
        assert "the column 'review' holds a mapping instead of text" in message
        assert "review.title, review.body" in message

    def test_a_missing_nested_field_is_named(self, nested: str) -> None:
        with read_rows(nested) as rows, pytest.raises(InputError, match=r"mean 'review\.body'"):
            rows.find_column("text", "review.boddy")

    def test_several_columns_are_joined_to_one_text(self, nested: str) -> None:
        with read_rows(nested) as rows:
            read = rows.text_reader(["review.title", "review.body"])
            assert [read(where, row) for where, row in rows] == ["T\nB", ""]
        section = {"name": "files", "test": nested, "text": ["review.title", "id"]}
        assert open_dataset(section).split("test", labelled=False).texts == ["T\n1", "2"]

    def test_a_column_name_with_a_dot_takes_precedence_over_a_path(self) -> None:
        Path("a.jsonl").write_text('{"review": {"text": "inner"}, "review.text": "outer"}\n')
        with read_rows("a.jsonl") as rows:
            assert next(rows.cells("review.text"))[1] == ("outer",)


class TestArrow:
    @pytest.mark.parametrize("streamed", [False, True])
    def test_arrow_files_and_streams_are_read(self, streamed: bool) -> None:
        table = pa.table({"text": [f"t{n}" for n in range(2500)]})
        opened = pa.ipc.new_stream if streamed else pa.ipc.new_file
        with opened("a.arrow", table.schema) as writer:
            writer.write_table(table)
        assert [row["text"] for row in rows_of("a.arrow")] == table["text"].to_pylist()

    def test_a_damaged_arrow_file_is_refused(self) -> None:
        Path("a.feather").write_bytes(b"ARROW1" + b"x" * 40)
        assert "is not a complete Arrow file" in refusal("a.feather")


class TestCompressed:
    def test_the_suffix_selects_the_compression(self) -> None:
        content = b"text,label\nfine,positive\n"
        Path("a.csv.gz").write_bytes(gzip.compress(content))
        Path("a.csv.bz2").write_bytes(bz2.compress(content))
        Path("a.csv.xz").write_bytes(lzma.compress(content))
        with pa.CompressedOutputStream("a.csv.zst", "zstd") as stream:
            stream.write(content)
        for name in ("gz", "bz2", "xz", "zst"):
            assert rows_of(f"a.csv.{name}") == [{"text": "fine", "label": "positive"}]

    @pytest.mark.parametrize("kind", ["bz2", "xz", "zst"])
    def test_damaged_compressed_files_are_named(self, kind: str) -> None:
        Path(f"a.csv.{kind}").write_bytes(b"text\nnot compressed at all, but long enough\n")
        assert "is not a complete" in refusal(f"a.csv.{kind}")


class TestFolders:
    def test_a_folder_of_texts_is_a_table(self) -> None:
        Path("texts").mkdir()
        for name, text in (("b.txt", "second\nline\n"), ("a.txt", "first"), ("notes.md", "x")):
            Path("texts", name).write_text(text)
        found = [{"file": "a.txt", "text": "first"}, {"file": "b.txt", "text": "second\nline"}]
        assert rows_of("texts") == found
        assert rows_of("texts/*.txt") == found

    def test_a_folder_of_parquet_files_is_one_table(self) -> None:
        Path("parts").mkdir()
        for name, texts in (("b", ["second", "third"]), ("a", ["first"]), ("_temporary", ["x"])):
            pq.write_table(
                pa.table({"id": range(len(texts)), "text": texts}), f"parts/{name}.parquet"
            )
        Path("parts/_SUCCESS").touch()
        found = [(0, "first"), (0, "second"), (1, "third")]
        assert [(row["id"], row["text"]) for row in rows_of("parts")] == found
        with read_rows("parts") as rows:
            assert [where for where, _ in rows.cells("text")] == [1, 2, 3]
        pq.write_table(pa.table({"body": ["x"]}), "parts/c.parquet")
        assert refusal("parts") == (
            "parts/c.parquet has no column 'id', which parts/a.parquet has. Give files with the "
            "same columns."
        )

    def test_a_folder_without_texts_is_refused(self) -> None:
        Path("empty").mkdir()
        assert "folder without .txt or .parquet files" in refusal("empty")
        assert "No file matches texts/*.txt" in refusal("texts/*.txt")
        Path("a.csv").write_text("text\na\n")
        assert "a pattern is for .txt files" in refusal("*.csv")

    def test_a_folder_is_another_input_once_a_row_of_it_has_changed(self) -> None:
        Path("parts").mkdir()
        described = []
        for text in ("good", "good", "bad"):
            pq.write_table(pa.table({"text": [text]}), "parts/a.parquet")
            described.append(InputFile("parts").describe())
        assert described[0] == described[1]
        assert described[0] != described[2]

    def test_a_text_that_is_not_utf8_is_named(self) -> None:
        Path("texts").mkdir()
        Path("texts", "a.txt").write_bytes(b"caf\xe9")
        assert "texts/a.txt, line 1, byte 4" in refusal("texts")


class TestWorkbooks:
    def test_a_sheet_is_read_with_dates_and_numbers(self) -> None:
        path = workbook(
            "a.xlsx", ("Reviews", [["text", "stars"], ["fine", 5.0], [None], ["meh", 1]])
        )
        with read_rows(path) as table:
            assert table.columns == ("text", "stars")
            assert list(table.cells("text", "stars")) == [(2, ("fine", "5")), (4, ("meh", "1"))]

    def test_one_of_several_sheets_must_be_named(self) -> None:
        path = workbook("a.xlsx", ("One", [["text"], ["a"]]), ("Two", [["text"], ["b"]]))
        assert "several sheets: 'One', 'Two'. Name one" in refusal(path)
        assert "no sheet 'Tow'. Did you mean 'Two'" in refusal(path, sheet="Tow")
        assert rows_of(path, sheet="Two") == [{"text": "b"}]
        section = {"name": "files", "test": "a.xlsx", "sheet": "Two"}
        assert open_dataset(section).split("test", labelled=False).texts == ["b"]

    def test_merged_cells_are_refused_by_their_place(self) -> None:
        path = workbook("a.xlsx", ("S", [["text", "label"], ["a", "positive"], ["b", None]]))
        book = openpyxl.load_workbook(path)
        book.active.merge_cells("B2:B3")
        book.save(path)
        assert "the cells B2:B3 of 'S' are merged" in refusal(path)

    def test_a_formula_that_was_never_computed_is_refused(self) -> None:
        path = workbook("a.xlsx", ("S", [["text", "n"], ["a", "=1+1"]]))
        assert "cell B2: the formula was never computed" in refusal(path)

    def test_a_password_protected_workbook_is_named(self) -> None:
        Path("a.xlsx").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600)
        assert "is protected by a password" in refusal("a.xlsx")

    def test_a_sheet_longer_than_excel_opens_is_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sentikit.plugins.excel.format.MOST_ROWS", 5)
        path = workbook("a.xlsx", ("S", [["text"], *[["a"]] * 9]))
        assert "more than 5 rows" in refusal(path)
        with pytest.raises(InputError, match="more than 5 rows"):
            read_rows(path)  # before any row is read

    def test_xml_entities_in_a_workbook_are_refused(self) -> None:
        path = workbook("a.xlsx", ("S", [["text"], ["a"]]))
        bomb = (
            '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x>&b;</x>'
        )
        with zipfile.ZipFile(path) as old, zipfile.ZipFile("b.xlsx", "w") as new:
            for name in old.namelist():
                shared = name.endswith(("sharedStrings.xml", "sheet1.xml"))
                new.writestr(name, bomb if shared else old.read(name))
        assert "declares XML entities" in refusal("b.xlsx")

    def test_a_decompression_bomb_in_a_workbook_is_refused(self) -> None:
        path = workbook("a.xlsx", ("S", [["text"], ["a"]]))
        with (
            zipfile.ZipFile(path) as old,
            zipfile.ZipFile("b.xlsx", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
        ):
            for name in old.namelist():
                if name.endswith("styles.xml"):
                    with new.open(name, "w", force_zip64=True) as part:
                        for _ in range(1100):
                            part.write(b" " * 2**20)
                else:
                    new.writestr(name, old.read(name))
        begun = time.perf_counter()
        assert "unpacks to 1,153,433,600 bytes" in refusal("b.xlsx")
        assert time.perf_counter() - begun < 1

    def test_a_shared_text_that_unpacks_to_much_memory_is_refused(self) -> None:
        path = workbook("a.xlsx", ("S", [["text"], ["a"]]))
        shared = "xl/sharedStrings.xml"
        with (
            zipfile.ZipFile(path) as old,
            zipfile.ZipFile("b.xlsx", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
        ):
            for name in old.namelist():
                if name != shared:
                    new.writestr(name, old.read(name))
            new.writestr(shared, "<sst><si><t>" + "a" * 40_000_000 + "</t></si></sst>")
        assert f"a row or text in {shared} unpacks to more than" in refusal("b.xlsx")

    @pytest.mark.parametrize("before", ["", "<row><c t='inlineStr'><is><t>text</t></is></c></row>"])
    def test_a_row_that_unpacks_to_much_memory_is_refused_before_the_book_is_opened(
        self, before: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = workbook("a.xlsx", ("S", [["text"], ["a"]]))
        huge = "<row><c t='inlineStr'><is><t>" + "a" * 40_000_000 + "</t></is></c></row>"
        with (
            zipfile.ZipFile(path) as old,
            zipfile.ZipFile("b.xlsx", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
        ):
            for name in old.namelist():
                content = old.read(name)
                if name.endswith("sheet1.xml"):
                    start, end = content.index(b"<sheetData>"), content.index(b"</sheetData>")
                    content = (
                        content[:start] + f"<sheetData>{before}{huge}".encode() + content[end:]
                    )
                    content = re.sub(b"<dimension [^>]*>", b"", content)
                new.writestr(name, content)
        monkeypatch.delattr(openpyxl, "load_workbook")
        assert "a row or text in xl/worksheets/sheet1.xml unpacks to more than" in refusal("b.xlsx")

    @pytest.mark.parametrize(
        ("rows", "expected"),
        [
            ([], "is empty"),
            ([["text", None, "label"], ["a", "b", "c"]], "column 2 has no name"),
            ([["text"], ["a", "b"]], "row 2: there is a value beyond the 1 columns"),
            ([["text"]], "has no rows"),
            ([["text", "text"], ["a", "b"]], "2 columns are named 'text'"),
        ],
    )
    def test_sheets_without_a_table_are_refused(self, rows: Any, expected: str) -> None:
        assert expected in refusal(workbook("a.xlsx", ("S", rows)))


class TestOddCsv:
    def test_vertical_bars_separate_if_the_header_has_no_comma(self) -> None:
        Path("a.csv").write_text('id|text\n1|"Good | bad, then"\n')
        assert rows_of("a.csv") == [{"id": "1", "text": "Good | bad, then"}]

    @pytest.mark.parametrize("line", ['positive, "Good, nice"', 'positive, "Good"'])
    def test_a_blank_before_a_quote_is_named(self, line: str) -> None:
        Path("a.csv").write_text(f"label, text\n{line}\n")
        assert "line 2: a space before a quote" in refusal("a.csv")

    @pytest.mark.parametrize("column", ["stars", "Rating", "label", "id"])
    def test_a_single_column_without_texts_is_not_used_as_text(self, column: str) -> None:
        Path("a.csv").write_text(f"{column}\n5\n")
        with read_rows("a.csv") as rows, pytest.raises(InputError, match="which column"):
            rows.find_column("text")

    def test_column_names_match_with_spaces_for_underscores(self) -> None:
        Path("a.csv").write_text("Review Text,Label\na,b\n")
        with read_rows("a.csv") as rows:
            assert rows.find_column("text") == "Review Text"

    def test_reading_a_wide_table_takes_time_in_proportion_to_its_width(self) -> None:
        width = 80_000
        names = ",".join(f"c{number}" for number in range(width))
        Path("wide.csv").write_text(f"{names}\n{','.join('x' * width)}\n")
        begun = time.perf_counter()
        (row,) = rows_of("wide.csv")
        assert len(row) == width
        assert time.perf_counter() - begun < 5


class TestMarkup:
    @pytest.mark.parametrize(
        ("markup", "text"),
        [
            ("<p>Good</p><br/>&nbsp;&amp; more <b>text</b>", "Good\n& more text"),
            ("<script>alert(1)</script><b>bad</b>", "bad"),
            ("3 < 5 and R&D", "3 < 5 and R&D"),
            ("plain  text", "plain  text"),
        ],
    )
    def test_html_is_removed_on_request(self, markup: str, text: str) -> None:
        Path("a.jsonl").write_text(json.dumps({"text": markup}))
        with read_rows("a.jsonl") as rows:
            read = rows.text_reader(strip_markup=True)
            assert [read(where, row) for where, row in rows] == [text]
        opened = {"name": "files", "test": "a.jsonl"}
        kept = open_dataset(opened).split("test", labelled=False)
        stripped = open_dataset({**opened, "markup": "strip"}).split("test", labelled=False)
        assert (kept.texts, stripped.texts) == ([markup], [text])
