"""From data.source to the source it names."""

from __future__ import annotations

from pathlib import Path

from hpsearch.config import DataConfig
from hpsearch.config.data_sources import CsvPath, FolderPath, Named, NpzPath, UserFunction, parse_source
from hpsearch.datasets.arrays import Npz
from hpsearch.datasets.checks import check_images, check_same_kind
from hpsearch.datasets.embedded import Digits, Faces, Synthetic
from hpsearch.datasets.folder import Folder
from hpsearch.datasets.images import Images, Progress, Source
from hpsearch.datasets.tabled import Tabled, metadata_tables
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
    """The source of a data set; nothing is read yet. Downloads and caches go below `data_dir`.

    Raises:
        DataError: there is nothing at the path that data.source names.
    """
    match parse_source(config.source):
        case FolderPath(path):
            found = _found(path, config.source, "is not a folder")
            if found.is_dir() and (tables := metadata_tables(found)):
                return Tabled(tables, found, config, data_dir, progress)
            return Folder(found, config, data_dir, progress)
        case CsvPath(path):
            found = _found(path, config.source, "cannot be read")
            return Tabled({"": found}, found.parent, config, data_dir, progress)
        case NpzPath(path):
            return Npz(_found(path, config.source, "cannot be read"), group=config.group)
        case UserFunction(name):
            return UserArrays(name, config.options)
        case Named("digits"):
            return Digits()
        case Named("faces"):
            return Faces()
        case Named("synthetic"):
            return Synthetic(config.synthetic)
        case Named(name):
            return DOWNLOADABLE[name](name, data_dir, progress)


def refuse_missing(config: DataConfig) -> None:
    """Refuse files of the user's that are not there; whether they can be read is seen when they are.

    Raises:
        DataError: there is no such folder or file.
    """
    if isinstance(parse_source(config.source), FolderPath | CsvPath | NpzPath):
        open_source(config)


def has_test_split(config: DataConfig) -> bool | None:
    """Whether there is a test split; None where only loading it would tell, or where the file cannot be read now."""
    try:
        return open_source(config).has_test
    except DataError:
        return None


def _found(path: str, source: str, what: str) -> Path:
    """Where a path of data.source is; a relative one starts at the working folder."""
    found = Path(path).expanduser()
    if found.exists():
        return found
    hints = []
    for ending in (".npz", ".csv"):
        if source.startswith(f"{ending[1:]}:") and found.with_name(f"{found.name}{ending}").exists():
            hints.append(f"There is a file {found.name}{ending}: say '{source}{ending}'.")
    if not found.is_absolute():
        hints.append("A relative path starts at the working folder: go on where the search was begun.")
    hint = " ".join(hints) or "Check the path."
    raise DataError(f"{path} {what}: data.source = {source!r} was looked for in {found.absolute()}.\n{hint}")


def load_train(config: DataConfig, data_dir: Path = DATA_DIR, progress: Progress | None = None) -> Images:
    """The whole training split, checked; with the hold-out, where the source gives one.

    A folder's test images are decoded with it, and those of a file of arrays read, so that what is wrong with them is
    found now, but nothing of them is in it.

    Raises:
        DataError: it cannot be read or is not fit to train on.
    """
    source = open_source(config, data_dir, progress)
    images = _checked(config, source.load_train(), "train")
    try:
        test = source.load_test_beside()
    except DataError as error:
        raise DataError(f"the test split: {error}") from None
    if test is not None:
        check_same_kind(_checked(config, test, "test"), images.shape, images.x.dtype, config.source)
    return images


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
