# ruff: noqa: N815 - fields with shape suffixes
"""Images on the device: prepared once, then cut into batches without leaving it.

Shape suffixes: N = images, B = batch, C = channels, H = height, W = width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hpsearch.config import DataConfig
from hpsearch.datasets.augmentation import augment, draw_noise
from hpsearch.datasets.images import Array, Progress
from hpsearch.datasets.normalization import Normalization, fit
from hpsearch.datasets.sources import DATA_DIR, load_test, load_train
from hpsearch.datasets.splits import divide, sample
from hpsearch.errors import ConfigError, DataError
from hpsearch.runtime import step_seed

MAX_SAMPLE = 1000  # training images on which accuracy is measured
SAMPLE_SEED = 0  # draws them; a constant, so that all trials are measured on the same ones


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The training part and the hold-out, normalized, on one device; labels are int64.

    `fingerprint` is a hash of the training split as it was loaded, before data.limit and the hold-out.
    """

    x_train_NCHW: Tensor
    y_train_N: Tensor
    x_val_NCHW: Tensor
    y_val_N: Tensor
    shape: tuple[int, int, int]  # channels, height, width
    class_names: tuple[str, ...]
    normalization: Normalization
    augment: tuple[str, ...]
    fingerprint: str

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def num_train(self) -> int:
        """Images in the training part."""
        return len(self.y_train_N)

    def num_batches(self, batch_size: int) -> int:
        """Batches in an epoch. The last one may be smaller, but a single image left over makes none."""
        full, rest = divmod(self.num_train, batch_size)
        # Batch normalization has no variance over one image.
        return full + (rest > 1 or (rest == 1 and full == 0))

    def batches(self, seed: int, epoch: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one epoch as (x B,C,H,W, y B): shuffled and augmented, from (seed, epoch) alone.

        All chance is drawn on the CPU, so that every device sees the same; the first epoch is 1.
        """
        generator = torch.Generator().manual_seed(step_seed(seed, epoch, 0, "batches"))
        device = self.x_train_NCHW.device
        order_N = torch.randperm(self.num_train, generator=generator).to(device)
        noises = [(kind, draw_noise(kind, self.num_train, generator).to(device)) for kind in self.augment]
        for batch in range(self.num_batches(batch_size)):
            rows = slice(batch * batch_size, (batch + 1) * batch_size)
            x_BCHW = self.x_train_NCHW.index_select(0, order_N[rows])
            for kind, noise_N in noises:
                x_BCHW = augment(kind, x_BCHW, noise_N[rows])
            yield x_BCHW, self.y_train_N.index_select(0, order_N[rows])

    def train_sample(self, num: int = MAX_SAMPLE) -> tuple[Tensor, Tensor]:
        """A fixed stratified sample of the training part, at most 1,000 images, never augmented."""
        rows = sample(self.y_train_N.cpu().numpy(), min(num, MAX_SAMPLE), SAMPLE_SEED)
        rows_B = torch.from_numpy(rows).to(self.x_train_NCHW.device)
        return self.x_train_NCHW.index_select(0, rows_B), self.y_train_N.index_select(0, rows_B)


def prepare(
    config: DataConfig,
    device: torch.device,
    dtype: torch.dtype,
    data_dir: Path = DATA_DIR,
    progress: Progress | None = None,
) -> TrainingData:
    """Load the training split, check it, hold out, fit the normalization on the training part, move to the device.

    `dtype` is float32 or float64. The test split is not touched.

    Raises:
        DataError: the images cannot be read or are not fit to train on.
        ConfigError: data.val or data.limit do not fit them, or the device has no float64.
    """
    if device.type == "mps" and dtype == torch.float64:
        raise ConfigError("train.precision = 'float64' does not run on mps.\nAllowed: float32, or run.device = cpu.")
    images = load_train(config, data_dir, progress)
    train, val = divide(config, images.y)
    x_train = images.x[train]
    normalization = fit(config.normalize, x_train, config.scale)
    return TrainingData(
        x_train_NCHW=_to_device(x_train, normalization, device, dtype),
        y_train_N=torch.from_numpy(images.y[train]).to(device),
        x_val_NCHW=_to_device(images.x[val], normalization, device, dtype),
        y_val_N=torch.from_numpy(images.y[val]).to(device),
        shape=images.shape,
        class_names=images.class_names,
        normalization=normalization,
        augment=config.augment,
        fingerprint=images.fingerprint(),
    )


def prepare_test(
    config: DataConfig,
    training_data: TrainingData,
    data_dir: Path = DATA_DIR,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor]:
    """The test split as (x N,C,H,W, y N), normalized and placed like the training data. Nothing else loads it.

    Raises:
        DataError: there is none, it cannot be read, or it does not match the training split.
    """
    images = load_test(config, data_dir, progress)
    normalization = training_data.normalization
    if images.shape != training_data.shape or (images.x.dtype == np.uint8) != normalization.from_bytes:
        stored = "bytes" if normalization.from_bytes else "floats"
        raise DataError(
            f"{config.source}: x_test holds images of {images.shape} in {images.x.dtype}.\n"
            f"Allowed: as in x_train, {training_data.shape} in {stored}."
        )
    like = training_data.x_train_NCHW
    y_N = torch.from_numpy(images.y).to(like.device)
    return _to_device(np.array(images.x), normalization, like.device, like.dtype), y_N


def _to_device(x_NCHW: Array, normalization: Normalization, device: torch.device, dtype: torch.dtype) -> Tensor:
    # The same as normalization.apply, but bytes travel as bytes and the arithmetic is done in place on the device.
    raw = torch.from_numpy(x_NCHW)
    if x_NCHW.dtype != np.uint8:
        raw = raw.to(dtype)  # here, since not every device takes float64
    x = raw.to(device).to(dtype, copy=True)
    mean, std = (torch.from_numpy(part).to(dtype).to(device) for part in (normalization.mean, normalization.std))
    return x.mul_(normalization.factor).sub_(mean).div_(std)
