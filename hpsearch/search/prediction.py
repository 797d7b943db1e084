"""What a trained net says of new images: files, folders of them, arrays; batch by batch, in bounded memory.

Shape suffixes: B = batch, C = classes (of images: channels), H = height, W = width, K = likeliest classes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hpsearch.config.losses import Loss
from hpsearch.datasets.arrays import Npz
from hpsearch.datasets.decoding import decode, pillow_warnings, why_not
from hpsearch.datasets.images import Array, Progress
from hpsearch.datasets.listing import images_below
from hpsearch.datasets.preprocessing import Preprocessing
from hpsearch.errors import ConfigError
from hpsearch.runtime import num_cores
from hpsearch.training.threshold import Threshold
from hpsearch.training.views import refuse_unknown_views

MOST_IMAGES = 250  # in a batch
MOST_NUMBERS = 2**22  # in the images of a batch: 27 images of 224 x 224 in colour


@dataclass(frozen=True)
class Prediction:
    """Of one image: the likeliest classes with their probabilities, the likeliest first.

    Of two classes with a threshold the one that it decides for is the first.
    """

    name: str
    """The file's, as it was given or found."""
    row: int | None
    """Of an array; None for an image file."""
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Unreadable:
    """An image file that gives no image."""

    name: str
    why: str


@dataclass(frozen=True)
class NewImages:
    """Image files and files of arrays, in the order in which they were given, those of a folder sorted."""

    paths: tuple[Path, ...]
    left_out: Counter[str]
    """Files of other kinds in the folders, by suffix."""

    @property
    def has_files(self) -> bool:
        """Whether there is an image file among them."""
        return not all(map(_is_npz, self.paths))


def find_images(given: Sequence[str]) -> NewImages:
    """The images that paths stand for: image files, folders in any depth, npz files; `folder:` and `npz:` may lead.

    Raises:
        ConfigError: there is nothing at a path, or no image anywhere.
        DataError: a folder cannot be read.
    """
    paths: list[Path] = []
    left_out: Counter[str] = Counter()
    for name in given:
        path = _path(name)
        if path.is_dir():
            images, others = images_below(path)
            paths += images
            left_out += others
        else:
            paths.append(path)
    if not paths:
        raise ConfigError(f"no images in {', '.join(given)}.\nAllowed: image files, folders with images, npz files.")
    return NewImages(tuple(paths), left_out)


def _path(name: str) -> Path:
    prefix, sign, rest = name.partition(":")
    if not Path(name).exists() and sign and prefix.lower() in ("folder", "npz"):
        name = rest
    path = Path(name).expanduser()
    if not path.exists():
        raise ConfigError(f"{name} is not there.\nAllowed: image files, folders with images, npz files.")
    return path


def _is_npz(path: Path) -> bool:
    return path.suffix.lower() == ".npz"


class Classifier(Protocol):
    """A trained net, or several as one."""

    @property
    def preprocessing(self) -> Preprocessing:
        """Of the images as it takes them, and the names of its classes."""

    @property
    def num_classes(self) -> int:
        """Number of classes."""

    @property
    def threshold(self) -> Threshold | None:
        """From which probability on the second of two classes counts; None: the likeliest class does."""

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What its nets made small."""

    def classifier(self, device: torch.device, views: str | None = None) -> Callable[[Array], Tensor]:
        """From images as they were stored to probabilities, see `TrainedNet.classifier`."""


def predict_images(
    net: Classifier,
    images: NewImages,
    device: torch.device,
    top: int = 1,
    progress: Progress | None = None,
    *,
    views: str | None = None,
) -> Iterator[list[Prediction | Unreadable]]:
    """What the net says of each image, in order, a batch at a time.

    Args:
        net: of a trial, or an ensemble.
        images: of any size, decoded as the training images were; arrays as the training images are stored.
        device: where the net runs.
        top: so many classes of each image, at most all.
        progress: hears (done, total) in files.
        views: flip or ten-crop, over which probabilities are averaged; see `training.views`.

    Raises:
        DataError: the net's images are not like image files at all, an array cannot be read, or is of another shape.
        RefusedError, ConfigError: see `TrainedNet.module`.
    """
    refuse_unknown_views(views)
    pre = net.preprocessing
    if images.has_files:
        one_file: Callable[[Path], Array | Unreadable] = partial(_read, read=partial(decode, recipe=pre.file_recipe))
    classify = _classifier(net, device, min(top, net.num_classes), views)
    size = max(1, min(MOST_IMAGES, MOST_NUMBERS // math.prod(pre.shape)))
    done, total = 0, len(images.paths)
    with ThreadPoolExecutor(num_cores()) as pool:
        for paths in _batches(images.paths, size):
            if _is_npz(paths[0]):
                yield from _of_arrays(paths[0], net, size, classify)
            else:
                with pillow_warnings():
                    read = list(pool.map(one_file, paths))
                arrays = [each for each in read if not isinstance(each, Unreadable)]
                tops = iter(classify(np.stack(arrays)) if arrays else ())
                yield [
                    each if isinstance(each, Unreadable) else Prediction(str(path), None, next(tops))
                    for path, each in zip(paths, read, strict=True)
                ]
            done += len(paths)
            if progress:
                progress(done, total)


def _read(path: Path, read: Callable[[Path], Array]) -> Array | Unreadable:
    try:
        return read(path)
    except Exception as error:  # Pillow's decoders raise all kinds
        return Unreadable(str(path), why_not(error))


def _of_arrays(
    path: Path, net: Classifier, size: int, classify: Callable[[Array], list[tuple[tuple[str, float], ...]]]
) -> Iterator[list[Prediction | Unreadable]]:
    x_NCHW = net.preprocessing.array(Npz(path).load_unlabelled(), str(path))
    for start in range(0, len(x_NCHW), size):
        tops = classify(x_NCHW[start : start + size])
        yield [Prediction(str(path), start + row, top) for row, top in enumerate(tops)]


def _classifier(
    net: Classifier, device: torch.device, num: int, views: str | None
) -> Callable[[Array], list[tuple[tuple[str, float], ...]]]:
    probabilities, names = net.classifier(device, views), net.preprocessing.class_names

    def classify(x_BCHW: Array) -> list[tuple[tuple[str, float], ...]]:
        p_BC = probabilities(x_BCHW)
        p_BK, class_BK = p_BC.topk(num)
        if net.threshold is not None:  # of two classes, the one that it says is first
            first_B = (p_BC[:, 1] > net.threshold.value).long()
            class_BK = torch.stack([first_B, 1 - first_B], dim=1)[:, :num]
            p_BK = p_BC.gather(1, class_BK)
        return [
            tuple((names[c], p) for p, c in zip(*row, strict=True))
            for row in zip(p_BK.tolist(), class_BK.tolist(), strict=True)
        ]

    return classify


def _batches(paths: Sequence[Path], size: int) -> Iterator[Sequence[Path]]:
    """Image files by so many, a file of arrays by itself."""
    start = 0
    while start < len(paths):
        end = start + 1
        while end < min(len(paths), start + size) and not _is_npz(paths[start]) and not _is_npz(paths[end]):
            end += 1
        yield paths[start:end]
        start = end
