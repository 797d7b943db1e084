from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
from archives import NUM_PER_FILE, Server, cifar_batch, md5

from hpsearch.config import DataConfig
from hpsearch.datasets.catalog import fetch
from hpsearch.datasets.sources import load_test, load_train
from hpsearch.errors import DataError


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_cifar10_is_downloaded_and_read_as_it_was_packed(cifar10: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    config = DataConfig(source="cifar10")
    train = load_train(config, tmp_path, lambda done, total: seen.append((done, total)))

    first = pickle.loads(cifar_batch(1))
    np.testing.assert_array_equal(train.x[:NUM_PER_FILE], first["data"].reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(train.y[:NUM_PER_FILE], first["labels"])
    assert len(train) == 5 * NUM_PER_FILE
    assert train.class_names[3] == "class 3"
    size = len(cifar10.files["cifar-10-python.tar.gz"])
    assert seen[-1] == (size, size)

    test = load_test(config, tmp_path)
    np.testing.assert_array_equal(test.x, pickle.loads(cifar_batch(6))["data"].reshape(-1, 3, 32, 32))
    assert len(cifar10.requests) == 1, "the archive was there already"


def test_training_split_of_cifar10_needs_nothing_of_the_test_split(cifar10: Server, tmp_path: Path) -> None:
    config = DataConfig(source="cifar10")
    load_train(config, tmp_path)
    test_file = tmp_path / "cifar-10-batches-py" / "test_batch"
    assert not test_file.exists(), "not even unpacked"
    test_file.write_bytes(b"not a pickle")
    assert len(load_train(config, tmp_path)) == 5 * NUM_PER_FILE
    with pytest.raises(DataError, match="test_batch is corrupt"):
        load_test(config, tmp_path)


def test_a_flipped_byte_is_found_before_it_is_unpickled(cifar10: Server, tmp_path: Path) -> None:
    config = DataConfig(source="cifar10")
    load_train(config, tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_train(config, tmp_path)
    message = str(caught.value)
    assert str(path) in message
    assert f"expected md5 {md5(cifar_batch(3))}, actual {md5(bytes(content))}" in message
    assert "hpsearch data fetch cifar10" in message


def test_mnist_is_downloaded_one_split_at_a_time(mnist: Server, tmp_path: Path) -> None:
    config = DataConfig(source="mnist")
    train = load_train(config, tmp_path)
    assert train.x.shape == (50, 1, 28, 28)
    assert train.x.dtype == np.uint8
    packed = gzip.decompress(mnist.files["train-images-idx3-ubyte.gz"])
    assert train.x.tobytes() == packed[16:]
    np.testing.assert_array_equal(train.y, np.arange(50) % 10)
    assert all(name.startswith("train") for name in mnist.requests)
    assert load_test(config, tmp_path).x.shape == (20, 1, 28, 28)


def test_svhn_reads_its_digits_one_split_at_a_time(svhn: Server, tmp_path: Path) -> None:
    config = DataConfig(source="svhn")
    train = load_train(config, tmp_path)
    assert train.x.shape == (30, 3, 32, 32)
    np.testing.assert_array_equal(train.y, (np.arange(30) + 1) % 10)
    assert svhn.requests == ["train_32x32.mat"]
    assert load_test(config, tmp_path).shape == (3, 32, 32)


def test_a_truncated_download_leaves_nothing(cifar10: Server, tmp_path: Path) -> None:
    cifar10.cut.add("cifar-10-python.tar.gz")
    with pytest.raises(DataError) as caught:
        load_train(DataConfig(source="cifar10"), tmp_path)
    size = len(cifar10.files["cifar-10-python.tar.gz"])
    assert "cifar-10-python.tar.gz could not be downloaded from 127.0.0.1" in str(caught.value)
    assert f"expected {size} bytes, actual {size // 2}" in str(caught.value)
    assert "hpsearch data fetch cifar10" in str(caught.value)
    assert str(tmp_path / "cifar-10-python.tar.gz") in str(caught.value)
    assert files_in(tmp_path) == set()


def test_a_wrong_checksum_leaves_nothing(mnist: Server, tmp_path: Path) -> None:
    name = "train-images-idx3-ubyte.gz"
    expected = md5(mnist.files[name])
    mnist.files[name] = mnist.files[name][:-1] + b"?"
    with pytest.raises(DataError) as caught:
        load_train(DataConfig(source="mnist"), tmp_path)
    assert f"expected md5 {expected}, actual {md5(mnist.files[name])}" in str(caught.value)
    assert files_in(tmp_path) == set()


def test_a_missing_file_and_a_dead_server_are_told_apart(
    mnist: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets

    del mnist.files["train-labels-idx1-ubyte.gz"]
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:1/", mnist.url])
    with pytest.raises(DataError, match=r"train-labels.*127\.0\.0\.1: .*refused.*; 127\.0\.0\.1: .*404"):
        load_train(DataConfig(source="mnist"), tmp_path)
    assert files_in(tmp_path) == {"MNIST/raw/train-images-idx3-ubyte.gz"}, "the whole one stays"


def test_an_archive_put_there_by_hand_is_taken(cifar10: Server, tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(cifar10.files["cifar-10-python.tar.gz"])
    assert len(load_train(DataConfig(source="cifar10"), tmp_path)) == 5 * NUM_PER_FILE
    assert cifar10.requests == []


def test_a_wrong_archive_put_there_by_hand_is_named(cifar10: Server, tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match=r"cifar-10-python.tar.gz is corrupt: expected md5 \w+, actual \w+"):
        load_train(DataConfig(source="cifar10"), tmp_path)


def test_fetch_brings_both_splits(mnist: Server, tmp_path: Path) -> None:
    paths = fetch("mnist", tmp_path)
    assert len(paths) == 4
    assert all(path.exists() for path in paths)
    mnist.files.clear()
    assert len(load_test(DataConfig(source="mnist"), tmp_path)) == 20
