"""Tables of image files, in the forms that they come in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpsearch.datasets.tables import first_of, read_table
from hpsearch.errors import DataError

ROWS = [{"file": "a b/1.jpg", "class": "dög, cat"}, {"file": "2.jpg", "class": "x"}]


def table(tmp_path: Path, content: str | bytes, name: str = "t.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


PLAIN = 'file,class\na b/1.jpg,"dög, cat"\n2.jpg,x\n'


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        "\ufeff" + PLAIN,
        PLAIN.encode("utf-16"),
        PLAIN.removesuffix("\n"),
        "\n" + PLAIN + "\n , \n",
        'file, class\na b/1.jpg,"dög, cat"\n 2.jpg , x \n',
        "file;class\na b/1.jpg;dög, cat\n2.jpg;x\n",
        "file\tclass\na b/1.jpg\tdög, cat\n2.jpg\tx\n",
        "file|class\na b/1.jpg|dög, cat\n2.jpg|x\n",
        '"file";"class"\n"a b/1.jpg";"dög, cat"\n"2.jpg";"x"\n',
    ],
)
def test_all_that_spreadsheets_write_is_read(tmp_path: Path, content: str | bytes) -> None:
    found = read_table(table(tmp_path, content))
    assert list(found.columns) == ["file", "class"]
    assert [row for _, row in found.rows] == ROWS


def test_lines_of_json_are_read(tmp_path: Path) -> None:
    lines = [{**ROWS[0], "age": 7}, {**ROWS[1], "seen": None}]
    found = read_table(table(tmp_path, "\n".join(map(json.dumps, lines)), "t.jsonl"))
    assert list(found.columns) == ["file", "class", "age", "seen"]
    assert [dict(row) for _, row in found.rows] == [
        {**ROWS[0], "age": "7", "seen": ""},
        {**ROWS[1], "age": "", "seen": ""},
    ]


def test_each_row_knows_its_line(tmp_path: Path) -> None:
    found = read_table(table(tmp_path, 'file,note\n1.jpg,"two\nlines"\n\n2.jpg,x\n'))
    assert [(line, row["file"]) for line, row in found.rows] == [(2, "1.jpg"), (5, "2.jpg")]


def test_the_delimiter_is_that_under_which_wanted_columns_are_found(tmp_path: Path) -> None:
    path = table(tmp_path, "bild;a,b,c,d;art\n1.jpg;x;y\n")
    assert read_table(path, ["bild", "art"]).columns == ["bild", "a,b,c,d", "art"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", r"t\.csv has no rows"),
        ("t.csv", "file,class\n", r"t\.csv has no rows"),
        ("t.csv", "file,class\n1.jpg,x\n2.jpg\n", r"t\.csv, line 3 has 1 fields for 2 columns"),
        ("t.csv", "file,class\n1.jpg,x\n2.jpg,a,b\n", r"line 3 has 3 fields for 2 columns.*\n.*in quotes"),
        ("t.csv", 'file,class\n1.jpg,"x\n2.jpg,y\n', r"t\.csv, line 3 cannot be read: .*\nAllowed: quotes that end"),
        ("t.csv", "file,file\n1.jpg,x\n", r"two columns 'file'"),
        ("t.csv", b"file,class\n1.jpg,x\n2.jpg,d\xf6g\n", r"t\.csv, line 3 is no text in UTF-8"),
        ("t.jsonl", '{"file": "1.jpg"}\n{"file"\n', r"t\.jsonl, line 2 is no JSON"),
        ("t.jsonl", "[1]\n", r"t\.jsonl, line 1 is no object"),
    ],
)
def test_what_is_no_table_is_refused_with_its_line(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_table(table(tmp_path, content, name))


def test_a_table_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_table(tmp_path)


def test_columns_are_found_by_their_usual_names_in_any_case() -> None:
    assert first_of("path", ["Label", "File_Name", "path"]) == "path"
    assert first_of("label", ["id", " Class "]) == " Class "
    assert first_of("group", ["id"]) is None
