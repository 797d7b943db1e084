"""Data sets that come with a package, and made-up ones: no download, no file of the user's.

digits and faces have no test split of their own; `splits.test_share` sets 20% aside, always the same images.
"""

from __future__ import annotations

import importlib.util
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpsearch.config import SyntheticConfig
from hpsearch.datasets.images import Images, Source
from hpsearch.datasets.splits import test_share
from hpsearch.errors import DataError, MissingExtraError

SYNTHETIC_SEED = 0  # templates, labels and noise; a constant, so that all studies see the same images


class _Whole(Source):
    """A source in one piece, divided here."""

    @abstractmethod
    def _load_all(self) -> Images:
        """Training and test images together."""

    def _load(self, *, train: bool) -> Images:
        images = self._load_all()
        rows = test_share(images.y)[0 if train else 1]
        return Images(images.x[rows], images.y[rows], images.class_names, name_of=lambda row: int(rows[row]))


class Digits(_Whole):
    """scikit-learn's 1,797 handwritten digits (UCI ML, Alpaydin and Kaynak 1998), 8x8; 0 ... 16 becomes 0 ... 1."""

    description = "handwritten digits, 8x8, from scikit-learn"

    def _load_all(self) -> Images:
        # The file itself: to import scikit-learn, and SciPy with it, takes 0.9 s of a search of 4 s.
        (package,) = importlib.util.find_spec("sklearn").submodule_search_locations  # type: ignore[union-attr,misc]
        rows = np.loadtxt(Path(package, "datasets", "data", "digits.csv.gz"), delimiter=",")
        x_NCHW = (rows[:, :-1] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
        return Images(x_NCHW, rows[:, -1].astype(np.int64), tuple("0123456789"))


class Faces(_Whole):
    """scikit-image's subset of Labeled Faces in the Wild: 100 faces and 100 other patches, 25x25 in 0 ... 1."""

    description = "faces and other patches, 25x25, from scikit-image"

    def _load_all(self) -> Images:
        try:
            from skimage.data import lfw_subset
        except ImportError:
            raise MissingExtraError('data.source = "faces"', "scikit-image", "faces") from None
        try:
            x_NHW = lfw_subset()  # type: ignore[no-untyped-call]
        except Exception as error:  # whatever its own download of the file raises
            raise DataError(f"scikit-image cannot load lfw_subset.npy: {error}") from error
        y = np.repeat(np.array([1, 0]), len(x_NHW) // 2)
        return Images(x_NHW.astype(np.float32)[:, None], y.astype(np.int64), ("other", "face"))


@dataclass(frozen=True)
class Synthetic(Source):
    """One template of standard normal pixels per class; an image is its template plus noise."""

    config: SyntheticConfig
    description = "class templates plus noise, for tests and benchmarks"

    def _load(self, *, train: bool) -> Images:
        config = self.config
        num = config.train if train else config.test
        templates = np.random.default_rng(SYNTHETIC_SEED).standard_normal(
            (config.classes, *config.shape), dtype=np.float32
        )
        noise = np.random.default_rng([SYNTHETIC_SEED, 1 if train else 2])
        y = noise.permutation(np.arange(num, dtype=np.int64) % config.classes)
        x_NCHW = noise.standard_normal((num, *config.shape), dtype=np.float32)
        x_NCHW *= np.float32(config.noise)
        x_NCHW += templates[y]
        return Images(x_NCHW, y, tuple(map(str, range(config.classes))))
