from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpsearch.config import DataConfig
from hpsearch.datasets.arrays import Npz, channels_first
from hpsearch.datasets.sources import has_test_split, load_test, load_train
from hpsearch.errors import DataError


def save(path: Path, **changes: Any) -> Path:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "x_train": rng.integers(0, 256, (30, 6, 7, 3), dtype=np.uint8),
        "y_train": np.arange(30) % 3,
        "x_test": rng.integers(0, 256, (9, 6, 7, 3), dtype=np.uint8),
        "y_test": np.arange(9) % 3,
        **changes,
    }
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def config(path: Path) -> DataConfig:
    return DataConfig(source=f"npz:{path}")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((5, 32, 32, 3), (5, 3, 32, 32)),
        ((5, 28, 28, 1), (5, 1, 28, 28)),
        ((5, 8, 8, 4), (5, 4, 8, 8)),
        ((5, 3, 32, 32), (5, 3, 32, 32)),
        ((5, 1, 28, 28), (5, 1, 28, 28)),
        ((5, 3, 5, 3), (5, 3, 5, 3)),  # could be either: taken as channels first
        ((5, 6, 7, 8), (5, 6, 7, 8)),
        ((5, 28, 28), (5, 1, 28, 28)),
        ((5, 3072), (5, 1, 1, 3072)),
    ],
)
def test_axes_become_channels_first(given: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert channels_first(np.zeros(given)).shape == expected


def test_channels_last_is_transposed_not_reshaped(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz")
    train = load_train(config(path))
    np.testing.assert_array_equal(train.x, np.load(path)["x_train"].transpose(0, 3, 1, 2))
    assert train.class_names == ("0", "1", "2")
    assert load_test(config(path)).x.shape == (9, 3, 6, 7)


@pytest.mark.parametrize(
    ("given", "kept"), [("float64", "float64"), (">f8", "float64"), ("float32", "float32"), ("float16", "float32")]
)
def test_floats_keep_their_precision(tmp_path: Path, given: str, kept: str) -> None:
    x = np.random.default_rng(0).random((30, 5, 5))
    train = load_train(config(save(tmp_path / "a.npz", x_train=x.astype(given), x_test=None)))
    assert train.x.dtype == np.dtype(kept)
    np.testing.assert_array_equal(train.x[:, 0], x.astype(given).astype(kept))


def test_labels_may_be_a_column_and_classes_may_have_names(tmp_path: Path) -> None:
    changes = {"y_train": (np.arange(30) % 3)[:, None].astype(np.uint8), "class_names": np.array(["a", "b", "ç"])}
    train = load_train(config(save(tmp_path / "a.npz", **changes)))
    assert train.y.shape == (30,)
    assert train.y.dtype == np.int64
    assert train.class_names == ("a", "b", "ç")


def test_labels_that_are_text_name_the_classes_of_both_splits(tmp_path: Path) -> None:
    names = np.array(["dog", "cat", "owl"])
    path = save(tmp_path / "a.npz", y_train=names[np.arange(30) % 3], y_test=np.array([b"owl", b"cat", b"owl"] * 3))
    train, test = load_train(config(path)), load_test(config(path))
    assert train.class_names == test.class_names == ("cat", "dog", "owl")
    assert (train.y[:3].tolist(), test.y[:3].tolist()) == ([1, 0, 2], [2, 0, 2])
    assert train.notes == ("the labels are text: 3 classes, from cat to owl",)
    with pytest.raises(DataError, match=r"a\.npz: y_test\[4\] = 'cow' is not a label\.\nAllowed: cat, dog, owl"):
        load_test(config(save(path, y_train=names[np.arange(30) % 3], y_test=np.array(["dog"] * 4 + ["cow"] * 5))))


def test_objects_in_the_test_split_are_refused_with_the_training_split(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", x_test=np.array([object()]), y_test=np.array([object()]))
    for load in (load_train, load_test):
        with pytest.raises(DataError, match="x_test is refused"):
            load(config(path))


def test_a_missing_test_split_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", y_test=None)
    with pytest.raises(DataError, match=r"has no y_test\.\nIt has: x_test, x_train, y_train"):
        load_test(config(path))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"y_train": np.array([0, 1, 2] * 9 + [0, 1, 99])}, r"y_train\[29\] = 99 is not a label"),
        ({"y_train": np.array([0, 1, -2] * 10)}, r"y_train\[2\] = -2 is not a label"),
        ({"y_train": np.array(["cat"] * 30)}, r"1 class is too few"),
        ({"y_train": np.arange(29) % 3}, r"y_train has shape \(29,\) for 30 images"),
        ({"x_train": np.zeros((30, 4, 4), dtype=np.int64)}, r"x_train holds int64"),
        ({"x_train": np.zeros(30)}, r"x_train has shape \(30,\)"),
        ({"x_train": None}, r"has no x_train"),
        ({"class_names": np.array(["a", "b"])}, r"class_names: 2 given, but .*y_train has 3 labels: 0 \.\.\. 2\."),
        ({"x_train": np.full((30, 4, 4), np.nan)}, r"x_train\[0, 0, 0, 0\] is nan"),
        ({"x_train": np.full((30, 4, 4), -1e39)}, r"x_train\[0, 0, 0, 0\] is -1e\+39.\nAllowed: .*up to 3\.4e\+38"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(DataError, match=match):
        load_train(config(save(tmp_path / "a.npz", **changes)))


def test_a_test_label_unknown_to_training_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", y_test=np.arange(9) % 4)
    with pytest.raises(DataError, match=r"y_test\[3\] = 3 is not a label"):
        load_test(config(path))


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was executed",)


@pytest.mark.parametrize("member", ["x_train", "y_train", "class_names"])
def test_pickled_objects_are_refused_and_not_executed(tmp_path: Path, member: str) -> None:
    path = save(tmp_path / "a.npz", **{member: np.array([Bomb()] * 30, dtype=object)})
    with pytest.raises(DataError, match=f"{member} is refused: it holds pickled objects"):
        load_train(config(path))


def member(shape: tuple[int, ...], content: bytes) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue() + content


def test_a_header_that_claims_a_huge_array_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", x_train=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_train.npy", member((10**9, 3, 224, 224), b""))
    with pytest.raises(DataError, match=r"x_train is refused: it claims 140,190\.1 GiB"):
        load_train(config(path))


def test_a_header_that_claims_more_than_there_is_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", x_train=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_train.npy", member((30, 4, 4), b"short"))
    with pytest.raises(DataError, match=r"claims 480 bytes, but 5 follow"):
        load_train(config(path))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, x_train=np.zeros((30, 1000, 1000), np.uint8), y_train=np.arange(30) % 3)
    assert path.stat().st_size < 100_000
    with pytest.raises(DataError, match="x_train is refused"):
        Npz(path, max_bytes=10**7).load_train()
    assert len(Npz(path).load_train()) == 30


@pytest.mark.parametrize("name", ["x_train", "y_train", "class_names"])
@pytest.mark.parametrize("kind", ["header", "content"])
def test_no_member_takes_more_memory_than_its_size_allows(tmp_path: Path, name: str, kind: str) -> None:
    """A few kB that unpack to 30 MB: as a header, which NumPy would read whole, or as more content than it claims."""
    path = save(tmp_path / "bomb.npz", **{name: None})
    huge = bytes(30_000_000)
    content = b"\x93NUMPY\x02\x00" + len(huge).to_bytes(4, "little") + huge if kind == "header" else member((30,), huge)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.npy", content)
    del huge, content
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=f"{name} is refused: its header claims"):
            load_train(config(path))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_member_with_a_path_is_written_nowhere(tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    path = save(folder / "a.npz")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../x_test.npy", member((30,), bytes(30)))
        archive.writestr("/tmp/../x_train.npy", member((30,), bytes(30)))
    train = load_train(config(path))
    assert train.x.shape == (30, 3, 6, 7)  # of the member that is called so, not of those beside it
    assert sorted(tmp_path.rglob("*")) == [folder, path]


@pytest.mark.parametrize("content", [None, b"", b"not a zip file"])
def test_what_is_no_npz_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npz cannot be read"):
        load_train(config(path))


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz")
    content = bytearray(path.read_bytes())
    content[content.index(b"x_train.npy") + 1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="x_train cannot be read: Bad CRC-32"):
        load_train(config(path))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"y_test": np.full(9, 7)}, r"the test split: .*y_test\[0\] = 7 is not a label"),
        ({"x_test": np.zeros((9, 5, 7, 3), np.uint8)}, r"x_test holds images of \(3, 5, 7\)"),
        ({"x_test": np.zeros((9, 6, 7, 3))}, "x_test holds images of .* in float64"),
        ({"x_test": np.zeros((8, 6, 7, 3), np.uint8)}, "y_test has shape"),
    ],
)
def test_what_is_wrong_with_the_test_split_is_found_with_the_training_split(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        load_train(config(save(tmp_path / "a.npz", **changes)))


def test_nothing_of_the_test_split_is_in_the_training_split(tmp_path: Path) -> None:
    both, train = (
        load_train(config(save(tmp_path / "a.npz"))),
        load_train(config(save(tmp_path / "b.npz", x_test=None))),
    )
    assert both.fingerprint() == train.fingerprint()
    assert len(load_train(config(save(tmp_path / "c.npz", y_test=None)))) == 30  # images without labels are no split


def test_the_names_in_a_file_say_whether_it_has_a_test_split(tmp_path):
    x, y = np.zeros((4, 2, 2), np.uint8), np.arange(4) % 2
    np.savez(tmp_path / "train.npz", x_train=x, y_train=y)
    np.savez(tmp_path / "both.npz", x_train=x, y_train=y, x_test=x, y_test=y)

    def known(source):
        return has_test_split(DataConfig(source=source))

    assert known(f"npz:{tmp_path}/train.npz") is False
    assert known(f"npz:{tmp_path}/both.npz")
    assert known(f"npz:{tmp_path}/gone.npz") is None
    assert known("digits")
    assert known("mymodule:images") is None
