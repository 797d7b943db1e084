import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpsearch.config import Choice, FloatRange, IntRange, dump_range, parse_range
from hpsearch.config.ranges import parse_value
from hpsearch.errors import ConfigError


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ({"log": [1e-6, 1e-3]}, FloatRange(1e-6, 1e-3, log=True)),
        ({"uniform": [0, 1]}, FloatRange(0.0, 1.0)),
        ({"int": [1, 5]}, IntRange(1, 5)),
        ({"int_log": [1, 512]}, IntRange(1, 512, log=True)),
        ({"choice": [[50], [100, 20]]}, Choice(((50,), (100, 20)))),
        ("log(1e-6, 1e-3)", FloatRange(1e-6, 1e-3, log=True)),
        ("log(1e-6,1e-3)", FloatRange(1e-6, 1e-3, log=True)),
        ("uniform(-1, .5)", FloatRange(-1.0, 0.5)),
        ("int(1, 5)", IntRange(1, 5)),
        ("choice([50], [100, 20])", Choice(((50,), (100, 20)))),
        ("choice(he, xavier, small:1e-4)", Choice(("he", "xavier", "small:1e-4"))),
        ("choice([hflip], [])", Choice((("hflip",), ()))),
        ("choice(true, false)", Choice((True, False))),
    ],
)
def test_forms_of_a_range(given_, expected):
    assert parse_range("x", given_) == expected


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({"logg": [1, 2]}, ["space.x", "logg", "log = [a, b]"]),
        ({"log": [0, 1]}, ["space.x", "above 0", "0.0"]),
        ({"log": [1]}, ["space.x", "two numbers", "[1]"]),
        ({"uniform": [2, 1]}, ["space.x", "low to high", "[2.0, 1.0]"]),
        ({"uniform": [0, math.inf]}, ["space.x", "finite"]),
        ({"uniform": ["a", 1]}, ["space.x", "two numbers"]),
        ({"int": [1.5, 2]}, ["space.x", "whole numbers"]),
        ({"int": [0, math.inf]}, ["space.x"]),
        ({"choice": []}, ["space.x", "at least one"]),
        ({"choice": [1, 1]}, ["space.x", "twice"]),
        ({"log": [1, 2], "int": [1, 2]}, ["space.x"]),
        (3, ["space.x = 3"]),
        ("lag(1, 2)", ["x=lag(1, 2)", "log(a, b)"]),
        ("log", ["x=log", "log(a, b)"]),
    ],
)
def test_a_wrong_range_names_key_value_and_what_is_allowed(given_, words):
    with pytest.raises(ConfigError) as caught:
        parse_range("x", given_)
    for word in words:
        assert word in str(caught.value)


finite = st.floats(-1e12, 1e12)
positive = st.floats(1e-12, 1e12)
ranges = st.one_of(
    st.tuples(finite, finite).map(lambda ends: FloatRange(min(ends), max(ends))),
    st.tuples(positive, positive).map(lambda ends: FloatRange(min(ends), max(ends), log=True)),
    st.tuples(st.integers(-9999, 9999), st.integers(-9999, 9999)).map(lambda ends: IntRange(min(ends), max(ends))),
    st.lists(st.one_of(st.integers(), st.text(), st.booleans()), min_size=1, unique_by=repr).map(
        lambda values: Choice(tuple(values))
    ),
)


@given(ranges)
def test_a_dumped_range_reads_back_as_it_was(range_):
    assert parse_range("x", dump_range(range_)) == range_


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("true", True),
        ("[50, 20]", [50, 20]),
        ("[hflip, crop:4]", ["hflip", "crop:4"]),
        ("{ patience = 3 }", {"patience": 3}),
        ('{ name = "patient", wrapped = { name = "median" }, patience = 2 }',
         {"name": "patient", "wrapped": {"name": "median"}, "patience": 2}),
        ('{"patience": 3}', {"patience": 3}),
        ("{ patience 3 }", "{ patience 3 }"),
        ("cosine", "cosine"),
    ],
)  # fmt: skip
def test_a_flags_value_is_json_a_table_of_toml_or_text(text, value):
    assert parse_value(text) == value
