"""The data sets that torchvision knows: its addresses, checksums and file layout, read one split at a time.

torchvision's own download writes to the final path and then checks; its CIFAR classes also want the test files when
they load the training split. So downloading and choosing the files happen here. A folder that torchvision has
filled is used as it is.
"""

from __future__ import annotations

import gzip
import struct
import tarfile
import warnings
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from hpsearch.datasets.atomic import replacing
from hpsearch.datasets.download import fetch_file, verify
from hpsearch.datasets.images import Array, Images, Progress, Source
from hpsearch.errors import DataError


class TorchvisionSource(Source):
    """One of torchvision's data sets below `data_dir`; what is missing is downloaded when it is loaded."""

    def __init__(self, name: str, data_dir: Path, progress: Progress | None = None) -> None:
        self.name = name
        self.data_dir = data_dir
        self.progress = progress
        self.description = f"{name}, from torchvision"

    @property
    def dataset(self) -> Any:
        """torchvision's class."""
        from torchvision import datasets

        names = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
        return getattr(datasets, names.get(self.name, "SVHN"))

    def fetch(self, *, train: bool) -> list[Path]:
        """Download what the split needs, unless it is there; the files that now are.

        Raises:
            DataError: it cannot be had whole.
        """
        return self._fetch(train=train)

    @abstractmethod
    def _fetch(self, *, train: bool) -> list[Path]:
        """`fetch`, for the one format."""

    @abstractmethod
    def _read(self, *, train: bool) -> Images:
        """Decode the split; its files are there."""

    def _load(self, *, train: bool) -> Images:
        self.fetch(train=train)
        try:
            return self._read(train=train)
        except (OSError, EOFError, ValueError, KeyError, RuntimeError, struct.error) as error:
            raise DataError(f"the files of {self.name} in {self.data_dir} cannot be read: {error}") from error


class Cifar(TorchvisionSource):
    """CIFAR-10 and CIFAR-100 (Krizhevsky 2009): one archive, of which only the split's files are unpacked."""

    def _fetch(self, *, train: bool) -> list[Path]:
        dataset = self.dataset
        members = [*(dataset.train_list if train else dataset.test_list)]
        members.append((dataset.meta["filename"], dataset.meta["md5"]))
        folder = self.data_dir / dataset.base_folder
        missing = [name for name, _ in members if not (folder / name).exists()]
        if missing:
            archive = self.data_dir / dataset.filename
            fetch_file([dataset.url], archive, dataset.tgz_md5, self.name, self.progress)
            _unpack(archive, dataset.base_folder, missing, self.data_dir)
        for name, md5 in members:
            verify(folder / name, md5, self.name)
        return [folder / name for name, _ in members]

    def _read(self, *, train: bool) -> Images:
        dataset = self.dataset
        other: dict[str, Any] = {"test_list": []} if train else {"train_list": []}
        one_split = type(dataset.__name__, (dataset,), {**other, "_check_integrity": lambda _: True})
        with warnings.catch_warnings():  # the files were pickled by a numpy of 2009
            warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
            loaded: Any = one_split(str(self.data_dir), train=train)
        x_NCHW = np.ascontiguousarray(loaded.data.transpose(0, 3, 1, 2))
        return Images(x_NCHW, np.array(loaded.targets, dtype=np.int64), tuple(loaded.classes))


class Mnist(TorchvisionSource):
    """MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017): a gzip file each for images and labels."""

    def _fetch(self, *, train: bool) -> list[Path]:
        dataset = self.dataset
        folder = self.data_dir / dataset.__name__ / "raw"
        resources = dataset.resources[:2] if train else dataset.resources[2:]
        for name, md5 in resources:
            fetch_file([mirror + name for mirror in dataset.mirrors], folder / name, md5, self.name, self.progress)
        return [folder / name for name, _ in resources]

    def _read(self, *, train: bool) -> Images:
        # From the compressed files, since torchvision has checksums only of these.
        x_NHW, y = map(_read_idx, self.fetch(train=train))
        return Images(x_NHW[:, None], y.astype(np.int64), tuple(self.dataset.classes))


class Svhn(TorchvisionSource):
    """Street View House Numbers (Netzer et al. 2011), cropped digits: one MATLAB file per split."""

    def _fetch(self, *, train: bool) -> list[Path]:
        url, name, md5 = self.dataset.split_list["train" if train else "test"]
        fetch_file([url], self.data_dir / name, md5, self.name, self.progress)
        return [self.data_dir / name]

    def _read(self, *, train: bool) -> Images:
        loaded = self.dataset(str(self.data_dir), split="train" if train else "test")
        return Images(np.ascontiguousarray(loaded.data), loaded.labels.astype(np.int64), tuple("0123456789"))


def _unpack(archive: Path, folder: str, names: list[str], data_dir: Path) -> None:
    wanted = {f"{folder}/{name}" for name in names}
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name in wanted and (content := tar.extractfile(member)):
                with replacing(data_dir / member.name) as file:
                    file.write(content.read())
                wanted.remove(member.name)
    if wanted:
        raise DataError(f"{archive} has no member {sorted(wanted)[0]}.")


def _read_idx(path: Path) -> Array:
    """An array in the IDX format of yann.lecun.com/exdb/mnist: bytes, big-endian sizes ahead of them."""
    with gzip.open(path) as file:
        zeros, kind, num_axes = struct.unpack(">HBB", file.read(4))
        if zeros or kind != 8:  # 8: unsigned bytes
            raise ValueError(f"{path.name} is not an IDX file of bytes")
        shape = struct.unpack(f">{num_axes}I", file.read(4 * num_axes))
        return np.frombuffer(file.read(), dtype=np.uint8).reshape(shape)
