"""Labels whose meaning is plain become 0 ... C-1 and are said; all others are refused, with row and value."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpsearch.datasets.labels import read_classes
from hpsearch.errors import DataError

REPEATED = np.arange(30) % 3
TEXT = np.array(["dog", "cat", "owl"])[REPEATED]
ONE_HOT = np.eye(3, dtype=np.uint8)[REPEATED]


def read(y, class_names=None, name="y"):
    y = np.asarray(y)
    classes = read_classes(y, name, None if class_names is None else np.asarray(class_names))
    return classes.number(y, name).tolist(), classes.names, classes.notes


@pytest.mark.parametrize("dtype", ["uint8", "int16", ">i4", "int64", "uint64"])
def test_integers_from_0_are_classes_as_they_are(dtype):
    assert read(REPEATED.astype(dtype)) == (REPEATED.tolist(), ("0", "1", "2"), ())
    assert read(REPEATED.astype(dtype)[:, None]) == (REPEATED.tolist(), ("0", "1", "2"), ())


@pytest.mark.parametrize(
    ("y", "names", "note"),
    [
        (
            np.array([0, 2, 5])[REPEATED],
            ("0", "2", "5"),
            "the labels 0, 2, 5 are taken for 3 classes that keep these names",
        ),
        (REPEATED + 1, ("1", "2", "3"), "the labels 1 ... 3 are taken for 3 classes that keep these names"),
        (REPEATED % 2 * 2 - 1, ("-1", "1"), "the labels -1, 1 are taken for 2 classes that keep these names"),
        (REPEATED.astype(">f4"), ("0", "1", "2"), "the labels are floats, all of them whole numbers"),
        (ONE_HOT, ("0", "1", "2"), "the labels are one-hot: 3 classes, columns 0 ... 2"),
        (ONE_HOT.astype(float), ("0", "1", "2"), "the labels are one-hot: 3 classes, columns 0 ... 2"),
        (ONE_HOT.astype(bool), ("0", "1", "2"), "the labels are one-hot: 3 classes, columns 0 ... 2"),
        (np.insert(ONE_HOT, 1, 0, axis=1), ("0", "2", "3"), "the labels are one-hot: 3 classes, columns 0, 2, 3"),
        (REPEATED == 1, ("False", "True"), "the labels are true and false: False is class 0, True is class 1"),
        (TEXT, ("cat", "dog", "owl"), "the labels are text: 3 classes, from cat to owl"),
        (TEXT.astype("S"), ("cat", "dog", "owl"), "the labels are text: 3 classes, from cat to owl"),
        (
            TEXT.astype(np.dtypes.StringDType()),
            ("cat", "dog", "owl"),
            "the labels are text: 3 classes, from cat to owl",
        ),
    ],
)
def test_other_labels_are_mapped_keep_their_names_and_are_said(y, names, note):
    numbers, read_names, notes = read(y)
    assert (read_names, notes) == (names, (note,))
    old = ONE_HOT.argmax(1) if y.ndim == 2 else y
    again = {}
    for number, label in zip(numbers, old.tolist(), strict=True):
        assert again.setdefault(number, label) == label
    assert sorted(again) == list(range(len(names)))


def test_floats_with_gaps_say_both():
    _, names, notes = read(np.array([1.0, 4.0, 9.0])[REPEATED])
    assert names == ("1", "4", "9")
    assert notes == (
        "the labels are floats, all of them whole numbers",
        "the labels 1, 4, 9 are taken for 3 classes that keep these names",
    )


@pytest.mark.parametrize(
    ("y", "given_", "names"),
    [
        (REPEATED, ["a", "b", "c"], ("a", "b", "c")),
        (REPEATED, [b"a", b"b", b"c"], ("a", "b", "c")),
        (REPEATED + 1, ["a", "b", "c"], ("a", "b", "c")),  # one for each label
        (np.array([0, 2, 5])[REPEATED], ["a", "b", "c"], ("a", "b", "c")),
        (np.array([0, 2, 5])[REPEATED], list("abcdef"), ("a", "c", "f")),  # one for each number
        (np.array([1, 2, 3])[REPEATED], list("abcd"), ("b", "c", "d")),
        (ONE_HOT, ["a", "b", "c"], ("a", "b", "c")),
        (REPEATED == 1, ["no", "yes"], ("no", "yes")),
        (TEXT, ["owl", "dog", "cat"], ("owl", "dog", "cat")),  # the order is theirs
        (TEXT, ["owl", "emu", "dog", "cat"], ("owl", "dog", "cat")),
        ([*REPEATED.tolist(), 5], list("abcdef"), ("a", "b", "c", "f")),  # a name makes a single one plain
    ],
)
def test_class_names_go_with_labels_in_their_order_or_with_numbers(y, given_, names):
    numbers, read_names, notes = read(y, given_)
    assert read_names == names
    left_out = [note for note in notes if "class_names" in note]
    num = len(given_) - len(names)
    assert left_out == ([f"{num} of {len(given_)} class_names have no image and are left out"] if num else [])
    if np.asarray(y).dtype.kind == "U":
        assert [names[number] for number in numbers] == list(y)


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (np.where(np.arange(30) == 4, 0.5, REPEATED), r"^y\[4\] = 0\.5 is not a label\.\nAllowed: one label an image"),
        (np.where(np.arange(30) == 4, np.nan, REPEATED), r"^y\[4\] = nan"),
        (np.where(np.arange(30) == 4, np.inf, REPEATED), r"^y\[4\] = inf"),
        (np.where(np.arange(30) == 4, 1e300, REPEATED), r"^y\[4\] = 1e\+300"),
        (np.where(np.arange(30) == 4, 2**64 - 1, REPEATED.astype(np.uint64)), r"^y\[4\] = 18446744073709551615"),
        (
            np.where(np.arange(30) == 4, -1, REPEATED),
            r"^y\[4\] = -1 is not a label\.\n.*leave images without a label out",
        ),
        (np.where(np.arange(30) == 4, 99, REPEATED), r"^y\[4\] = 99 is not a label\.\n.*alone beside a gap"),
        (np.where(np.arange(30) == 4, "", TEXT), r"^y\[4\] = '' is not a label"),
        (np.array([f"{i}.png" for i in range(30)]), r"^y holds 30 different texts for 30 images"),
        (np.array([b"a", b"\xff", b"a", b"a"]), r"^y\[1\] = b'\\xff' is not a label\.\nAllowed: text in UTF-8"),
        (np.insert(ONE_HOT, 4, [1, 1, 0], axis=0), r"^y\[4\] = \[1, 1, 0\] is not a label"),
        (np.insert(ONE_HOT, 4, [0, 0, 0], axis=0), r"^y\[4\] = \[0, 0, 0\] is not a label"),
        (np.full((30, 3), 1 / 3), r"^y\[0\] = \[0\.3"),
        (REPEATED.astype(object), r"^y holds object in shape \(30,\)"),
        (REPEATED.astype("m8[s]"), r"^y holds timedelta64"),
        (REPEATED.astype(complex), r"^y holds complex128"),
        (np.zeros((30, 3, 3), int), r"^y holds int64 in shape \(30, 3, 3\)"),
        (np.zeros(0, int), r"^y holds int64 in shape \(0,\)"),
    ],
)
def test_what_is_not_plain_is_refused_with_row_and_value(y, match):
    with pytest.raises(DataError, match=match):
        read(y)


@pytest.mark.parametrize(
    ("y", "given_", "match"),
    [
        (REPEATED, ["a", "b"], r"^class_names: 2 given, but y has 3 labels: 0 \.\.\. 2\.\nAllowed: a name for each"),
        (REPEATED * 9, list("abcd"), r"^class_names: 4 given, but y has 3 labels: 0, 9, 18\."),
        (REPEATED, [1, 2, 3], r"^class_names holds int64 in shape \(3,\)"),
        (REPEATED, [["a", "b", "c"]], r"^class_names holds <U1 in shape \(1, 3\)"),
        (TEXT, ["cat", "dog"], r"^y\[2\] = 'owl' is not a label\.\nAllowed: those of class_names, cat, dog\."),
    ],
)
def test_class_names_that_do_not_fit_are_refused(y, given_, match):
    with pytest.raises(DataError, match=match):
        read(y, given_)


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        (REPEATED + 1, [3, 1], [2, 0]),  # a test split may lack classes
        (REPEATED, [2.0, 0.0], [2, 0]),  # and have its labels in another form
        (ONE_HOT, [2, 0], [2, 0]),
        (REPEATED, [[0, 0, 1], [1, 0, 0]], [2, 0]),
        (TEXT, [b"owl", b"cat"], [2, 0]),
        (REPEATED, np.array([2, 0], np.uint64), [2, 0]),
    ],
)
def test_the_test_split_is_mapped_as_the_training_split_says(train, test, expected):
    assert read_classes(np.asarray(train), "y_train").number(np.asarray(test), "y_test").tolist() == expected


@pytest.mark.parametrize(
    ("train", "test", "match"),
    [
        (REPEATED + 1, [1, 0], r"^y_test\[1\] = 0 is not a label\.\nAllowed: 1 \.\.\. 3\."),
        (REPEATED * 2, [0, 2, 3], r"^y_test\[2\] = 3 is not a label\.\nAllowed: 0, 2, 4\."),
        (TEXT, ["cat", "cow"], r"^y_test\[1\] = 'cow' is not a label\.\nAllowed: cat, dog, owl\."),
        (TEXT, [0, 1], r"^y_test\[0\] = 0 is not a label\.\nAllowed: cat, dog, owl\."),
        (REPEATED, ["0"], r"^y_test\[0\] = '0' is not a label\.\nAllowed: 0 \.\.\. 2\."),
    ],
)
def test_a_test_label_that_training_does_not_know_is_refused(train, test, match):
    with pytest.raises(DataError, match=match):
        read_classes(np.asarray(train), "y_train").number(np.asarray(test), "y_test")


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30))
def test_equal_labels_are_equal_classes_in_the_same_order(labels):
    y = np.array(labels * 2)
    numbers, names, _ = read(y)
    assert [int(names[number]) for number in numbers] == y.tolist()
    assert list(names) == [str(label) for label in sorted(set(labels))]
