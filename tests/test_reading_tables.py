"""Reading tables: formats, columns, places in files, and refusing what is malformed."""

from __future__ import annotations

import csv
import datetime
import decimal
import gzip
import io
import json
import os
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentikit.plugins.files.delimited import LONGEST_FIELD

from sentikit.datasets.rows import find_column
from sentikit.datasets.tables import FORMATS, read_rows
from sentikit.errors import InputError

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0

WriteFile = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> WriteFile:
    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


def rows_of(path: Path, **options: Any) -> list[tuple[int, dict[str, Any]]]:
    with read_rows(path, **options) as rows:
        return [(where, dict(row)) for where, row in rows]


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        rows_of(path, **options)
    assert caught.value.exit_code == 2
    return caught.value.message


class TestFormats:
    def test_csv_keeps_all_columns_in_order(self, write: WriteFile) -> None:
        path = write("a.csv", "text,stars,label\nfine,4,positive\nmeh,2,negative\n")
        with read_rows(path) as rows:
            assert rows.columns == ("text", "stars", "label")
            assert list(rows) == [
                (2, {"text": "fine", "stars": "4", "label": "positive"}),
                (3, {"text": "meh", "stars": "2", "label": "negative"}),
            ]

    def test_csv_quoted_newlines_commas_and_quotes_and_the_first_line_of_each_record(
        self, write: WriteFile
    ) -> None:
        path = write("a.csv", 'text,label\r\n"one,\r\n""two""\r\n",neg\r\n\r\nlast,pos\r\n')
        assert rows_of(path) == [
            (2, {"text": 'one,\r\n"two"\r\n', "label": "neg"}),
            (6, {"text": "last", "label": "pos"}),
        ]

    def test_a_quote_inside_an_unquoted_field_is_text(self, write: WriteFile) -> None:
        assert rows_of(write("a.csv", 'text\n5" screen\n')) == [(2, {"text": '5" screen'})]

    def test_the_last_line_may_lack_a_line_end(self, write: WriteFile) -> None:
        assert rows_of(write("a.csv", "text\nend")) == [(2, {"text": "end"})]

    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    def test_csv_with_semicolons_is_read(self, write: WriteFile, end: str) -> None:
        lines = ["", 'text;"stars, of 5";label', '"one; ""two""";3,5;neg', "a, b;4,0;pos", ""]
        assert rows_of(write("a.csv", "\ufeff" + end.join(lines))) == [
            (3, {"text": 'one; "two"', "stars, of 5": "3,5", "label": "neg"}),
            (4, {"text": "a, b", "stars, of 5": "4,0", "label": "pos"}),
        ]

    @pytest.mark.parametrize(
        ("header", "columns"),
        [
            ("text,a;b", ("text", "a;b")),
            ('"text;a",b', ("text;a", "b")),
            ('"text;a"', ("text;a",)),
            ('"a\nb;c",d', ("a\nb;c", "d")),
        ],
    )
    def test_commas_take_precedence_as_separator(
        self, write: WriteFile, header: str, columns: tuple[str, ...]
    ) -> None:
        with read_rows(write("a.csv", f"{header}\nfine,pos\n")) as rows:
            assert rows.columns == columns

    def test_a_stray_quote_among_semicolons_is_refused(self, write: WriteFile) -> None:
        message = refusal(write("a.csv", 'text;label\n"fine" indeed;pos\n'))
        assert "line 2: the quote that opens here closes in the middle of a field" in message

    def test_tsv_is_read(self, write: WriteFile) -> None:
        path = write("a.tsv", 'text\tlabel\n"a\tb, c"\tneg\n')
        assert rows_of(path) == [(2, {"text": "a\tb, c", "label": "neg"})]

    def test_quotes_in_unquoted_tsv_are_text(self, write: WriteFile) -> None:
        path = write("a.tsv", 'text\tlabel\n"never closed\tneg\n')
        assert rows_of(path, format="tsv-unquoted") == [
            (2, {"text": '"never closed', "label": "neg"})
        ]
        assert "tsv-unquoted" in refusal(path)

    @pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "A.JSONL"])
    def test_json_lines_keep_types_and_skip_blank_lines(self, write: WriteFile, name: str) -> None:
        path = write(name, '{"text": "é\\u00e9", "n": 1.5}\n\n{"text": "b", "n": null}\r\n')
        assert rows_of(path) == [(1, {"text": "éé", "n": 1.5}), (3, {"text": "b", "n": None})]

    def test_json_keys_may_be_left_out_and_come_later(self, write: WriteFile) -> None:
        path = write("a.jsonl", '{"text": "a"}\n{"label": "neg", "text": "b"}\n')
        with read_rows(path) as rows:
            assert rows.columns == ("text", "label")
            assert [row["label"] for _, row in rows] == [None, "neg"]

    def test_a_json_key_first_met_far_down_is_kept(self, write: WriteFile) -> None:
        path = write("a.jsonl", '{"text": "a"}\n' * 200 + '{"text": "b", "late": [1]}\n')
        assert rows_of(path)[-1] == (201, {"text": "b", "late": [1]})

    def test_deeply_nested_json_is_read(self, write: WriteFile) -> None:
        nested = "[" * 300 + "]" * 300
        (row,) = rows_of(write("a.jsonl", f'{{"text": "a", "n": {nested}}}\n'))
        assert json.dumps(row[1]["n"]) == nested

    def test_nan_in_json_is_null(self, write: WriteFile) -> None:
        assert rows_of(write("a.jsonl", '{"text": "a", "n": NaN}\n'))[0][1]["n"] is None

    def test_parquet_keeps_types_and_counts_rows(self, tmp_path: Path) -> None:
        table = pa.table({"text": ["a", None], "n": [1, 2], "v": [[0.5], []]})
        pq.write_table(table, tmp_path / "a.parquet")
        with read_rows(tmp_path / "a.parquet") as rows:
            assert (rows.columns, rows.unit) == (("text", "n", "v"), "row")
            assert rows.at(2) == f"{tmp_path / 'a.parquet'}, row 2"
            assert list(rows) == [
                (1, {"text": "a", "n": 1, "v": [0.5]}),
                (2, {"text": None, "n": 2, "v": []}),
            ]

    def test_plain_text_has_one_text_per_line(self, write: WriteFile) -> None:
        path = write("a.txt", 'one, "two"\r\n\n  \nthree\n')
        assert rows_of(path) == [(1, {"text": 'one, "two"'}), (4, {"text": "three"})]

    @pytest.mark.parametrize("name", ["a.csv.gz", "A.CSV.GZ"])
    def test_gzipped_text_is_read(self, write: WriteFile, name: str) -> None:
        assert rows_of(write(name, gzip.compress(b"text\nzip\n"))) == [(2, {"text": "zip"})]

    def test_a_byte_order_mark_is_no_part_of_the_first_column(self, write: WriteFile) -> None:
        assert rows_of(write("a.csv", b"\xef\xbb\xbftext\nfine\n")) == [(2, {"text": "fine"})]
        assert rows_of(write("a.jsonl", b'\xef\xbb\xbf{"text": "fine"}\n'))[0][1]["text"] == "fine"

    def test_the_format_of_a_table_can_be_given(self, write: WriteFile) -> None:
        assert rows_of(write("a.data", "text\nfine\n"), format="csv") == [(2, {"text": "fine"})]

    def test_a_field_longer_than_the_csv_modules_limit_is_read(self, write: WriteFile) -> None:
        limit = csv.field_size_limit()
        long = "word, \n" * 100_000
        content = f'text,label\n"{long}",neg\nshort,pos\n"{long}",neu\n'
        rows = rows_of(write("a.csv", content))
        assert [where for where, _ in rows] == [2, 100_003, 100_004]
        assert [row["label"] for _, row in rows] == ["neg", "pos", "neu"]
        assert rows[2][1]["text"] == long
        assert csv.field_size_limit() == limit


class TestPipes:
    def test_a_stream_without_a_format_is_text(self) -> None:
        rows = read_rows(io.BytesIO(b"one\ntwo\n"))
        assert [row["text"] for _, row in rows] == ["one", "two"]

    @pytest.mark.parametrize(
        ("form", "first", "second"),
        [
            ("text", b"one\n", b"two\n"),
            ("csv", b"text\none\n", b"two\n"),
            ("jsonl", b'{"text": "one"}\n', b'{"text": "two"}\n'),
        ],
    )
    def test_a_pipe_is_followed_as_it_grows(self, form: str, first: bytes, second: bytes) -> None:
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb", buffering=0) as sink:
            sink.write(first)
            rows = iter(read_rows(stream, form))
            assert next(rows)[1]["text"] == "one"  # would hang if more had to arrive first
            sink.write(second)
            assert next(rows)[1]["text"] == "two"
            sink.close()
            assert next(rows, None) is None

    def test_the_callers_stream_stays_open(self) -> None:
        stream = io.BytesIO(b"text\none\n")
        with read_rows(stream, "csv") as rows:
            list(rows)
        assert not stream.closed

    @pytest.mark.posix
    def test_a_named_pipe_is_opened_once(self, tmp_path: Path) -> None:
        path = tmp_path / "pipe.csv"
        os.mkfifo(path)
        writer = threading.Thread(target=path.write_text, args=("text\none\n",))
        writer.start()
        assert rows_of(path) == [(2, {"text": "one"})]
        writer.join()

    def test_parquet_needs_a_file(self) -> None:
        with pytest.raises(InputError, match=r"standard input: Parquet cannot be read from a pipe"):
            read_rows(io.BytesIO(b"PAR1"), "parquet")

    def test_messages_name_the_stream(self) -> None:
        with pytest.raises(InputError, match=r"^standard input, line 2, byte 1 of the line"):
            list(read_rows(io.BytesIO(b"fine\n\xff\n")))


class TestRefusals:
    def test_a_missing_table_file_is_named(self, tmp_path: Path) -> None:
        for name in ("a.csv", "a.parquet", "a"):
            assert refusal(tmp_path / name) == f"{tmp_path / name} does not exist. Check the path."

    def test_a_folder_as_table_is_refused(self, tmp_path: Path) -> None:
        for name in ("a.csv", "a.parquet", "a"):
            (tmp_path / name).mkdir()
            assert "is a folder without .txt or .parquet files" in refusal(tmp_path / name)

    @pytest.mark.skipif(IS_ROOT, reason="root may read everything")
    @pytest.mark.posix
    def test_an_unreadable_file_is_reported(self, write: WriteFile) -> None:
        path = write("a.csv", "text\nfine\n")
        path.chmod(0)
        assert "may not be read" in refusal(path)

    def test_an_unknown_table_format_is_refused(self, write: WriteFile) -> None:
        path = write("a.jsom", "{}")
        message = refusal(path)
        assert all(known in message for known in FORMATS)
        assert "Did you mean 'jsonl'" in refusal(path, format="jsnl")

    @pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.txt"])
    @pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
    def test_an_empty_table_file_is_refused(
        self, write: WriteFile, name: str, content: bytes
    ) -> None:
        message = refusal(write(name, content))
        assert "is empty" in message or "has no rows" in message

    def test_a_header_without_rows_is_refused(self, write: WriteFile, tmp_path: Path) -> None:
        assert "a.csv has no rows" in refusal(write("a.csv", "text,label\n"))
        pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
        assert "a.parquet has no rows" in refusal(tmp_path / "a.parquet")

    def test_broken_utf8_is_named_with_its_line(self, write: WriteFile) -> None:
        path = write("a.csv", b"text,label\nfine,pos\ncaf\xe9,pos\n")
        assert refusal(path) == (
            f"{path}, line 3, byte 4 of the line: the byte 0xE9 is not UTF-8. "
            "Save the file as UTF-8 (it may be in Windows-1252 or Latin-1)."
        )

    @pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt"])
    def test_a_nul_byte_is_refused(self, write: WriteFile, name: str) -> None:
        message = refusal(
            write(name, b"one\nfi\0ne\n" if name != "a.jsonl" else b'{"a": 1}\n{"\0\n')
        )
        assert "line 2, byte 3 of the line: a NUL byte" in message

    @pytest.mark.parametrize(
        ("content", "guess"),
        [
            ("text\nfine\n".encode("utf-16"), "UTF-16"),
            (b"PK\x03\x04\x14\x00\x06\x00", "Excel"),
            (gzip.compress(b"text\nfine\n", mtime=0), "gzip"),
            (b"PAR1\x15\x04\x15\x00", "Parquet"),
        ],
    )
    def test_another_kind_of_file_is_recognized(
        self, write: WriteFile, content: bytes, guess: str
    ) -> None:
        assert guess in refusal(write("a.csv", content))

    def test_a_damaged_gzip_file_is_refused(self, write: WriteFile) -> None:
        packed = gzip.compress(b"text\n" + os.urandom(5000).hex().encode())
        assert "not a complete gzip file" in refusal(write("a.csv.gz", packed[:-2000]))
        assert "not a complete gzip file" in refusal(write("b.csv.gz", b"text\nfine\n"))

    def test_a_damaged_parquet_file_is_refused(self, tmp_path: Path, write: WriteFile) -> None:
        assert "not a complete Parquet file" in refusal(write("a.parquet", "text\nfine\n"))
        assert "not a complete Parquet file" in refusal(write("b.parquet", b""))
        pq.write_table(pa.table({"text": ["some text"] * 50}), tmp_path / "c.parquet")
        whole = (tmp_path / "c.parquet").read_bytes()
        message = refusal(write("d.parquet", b"PAR1" + b"\xff" * 60 + whole[64:]))
        assert "not a complete Parquet file" in message

    def test_parquet_text_that_is_not_utf8_is_refused(self, tmp_path: Path) -> None:
        text = pa.Array.from_buffers(
            pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")]
        )
        pq.write_table(pa.table({"text": text}), tmp_path / "a.parquet")
        assert "not UTF-8" in refusal(tmp_path / "a.parquet")

    def test_rows_of_the_wrong_width_are_refused(self, write: WriteFile) -> None:
        path = write("a.csv", "text,label\nfine,pos\nwell, well,pos\n")
        assert refusal(path) == (
            f"{path}, line 3: 3 fields, but the header names 2 columns ('text', 'label'). "
            "Quote fields that contain the separator."
        )
        assert "line 2: 1 field, but" in refusal(write("b.csv", "text,label\nfine\n"))

    def test_a_repeated_column_is_refused(self, write: WriteFile, tmp_path: Path) -> None:
        path = write("a.csv", "text,label,text\na,b,c\n")
        assert f"{path}, line 1: 2 columns are named 'text'" in refusal(path)
        table = pa.Table.from_arrays([pa.array(["a"])] * 2, names=["text", "text"])
        pq.write_table(table, tmp_path / "a.parquet")
        assert "2 columns are named 'text'" in refusal(tmp_path / "a.parquet")

    def test_an_unsupported_separator_is_named(self, write: WriteFile) -> None:
        assert "separated by semicolons" in refusal(write("a.tsv", "text;label\nfine;pos\n"))
        assert "separated by tabs" in refusal(write("a.csv", "text\tlabel\nfine\tpos\n"))
        assert "separated by commas" in refusal(write("a.tsv", "text,label\nfine,pos\n"))

    def test_an_unclosed_quote_is_refused_with_its_line(self, write: WriteFile) -> None:
        path = write("a.csv", 'text,label\nfine,pos\n"ok\nok","no end\n' + "more,pos\n" * 9)
        message = refusal(path)
        assert message.startswith(f"{path}, line 4: a quote opens here (")
        assert "is never closed" in message

    def test_an_unclosed_quote_in_a_long_file_is_refused(self, write: WriteFile) -> None:
        content = 'text,label\nfine,pos\n"no end,neg\n' + "more of it,pos\n" * 50_000
        message = refusal(write("a.csv", content))
        assert "a.csv, line 3: a quote opens here" in message
        assert "is never closed" in message

    @pytest.mark.slow
    def test_an_unclosed_quote_is_refused_before_memory_fills(self, write: WriteFile) -> None:
        lines = LONGEST_FIELD // 15 + 100_000
        path = write("a.csv", 'text,label\n"no end,neg\n' + "more of it,pos\n" * lines)
        assert "line 2: a quote opens here" in refusal(path)

    def test_a_quote_closed_by_the_next_quoted_field_is_refused(self, write: WriteFile) -> None:
        path = write("a.csv", 'text,label\nok,pos\n"no end,neg\n"fine",pos\n')
        message = refusal(path)
        assert message.startswith(f"{path}, line 3: the quote that opens here closes in the middle")
        assert "line 4)" in message

    def test_carriage_returns_as_line_ends_are_refused(self, write: WriteFile) -> None:
        assert "carriage return" in refusal(write("a.csv", "text,label\rfine,pos\r"))

    @pytest.mark.parametrize(
        ("line", "complaint"),
        [
            ('{"text": "a"', "not valid JSON: Expecting ',' delimiter at character 13"),
            ("{'text': 'a'}", "not valid JSON"),
            ('["a"]', "each line must be a JSON object"),
            ('"a"', ", not a text"),
            ("3", ", not a number"),
            ("null", ", not null"),
            ("[", "but a list spans several lines"),
            ('{"text": "\\ud83d"}', "half of a character"),
            ('{"n": Infinity}', "Infinity is not a JSON number"),
            ("[" * 100_000, "JSON"),
        ],
    )
    def test_a_bad_json_line_is_named(self, write: WriteFile, line: str, complaint: str) -> None:
        message = refusal(write("a.jsonl", f'{{"text": "a"}}\n{line}\n{{"text": "b"}}\n'))
        assert "a.jsonl, line 2: " in message
        assert complaint in message

    def test_complete_surrogate_pairs_are_read(self, write: WriteFile) -> None:
        assert rows_of(write("a.jsonl", '{"text": "\\ud83d\\ude00"}\n'))[0][1]["text"] == "😀"

    def test_a_line_longer_than_64_mib_is_refused(self, write: WriteFile) -> None:
        message = refusal(write("a.txt", b"a" * (64 * 2**20 + 1)))
        assert "line 1: the line is longer than 64 MiB" in message


class TestCells:
    def test_numbers_and_dates_become_short_text(self, tmp_path: Path) -> None:
        table = pa.table(
            {
                "whole": pa.array([1.0, float("nan")]),
                "share": pa.array([0.25, None]),
                "number": pa.array([-3, 2]),
                "money": pa.array([decimal.Decimal("1.00"), decimal.Decimal("100.50")]),
                "flag": pa.array([True, False]),
                "day": pa.array([datetime.date(2024, 5, 1)] * 2),
                "kind": pa.array(["a", "b"]).dictionary_encode(),
            }
        )
        pq.write_table(table, tmp_path / "a.parquet")
        with read_rows(tmp_path / "a.parquet") as rows:
            assert list(rows.cells(*table.column_names)) == [
                (1, ("1", "0.25", "-3", "1", "true", "2024-05-01", "a")),
                (2, (None, None, "2", "100.5", "false", "2024-05-01", "b")),
            ]

    def test_a_list_is_refused_as_text(self, write: WriteFile) -> None:
        path = write("a.jsonl", '{"id": 1, "text": "a"}\n{"id": 2, "text": ["b"]}\n')
        with (
            read_rows(path) as rows,
            pytest.raises(InputError, match="line 2: the column 'text' holds a list"),
        ):
            list(rows.cells("id", "text"))

    def test_unrequested_columns_are_not_read(self, write: WriteFile) -> None:
        path = write("a.jsonl", '{"text": "a", "tokens": ["a"]}\n')
        assert list(read_rows(path).cells("text")) == [(1, ("a",))]


class TestFindingColumns:
    def find(self, columns: list[str], wanted: str | None = None, what: str = "text") -> str:
        return find_column(columns, wanted, what, "a.csv", "--text-column C")

    @pytest.mark.parametrize(
        ("columns", "found"),
        [
            (["id", "Sentence", "label"], "Sentence"),
            (["sentence", "text"], "text"),
            ([" Text ", "label"], " Text "),
            (["X_test_sent", "y_test", "y_pred"], "X_test_sent"),
            (["review", "classification", "prediction"], "review"),
            (["anything"], "anything"),
        ],
    )
    def test_columns_with_common_text_names_are_found(self, columns: list[str], found: str) -> None:
        assert self.find(columns) == found

    @pytest.mark.parametrize(
        ("columns", "found"),
        [
            (["sentence", "gold_label"], "gold_label"),
            (["review", "classification"], "classification"),
            (["text", "label_text", "label"], "label"),
        ],
    )
    def test_columns_with_common_label_names_are_found(
        self, columns: list[str], found: str
    ) -> None:
        assert self.find(columns, what="label") == found

    def test_an_explicit_column_name_takes_precedence(self) -> None:
        assert self.find(["text", "Title"], wanted="Title") == "Title"
        assert self.find(["text", "Title"], wanted="title") == "Title"

    def test_an_unknown_column_name_gets_a_suggestion(self) -> None:
        with pytest.raises(InputError, match=r"a.csv has no column 'sentense'.*mean 'sentence'\?"):
            self.find(["sentence", "label"], wanted="sentense")

    def test_a_table_without_a_likely_text_column_is_refused(self) -> None:
        with pytest.raises(InputError) as caught:
            self.find(["title", "stars"])
        assert caught.value.message == (
            "a.csv: which column holds the text? It has 'title', 'stars'. "
            "Choose it with --text-column C."
        )

    def test_ratings_are_not_used_as_labels(self, write: WriteFile) -> None:
        with read_rows(write("a.csv", "text,rating\nfine,5\n")) as rows:
            assert rows.find_column("text") == "text"
            assert rows.find_optional_column("label") is None
            assert rows.find_optional_column("label", "rating") == "rating"


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
WHERE = settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])


class TestRoundTrips:
    @WHERE
    @given(
        table=st.integers(1, 4).flatmap(
            lambda n: st.lists(st.lists(CELL, min_size=n, max_size=n), min_size=1)
        )
    )
    @pytest.mark.parametrize("form", ["csv", "tsv"])
    @pytest.mark.parametrize("line_end", ["\n", "\r\n"])
    def test_tables_written_by_the_csv_module_are_read_back(
        self, table: list[list[str]], form: str, line_end: str
    ) -> None:
        columns = [f"column {number}" for number in range(len(table[0]))]
        written = io.StringIO()
        delimiter = {"csv": ",", "tsv": "\t"}[form]
        writer = csv.writer(
            written, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL
        )
        writer.writerows([columns, *table])
        rows = read_rows(io.BytesIO(written.getvalue().encode()), form)
        assert rows.columns == tuple(columns)
        lines = written.getvalue().split("\n")
        for (where, row), expected in zip(rows, table, strict=True):
            assert list(row.values()) == expected
            assert lines[where - 1].startswith('"' + expected[0].split("\n")[0].replace('"', '""'))

    @WHERE
    @given(
        records=st.lists(
            st.dictionaries(CELL, st.one_of(CELL, st.integers(), st.none())), min_size=1
        )
    )
    def test_tables_written_by_the_json_module_are_read_back(
        self, records: list[dict[str, Any]]
    ) -> None:
        written = "".join(json.dumps(record) + "\n" for record in records)
        rows = list(read_rows(io.BytesIO(written.encode()), "jsonl"))
        assert [where for where, _ in rows] == list(range(1, len(records) + 1))
        for (_, row), record in zip(rows, records, strict=True):
            assert {key: row[key] for key in record} == record

    @WHERE
    @given(content=st.binary())
    @pytest.mark.parametrize("form", ["csv", "tsv", "tsv-unquoted", "jsonl", "text"])
    def test_any_bytes_are_read_or_refused_in_one_sentence(self, content: bytes, form: str) -> None:
        outcome: object = None
        try:
            outcome = list(read_rows(io.BytesIO(content), form))
        except InputError as error:
            outcome = error.message.startswith("standard input")
        assert outcome


class TestRealData:
    def test_the_merged_test_split_reads_as_published(self, shared_data: Path) -> None:
        with read_rows(shared_data / "merged" / "test.csv") as rows:
            assert rows.columns == ("sentence", "label", "source", "split")
            assert rows.find_column("text") == "sentence"
            texts = [text for _, (text,) in rows.cells("sentence")]
        assert len(texts) == 6530

    def test_the_dynasent_files_read_as_published(self, shared_data: Path) -> None:
        path = shared_data / "dynasent-v1.1" / "dynasent-v1.1-round01-yelp-dev.jsonl"
        with read_rows(path) as rows:
            assert [rows.find_column(what) for what in ("id", "text", "label")] == [
                "text_id",
                "sentence",
                "gold_label",
            ]
            assert sum(1 for _ in rows) == 3600

    @pytest.mark.parametrize("name", ["B1-EB.csv", "E17-G4OM-ELFT-PR2.csv", "E13-G4OM-ELFT.csv"])
    def test_the_studys_recorded_answers_are_read(self, shared_data: Path, name: str) -> None:
        with read_rows(shared_data / "recorded" / name) as rows:
            columns = [rows.find_column("text"), rows.find_column("label")]
            assert sum(1 for _ in rows.cells(*columns)) == 6530


def peak_memory(rows: Iterator[object]) -> tuple[int, int]:
    """Return how many rows there are and the most bytes Python held while reading them."""
    tracemalloc.start()
    try:
        count = sum(1 for _ in rows)
        return count, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
class TestSize:
    def test_a_million_csv_rows_are_read_in_flat_memory(self, tmp_path: Path) -> None:
        path = tmp_path / "big.csv"
        with path.open("w", encoding="utf-8") as stream:
            stream.write("id,text,label\n")
            for start in range(0, 1_000_000, 1000):
                stream.writelines(
                    f'{row},"A sentence, number {row}.",neg\n' for row in range(start, start + 1000)
                )
        with read_rows(path) as rows:
            count, peak = peak_memory(iter(rows))
        assert count == 1_000_000
        assert peak < 5 * 2**20

    def test_one_large_parquet_row_group_is_read_in_flat_memory(self, tmp_path: Path) -> None:
        path = tmp_path / "big.parquet"
        texts = pa.array([f"A sentence, number {row}." * 20 for row in range(200_000)])
        pq.write_table(
            pa.table({"text": texts, "row": pa.array(range(200_000))}),
            path,
            compression="none",
            use_dictionary=False,
            row_group_size=200_000,
        )
        del texts
        before = pa.total_allocated_bytes()
        with read_rows(path) as rows:
            most = max(pa.total_allocated_bytes() - before for _ in rows.cells("text"))
        assert path.stat().st_size > 90 * 2**20
        assert most < 30 * 2**20
