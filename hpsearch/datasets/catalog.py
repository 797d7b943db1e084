"""What can be trained on, what is here, and what a training split looks like: for `hpsearch data`."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpsearch.config import DataConfig
from hpsearch.datasets.image_file import Rows
from hpsearch.datasets.images import Progress
from hpsearch.datasets.normalization import Normalization, Part, fit, parts
from hpsearch.datasets.notes import folds_note
from hpsearch.datasets.sources import DATA_DIR, DOWNLOADABLE, has_test_split, load_test, load_train
from hpsearch.datasets.splits import divide
from hpsearch.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """One row of `hpsearch data list`; None where it depends on the files or the study."""

    name: str
    description: str
    classes: int | None
    shape: tuple[int, int, int] | None  # channels, height, width
    num_train: int | None
    num_test: int | None
    origin: str
    present: bool = True


# Presence is told by one file of the training split, in either form it may have below the data folder.
_FILES = {
    "cifar10": ("cifar-10-batches-py/data_batch_1", "cifar-10-python.tar.gz"),
    "cifar100": ("cifar-100-python/train", "cifar-100-python.tar.gz"),
    "mnist": ("MNIST/raw/train-images-idx3-ubyte.gz",),
    "fashion-mnist": ("FashionMNIST/raw/train-images-idx3-ubyte.gz",),
    "svhn": ("train_32x32.mat",),
}


def is_present(source: DataConfig | str, data_dir: Path = DATA_DIR) -> bool:
    """Whether the training split can be loaded without a download; True for the user's own files, there or not."""
    name = source if isinstance(source, str) else source.source
    if name == "faces":
        return importlib.util.find_spec("skimage") is not None
    return name not in _FILES or any((data_dir / file).exists() for file in _FILES[name])


def list_sources(data_dir: Path = DATA_DIR) -> list[SourceInfo]:
    """All values of data.source; imports and reads none of the data sets."""

    def downloadable(
        name: str, description: str, classes: int, shape: tuple[int, int, int], num_train: int, num_test: int
    ) -> SourceInfo:
        return SourceInfo(
            name, description, classes, shape, num_train, num_test, "download", is_present(name, data_dir)
        )

    return [
        SourceInfo("digits", "handwritten digits", 10, (1, 8, 8), 1438, 359, "scikit-learn"),
        SourceInfo("faces", "faces and other patches", 2, (1, 25, 25), 160, 40, "scikit-image", is_present("faces")),
        downloadable("cifar10", "objects and animals", 10, (3, 32, 32), 50_000, 10_000),
        downloadable("cifar100", "objects and animals", 100, (3, 32, 32), 50_000, 10_000),
        downloadable("mnist", "handwritten digits", 10, (1, 28, 28), 60_000, 10_000),
        downloadable("fashion-mnist", "clothes", 10, (1, 28, 28), 60_000, 10_000),
        downloadable("svhn", "house numbers", 10, (3, 32, 32), 73_257, 26_032),
        SourceInfo("synthetic", "class templates plus noise", None, None, None, None, "made up"),
        SourceInfo("folder:PATH", "one folder of images per class", None, None, None, None, "your files"),
        SourceInfo("csv:PATH", "a table of image files with labels", None, None, None, None, "your files"),
        SourceInfo("npz:PATH", "x_train, y_train (x_test, y_test)", None, None, None, None, "your file"),
        SourceInfo("MODULE:FUNCTION", "arrays that it returns", None, None, None, None, "your code"),
    ]


def describe(config: DataConfig, data_dir: Path = DATA_DIR, progress: Progress | None = None) -> dict[str, Any]:
    """Shape, counts and statistics of the training split, as plain data; of the test split, labels are counted.

    `per_class` counts the whole split, `per_class_test` the test split, None where there is none. `before` and `after`
    are mean and std over all pixels of the training part, before and after normalization; the first with data.scale
    applied.

    Raises:
        ConfigError, DataError: as `device.prepare`.
    """
    images = load_train(config, data_dir, progress)
    train, val = divide(config, images.y, images.val_rows, images.groups)
    x_train: Part = images.x[train] if images.file is None else Rows(images.file, train)
    counts = np.bincount(images.y, minlength=images.num_classes)
    return {
        "source": config.source,
        "shape": list(images.shape),
        "dtype": str(images.x.dtype),
        "classes": images.num_classes,
        "per_class": dict(zip(images.class_names, counts.tolist(), strict=True)),
        "per_class_test": _test_counts(config, data_dir, progress),
        "num_train": len(train),
        "num_val": len(val),
        "notes": [*images.notes, *folds_note(config.folds or 1, len(images))],
        "normalize": config.normalize,
        "before": _mean_and_std(x_train, fit("none", x_train, config.scale)),
        "after": _mean_and_std(x_train, fit(config.normalize, x_train, config.scale)),
    }


def _test_counts(config: DataConfig, data_dir: Path, progress: Progress | None) -> dict[str, int] | None:
    """Test images of each class; None where there are none."""
    has_test = has_test_split(config)
    if has_test is False:
        return None
    try:
        images = load_test(config, data_dir, progress)
    except DataError:
        if has_test:
            raise
        return None  # a function of the user's that gives none
    counts = np.bincount(images.y, minlength=images.num_classes)
    return dict(zip(images.class_names, counts.tolist(), strict=True))


def _mean_and_std(x_NCHW: Part, normalization: Normalization) -> dict[str, float]:
    total = squares = 0.0
    for part in parts(x_NCHW):
        chunk = normalization.apply(part)
        total += float(chunk.sum())
        squares += float(np.square(chunk).sum())
    size = math.prod(x_NCHW.shape)
    mean = total / size
    return {"mean": mean, "std": float(np.sqrt(max(0.0, squares / size - mean**2)))}


def fetch(name: str, data_dir: Path = DATA_DIR, progress: Progress | None = None) -> list[Path]:
    """Download both splits of a data set and check them, decoding neither; the files that are now there.

    Empty for sources that come with a package.

    Raises:
        ConfigError: no data set is called so.
        DataError: a file cannot be had whole.
    """
    if name in DOWNLOADABLE:
        source = DOWNLOADABLE[name](name, data_dir, progress)
        return list(dict.fromkeys(source.fetch(train=True) + source.fetch(train=False)))
    if name in ("digits", "faces", "synthetic"):
        return []
    raise ConfigError(f"{name!r} is not a data set to fetch.\nAllowed: {', '.join(DOWNLOADABLE)}.")
