"""`data.source = "module:function"`: arrays of the user's own making, checked like those of a file."""

import sys
import types

import numpy as np
import pytest
import torch

from hpsearch.config import DataConfig, usercode
from hpsearch.config.study import validate
from hpsearch.config.usercode import UserCodeError, trust
from hpsearch.datasets.catalog import describe
from hpsearch.datasets.sources import load_test, load_train
from hpsearch.errors import DataError, RefusedError

X = np.random.default_rng(0).integers(0, 256, (30, 6, 7, 3), dtype=np.uint8)
Y = np.arange(30) % 3
NAMES = np.array(["dog", "cat", "owl"])
X_TEST, Y_TEST = X[:9] // 2, Y[:9]


@pytest.fixture
def returned(monkeypatch):
    """A config whose function returns this."""
    monkeypatch.setattr(usercode, "_trusted", set())

    def give(what, **options):
        module = types.ModuleType("mydata")
        module.make = what if callable(what) else lambda: what
        module.make.__module__ = "mydata"
        monkeypatch.setitem(sys.modules, "mydata", module)
        trust("mydata")
        return validate(DataConfig, {"source": "mydata:make", "options": options})

    return give


@pytest.mark.parametrize(
    "made",
    [
        ((X, Y), (X_TEST, Y_TEST)),
        (X, Y, X_TEST, Y_TEST),
        {"x_train": X, "y_train": Y, "x_test": X_TEST, "y_test": Y_TEST},
        (torch.from_numpy(X), torch.from_numpy(Y), torch.from_numpy(X_TEST), Y_TEST.tolist()),
    ],
    ids=["pairs", "four", "dict", "tensors"],
)
def test_both_splits_in_any_form(returned, made):
    train, test = load_train(returned(made)), load_test(returned(made))
    np.testing.assert_array_equal(train.x, X.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(train.y, Y)
    np.testing.assert_array_equal(test.x, X_TEST.transpose(0, 3, 1, 2))
    assert train.class_names == ("0", "1", "2")


def test_the_function_is_called_once_and_its_test_split_is_looked_at_before_the_search(returned):
    calls = []

    def make(y_test):
        calls.append(y_test)
        return (X, Y), (X_TEST, np.full(9, y_test))

    assert len(load_train(returned(make, y_test=1))) == 30
    assert calls == [1]
    with pytest.raises(DataError, match=r"^the test split: mydata:make: y_test.* 7"):
        load_train(returned(make, y_test=7))


@pytest.mark.parametrize("made", [(X, Y), {"x": X, "y": Y}])
def test_one_piece_is_divided_always_the_same(returned, made):
    train, test = load_train(returned(made)), load_test(returned(made))
    assert (len(train), len(test)) == (24, 6)
    rows = {row.tobytes() for row in np.concatenate([train.x, test.x])}
    assert rows == {row.tobytes() for row in np.ascontiguousarray(X.transpose(0, 3, 1, 2))}
    np.testing.assert_array_equal(load_train(returned(made)).x, train.x)


@pytest.mark.parametrize(
    "made", [(X, NAMES[Y].tolist()), {"x_train": X, "y_train": NAMES[Y], "x_test": X_TEST, "y_test": NAMES[Y_TEST]}]
)
def test_labels_may_be_text(returned, made):
    train, test = load_train(returned(made)), load_test(returned(made))
    assert train.class_names == test.class_names == ("cat", "dog", "owl")
    assert train.notes == ("the labels are text: 3 classes, from cat to owl",)
    assert sorted(set(test.y.tolist())) == [0, 1, 2]


def test_options_are_arguments_and_the_content_is_the_fingerprint(returned):
    def make(scale=1.0, names=("a", "b", "c")):
        return {"x_train": X * np.float32(scale), "y_train": Y, "class_names": names}

    one, two = load_train(returned(make)), load_train(returned(make, scale=2.0))
    assert one.class_names == ("a", "b", "c")
    assert one.fingerprint() == load_train(returned(make, scale=1.0)).fingerprint()
    assert one.fingerprint() != two.fingerprint()
    assert describe(returned(make))["per_class"] == {"a": 10, "b": 10, "c": 10}


def test_a_missing_test_split_is_no_matter_until_it_is_asked_for(returned):
    config = returned({"x_train": X, "y_train": Y})
    assert len(load_train(config)) == 30
    with pytest.raises(DataError, match=r"mydata:make: it returns no test split\.\nAllowed: x_test and y_test"):
        load_test(config)


def with_nan():
    x = X.astype(np.float64)
    x[17, 2, 3, 1] = np.nan
    return x


@pytest.mark.parametrize(
    ("made", "match"),
    [
        ((with_nan(), Y), r"^mydata:make: x\[17, 1, 2, 3\] is nan\.\nAllowed: finite"),  # N,C,H,W
        ({"x_train": with_nan(), "y_train": Y}, r"^mydata:make: x_train\[17, 1, 2, 3\] is nan"),
        ((X, np.where(np.arange(30) == 5, 40, Y)), r"mydata:make: y\[5\] = 40 is not a label"),
        ((X, np.where(np.arange(30) == 5, -1, Y)), r"mydata:make: y\[5\] = -1 is not a label"),
        ((X, Y[:29]), r"y has shape \(29,\) for 30 images"),
        ((X, Y + np.where(np.arange(30) == 7, 0.5, 0)), r"^mydata:make: y\[7\] = 1\.5 is not a label"),
        ((X, Y.astype(object)), r"y holds object"),
        ((X.astype(np.int64), Y), r"x holds int64.*\nAllowed: uint8"),
        ((np.zeros(30), Y), r"x has shape \(30,\)"),
        ({"x_train": X, "y_train": Y, "class_names": ["a"]}, r"class_names: 1 given, but y_train has 3 labels"),
        ((np.array([object()] * 30), Y), r"x holds object"),
    ],
)
def test_what_is_not_fit_to_train_on_is_named(returned, made, match):
    with pytest.raises(DataError, match=match):
        load_train(returned(made))


@pytest.mark.parametrize(
    ("made", "match"),
    [
        (None, r"mydata:make returns NoneType\.\nAllowed: \(x, y\), \(\("),
        ((X,), r"returns tuple of 1"),
        ({"images": X}, r"returns a dict of images"),
        (lambda: 1 / 0, r"mydata:make: calling it with no arguments raised ZeroDivisionError"),
        (lambda a: a, r"raised TypeError: .*missing 1 required"),
    ],
)
def test_what_is_no_data_set_is_the_users_error(returned, made, match):
    with pytest.raises(UserCodeError, match=match) as caught:
        load_train(returned(made))
    assert caught.value.exit_code == 2


def test_it_is_not_called_unless_trusted(returned, monkeypatch):
    config = returned(lambda: pytest.fail("called"))
    monkeypatch.setattr(usercode, "_trusted", set())
    with pytest.raises(RefusedError, match=r"'mydata:make' is named by the database"):
        load_train(config)
