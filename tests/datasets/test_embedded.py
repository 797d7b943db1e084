from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from hpsearch.config import DataConfig, SyntheticConfig
from hpsearch.datasets.sources import load_test, load_train
from hpsearch.errors import MissingExtraError


@pytest.mark.parametrize(
    ("source", "shape", "num_train", "num_test", "classes"),
    [("digits", (1, 8, 8), 1438, 359, 10), ("faces", (1, 25, 25), 160, 40, 2)],
)
def test_embedded_sources(
    source: str, shape: tuple[int, int, int], num_train: int, num_test: int, classes: int
) -> None:
    train, test = load_train(DataConfig(source=source)), load_test(DataConfig(source=source))
    assert train.shape == test.shape == shape
    assert (len(train), len(test)) == (num_train, num_test)
    assert train.num_classes == classes
    assert train.x.dtype == np.float32
    assert train.x.min() == 0
    assert train.x.max() == 1
    together = {image.tobytes() for image in np.concatenate([train.x, test.x])}
    assert len(together) == num_train + num_test, "no image is in both splits"


def test_the_digits_are_those_that_scikit_learn_loads() -> None:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    train, test = load_train(DataConfig(source="digits")), load_test(DataConfig(source="digits"))
    theirs = {(image.tobytes(), label) for image, label in zip((x / 16).astype(np.float32), y, strict=True)}
    assert {(i.tobytes(), label) for part in (train, test) for i, label in zip(part.x, part.y, strict=True)} == theirs


def test_digits_import_no_scikit_learn() -> None:
    code = (
        "import sys; from hpsearch.config import DataConfig; from hpsearch.datasets.sources import load_train;"
        "load_train(DataConfig(source='digits')); print([m for m in ('sklearn', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_test_share_depends_on_no_setting() -> None:
    test = load_test(DataConfig(source="digits", seed=0))
    np.testing.assert_array_equal(test.x, load_test(DataConfig(source="digits", seed=7, val=300)).x)


def test_the_first_hundred_of_lfw_subset_are_faces() -> None:
    from skimage.data import lfw_subset

    train = load_train(DataConfig(source="faces"))
    faces = {image.astype(np.float32).tobytes() for image in lfw_subset()[:100]}
    assert all((image.tobytes() in faces) == (label == 1) for image, label in zip(train.x, train.y, strict=True))
    assert train.class_names == ("other", "face")


def test_faces_without_scikit_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    with pytest.raises(MissingExtraError, match=r"hpsearch\[faces\]"):
        load_train(DataConfig(source="faces"))


def test_synthetic_images_are_templates_plus_noise() -> None:
    settings = SyntheticConfig(shape=(2, 9, 7), classes=4, train=4000, test=400, noise=0.5)
    config = DataConfig(source="synthetic", synthetic=settings)
    train, test = load_train(config), load_test(config)
    assert train.x.shape == (4000, 2, 9, 7)
    assert len(test) == 400
    assert np.bincount(train.y).tolist() == [1000] * 4
    means = np.stack([train.x[train.y == label].mean(0) for label in range(4)])
    assert abs(means.std() - 1) < 0.1
    assert abs((train.x - means[train.y]).std() - 0.5) < 0.01
    nearest = ((test.x[:, None] - means) ** 2).sum((2, 3, 4)).argmin(1)
    assert (nearest == test.y).all(), "both splits have the same templates"
    assert not np.isin(test.x[:, 0, 0, 0], train.x[:, 0, 0, 0]).all()
    np.testing.assert_array_equal(train.x, load_train(config).x)


def test_importing_the_sources_is_light() -> None:
    code = (
        "import sys, hpsearch.datasets.catalog; hpsearch.datasets.catalog.list_sources();"
        "print([m for m in ('torch', 'torchvision', 'sklearn', 'skimage', 'PIL', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
