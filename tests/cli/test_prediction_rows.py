"""Any name of a file comes back out of the rows, whatever bytes it has."""

import csv
import io
import json
import os

from hypothesis import given
from hypothesis import strategies as st

from hpsearch.cli.prediction_rows import CsvRows, JsonRows
from hpsearch.search.prediction import Prediction, Unreadable

NAMES = st.binary(min_size=1).filter(lambda name: b"\0" not in name).map(os.fsdecode)


@given(st.lists(NAMES, max_size=5), st.floats(0, 1))
def test_rows_of_csv(names, probability):
    out = io.BytesIO()
    rows = CsvRows(out, 2)
    rows.add(Prediction(name, None, (("=sum", probability), ("b,c", 0.0))) for name in names)
    text = out.getvalue().decode("utf-8", "surrogateescape")
    header, *read = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert header == ["file", "class", "probability", "class_2", "probability_2"]
    assert [row[0].removeprefix("./") for row in read] == [name.removeprefix("./") for name in names]
    assert not any(row[0].startswith(("=", "+", "-", "@")) for row in read)
    for row in read:
        assert (row[1], row[3:]) == ("'=sum", ["b,c", "0"])
        assert abs(float(row[2]) - probability) <= 1e-6


@given(st.lists(NAMES, max_size=5), st.lists(NAMES, max_size=2))
def test_one_document_of_json(names, failed):
    out = io.BytesIO()
    rows = JsonRows(out, {"study": "fine"})
    for row, name in enumerate(names):
        rows.add([Prediction(name, row, (("a", 0.25),))])
    rows.end(Unreadable(name, "cut") for name in failed)
    document = json.loads(out.getvalue())
    assert document == {
        "study": "fine",
        "predictions": [
            {"file": name, "row": row, "class": "a", "probability": 0.25} for row, name in enumerate(names)
        ],
        "failed": [{"file": name, "why": "cut"} for name in failed],
    }
