"""The part of a script that has the images: `x` N,C,H,W and `y` N of the training split, in the order of hpsearch.

Then `train` and `val`, their rows. What is drawn is drawn by the same rules from the same seeds, so that the script
trains and measures on the very images of the search; where that is not simple, the rows are written down.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpsearch.config import DataConfig
from hpsearch.datasets.arrays import Npz
from hpsearch.datasets.embedded import Digits, Faces, Synthetic
from hpsearch.datasets.folder import Folder
from hpsearch.datasets.images import Array, Images, Source
from hpsearch.datasets.listing import SUFFIXES, SYSTEM_FOLDERS
from hpsearch.datasets.sources import open_source
from hpsearch.datasets.splits import divide, test_share
from hpsearch.datasets.tabled import Tabled
from hpsearch.datasets.torchvision_sources import TorchvisionSource
from hpsearch.datasets.user import UserArrays
from hpsearch.errors import ConfigError, DataError
from hpsearch.search.plain_script import FILES
from hpsearch.search.training_script.parts import Part, part, rows_text
from hpsearch.search.training_script.unwritten import OTHERWISE

TORCHVISION = {
    "cifar10": ("CIFAR10", "train=True", "split.data.transpose(0, 3, 1, 2)", "np.array(split.targets)"),
    "cifar100": ("CIFAR100", "train=True", "split.data.transpose(0, 3, 1, 2)", "np.array(split.targets)"),
    "mnist": ("MNIST", "train=True", "split.data.numpy()[:, None]", "split.targets.numpy()"),
    "fashion-mnist": ("FashionMNIST", "train=True", "split.data.numpy()[:, None]", "split.targets.numpy()"),
    "svhn": ("SVHN", 'split="train"', "split.data", "split.labels.astype(np.int64)"),
}
"""torchvision's class, how it is told the split, and its images and labels."""

NUM_DIGITS, NUM_FACES = 1797, 200  # in all

LABELS: tuple[tuple[str, Callable[[Array], Any]], ...] = (
    ("{y}.reshape(-1).astype(np.int64)", lambda y: y.reshape(-1).astype(np.int64)),
    ("np.unique({y}, return_inverse=True)[1].reshape(-1)", lambda y: np.unique(y, return_inverse=True)[1].reshape(-1)),
    ("{y}.argmax(1)", lambda y: y.argmax(1)),
)
"""Ways from labels as they are stored to 0, 1, 2, ...; the first that gives those of the search is written."""


@dataclass(frozen=True)
class Given:
    """What a source says of its script: lines that make x and y, and whether 20% of them are to be set aside first."""

    part: Part
    has_test: bool = True


def images_part(config: DataConfig, images: Images, data_dir: Path) -> Part:
    """Lines that make x, y, class_names, train and val.

    Args:
        config: of the trial.
        images: the training split, as the search had it.
        data_dir: run.data_dir.

    Raises:
        ConfigError: they cannot be written; the message has what can.
    """
    source = open_source(config, data_dir)
    given = _given(source, config, images, data_dir)
    train, val = divide(config, images.y, images.val_rows, images.groups)
    num_kept = len(train) + len(val)
    split = part(
        "split",
        drawn=images.val_rows is None and images.groups is None,
        given_rows=images.val_rows is not None,
        limit=config.limit if config.limit is not None and num_kept < len(images) else None,
        num=len(images),
        num_val=len(val),
        share=config.val,
        grouped=config.group if images.groups is not None and images.val_rows is None else None,
        rows=rows_text(np.searchsorted(np.sort(np.concatenate([train, val])), val).tolist()),
        class_names=json.dumps(images.class_names, ensure_ascii=False),
    )
    draws = images.val_rows is None or config.limit is not None or not given.has_test
    texts = [part("draws").text] if draws else []
    return Part("\n\n".join([*texts, given.part.text, split.text]), given.part.imports, given.part.packages)


def _given(source: Source, config: DataConfig, images: Images, data_dir: Path) -> Given:
    num = len(images)
    match source:
        case Digits():
            made = part("digits", num_test=NUM_DIGITS - num, imports=["from sklearn.datasets import load_digits"],
                        packages=["scikit-learn"])  # fmt: skip
            return Given(made, has_test=False)
        case Faces():
            made = part("faces", num_test=NUM_FACES - num, imports=["from skimage.data import lfw_subset"],
                        packages=["scikit-image"])  # fmt: skip
            return Given(made, has_test=False)
        case Synthetic():
            return Given(part("synthetic", **dict(config.synthetic)))
        case TorchvisionSource():
            name, split, x, y = TORCHVISION[source.name]
            made = part("torchvision", name=name, split=split, x=x, y=y, folder=str(data_dir),
                        imports=["from torchvision import datasets"], packages=["torchvision"])  # fmt: skip
            return Given(made)
        case Npz():
            return Given(_arrays("npz", *source.load_stored(), images, path=str(source.path)))
        case UserArrays():
            return _of_function(source, images)
        case Folder() | Tabled():
            return _files(source, config, images)
    raise ConfigError(f"data.source = {config.source!r} cannot be written into a script.\nAllowed: {OTHERWISE}.")


def _arrays(template: str, x: Array, y: Array, images: Images, **given: Any) -> Part:
    order = ""
    if x.ndim == 2:
        order = "[:, None, None, :]"
    elif x.ndim == 3:
        order = "[:, None]"
    elif x.shape[1:] != images.x.shape[1:] or (x.shape[3] in (1, 3, 4) and x.shape[1] not in (1, 3, 4)):
        order = ".transpose(0, 3, 1, 2)"
    wide = ".astype(np.float32)" if x.dtype == np.float16 else ""
    return part(template, order=order + wide, labels=_labels(y, images), **given)


def _labels(y: Array, images: Images) -> str:
    """Where some are set aside as the test split, those that stay tell whether they are the labels of the search."""
    for text, made in LABELS:
        try:
            found = made(y)
            rows = np.arange(len(y)) if len(y) == len(images) else test_share(found)[0]
        except (ValueError, IndexError, DataError):
            continue
        if np.array_equal(found[rows], images.y):
            return text
    raise ConfigError(
        "the labels cannot be turned into those of the search in a line of a script.\n"
        "Allowed: whole numbers, text without class_names of another order, or one-hot."
    )


def _of_function(source: UserArrays, images: Images) -> Given:
    arrays, made = source.arrays, source.returned
    whole = "x" in arrays
    names = ("x", "y") if whole else ("x_train", "y_train")
    if isinstance(made, Mapping):
        places = [f'made["{name}"]' for name in names]
    elif whole or len(made) == 4:
        places = ["made[0]", "made[1]"]
    else:
        places = ["made[0][0]", "made[0][1]"]
    module, _, function = source.name.partition(":")
    options = ", ".join(f"{key}={value!r}" for key, value in source.options.items())
    x, y = (arrays[name] for name in names)
    num_test = len(x) - len(images)
    given = {"module": module, "function": function, "options": options, "places": places, "num_test": num_test}
    return Given(_arrays("function", x, y, images, imports=["import sys"], **given), has_test=not whole)


def _files(source: Folder | Tabled, config: DataConfig, images: Images) -> Given:
    found = source.listings()
    has_test = "test" in found
    if images.groups is not None and not has_test:
        raise ConfigError(
            f"data.group = {config.group!r} divides files without a test split, which a script does not repeat.\n"
            "Allowed: a test folder, or a test split in the table; or -f toml, which hpsearch train takes."
        )
    recipe = images.recipe
    assert recipe is not None
    channels, height, width = images.shape
    reading = {"shape": [channels, height, width], "black": recipe.black, "white": recipe.white, "crop": recipe.crop}
    num_whole = len(found["train"].y)
    num_train = num_whole if has_test else int(len(images) - len(found["val"].y) if "val" in found else len(images))
    given: dict[str, Any] = {
        "reading": reading,
        "read": FILES.strip("\n"),
        "num_test": num_whole - num_train,
        "num": len(images),
        "num_train": num_train,
        "has_val": "val" in found,
        "class_names": json.dumps(images.class_names, ensure_ascii=False),
    }
    imports = [
        "from concurrent.futures import ThreadPoolExecutor",
        "from pathlib import Path",
        "from PIL import Image, ImageOps",
    ]
    if isinstance(source, Folder):
        layout = source.layout
        folders = [str(layout.train), *([str(layout.val)] if layout.val else [])]
        files = sorted({path.suffix.lower() for listing in found.values() for path in listing.files} | SUFFIXES)
        made = part("folder", folders=folders, suffixes=files, skipped=sorted(SYSTEM_FOLDERS), **given,
                    imports=[*imports, "import os"], packages=["pillow"])  # fmt: skip
    else:
        made = part("table", **_table(source), **given, imports=[*imports, "import csv"], packages=["pillow"])
    return Given(made, has_test=has_test)


def _table(source: Tabled) -> Mapping[str, Any]:
    """How its file is read.

    Raises:
        ConfigError: there are several, or it says in another way than by a column what is to train on.
    """
    said = source.as_csv()
    if said is None:
        raise ConfigError(
            f"the table {source.path} cannot be read in a few lines of a script.\n"
            "Allowed: one csv file, with a column for the splits where it has several."
        )
    return said
