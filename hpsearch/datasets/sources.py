"""From data.source to the source it names."""

from __future__ import annotations

from pathlib import Path

from hpsearch.config import DataConfig
from hpsearch.config.usercode import is_user_code
from hpsearch.datasets.arrays import Npz
from hpsearch.datasets.checks import check_images
from hpsearch.datasets.embedded import Digits, Faces, Synthetic
from hpsearch.datasets.folder import Folder
from hpsearch.datasets.images import Images, Progress, Source
from hpsearch.datasets.torchvision_sources import Cifar, Mnist, Svhn, TorchvisionSource
from hpsearch.datasets.user import UserArrays
from hpsearch.errors import DataError

__all__ = ["DATA_DIR", "DOWNLOADABLE", "Images", "Progress", "Source", "load_test", "load_train", "open_source"]

DATA_DIR = Path("data")

DOWNLOADABLE: dict[str, type[TorchvisionSource]] = {
    "cifar10": Cifar,
    "cifar100": Cifar,
    "mnist": Mnist,
    "fashion-mnist": Mnist,
    "svhn": Svhn,
}


def open_source(config: DataConfig, data_dir: Path = DATA_DIR, progress: Progress | None = None) -> Source:
    """The source of a data set; nothing is read yet. Downloads and caches go below `data_dir`."""
    kind, _, path = config.source.partition(":")
    if kind in DOWNLOADABLE:
        return DOWNLOADABLE[kind](kind, data_dir, progress)
    match kind:
        case "digits":
            return Digits()
        case "faces":
            return Faces()
        case "synthetic":
            return Synthetic(config.synthetic)
        case "folder":
            return Folder(Path(path).expanduser(), config.size, data_dir, progress)
        case "npz":
            return Npz(Path(path).expanduser())
    if is_user_code(config.source):
        return UserArrays(config.source, config.options)
    raise AssertionError(f"DataConfig lets {config.source!r} through")


def load_train(config: DataConfig, data_dir: Path = DATA_DIR, progress: Progress | None = None) -> Images:
    """The whole training split, checked; with the hold-out, where the source gives one.

    A folder's test images are decoded with it, so that a damaged one is found now, but nothing of them is in it.

    Raises:
        DataError: it cannot be read or is not fit to train on.
    """
    return _checked(config, open_source(config, data_dir, progress).load_train(), "train")


def load_test(config: DataConfig, data_dir: Path = DATA_DIR, progress: Progress | None = None) -> Images:
    """The test split, checked; it may lack classes.

    Raises:
        DataError: there is none, it cannot be read or is not fit to measure on.
    """
    return _checked(config, open_source(config, data_dir, progress).load_test(), "test")


def _checked(config: DataConfig, images: Images, split: str) -> Images:
    try:
        check_images(images, split, every_class=split == "train")
    except DataError as error:
        raise DataError(f"{config.source}: {error}") from None
    return images
