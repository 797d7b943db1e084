"""Pictures of training images before and after augmentation, and a sheet of them for people to look at.

Shape suffixes: B = batch, C = channels, H = height, W = width.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hpsearch.datasets.atomic import replacing
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.images import Array
from hpsearch.datasets.preprocessing import Preprocessing
from hpsearch.errors import ConfigError

MOST_SHOWN = 8  # images of a step
EPOCHS = (1, 2, 3)  # whose first steps are on a sheet
LEAST_SIDE = 64  # pixels of a picture on it; smaller images are shown as squares
GAP = 4  # pixels between two
CHUNK = 250  # images at a time


def pictures_of_a_step(data: TrainingData, seed: int, number: int, batch_size: int) -> tuple[Array, Array]:
    """Images of an epoch's first step, as they are and as it sees them: each B,H,W,3 in uint8."""
    epoch = data.epoch(seed, number, batch_size)
    x_BCHW, _ = epoch.batch(0)
    x_BCHW = x_BCHW[:MOST_SHOWN]
    before_BCHW = data.train_images(epoch.order_M[: len(x_BCHW)])
    return _pictures(data, before_BCHW), _pictures(data, x_BCHW)


def _pictures(data: TrainingData, x_BCHW: Tensor) -> Array:
    """Of floats, which have no white, over the values of all training images, or a brighter image would look alike."""
    if data.normalization.from_bytes or data.pixels is None:
        return Preprocessing.of(data).pictures(x_BCHW)
    return _shown(data.pixels.of_normalized(x_BCHW).cpu().numpy())


def _shown(values_BCHW: Array) -> Array:
    """From 0 to 1; of other channels than 1 or 3, the first ones."""
    channels = values_BCHW[:, :3] if values_BCHW.shape[1] >= 3 else values_BCHW[:, :1].repeat(3, 1)
    shown: Array = np.rint(255 * channels).clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return shown


def mean_and_std(data: TrainingData) -> tuple[Array, Array]:
    """Pictures of the training part's mean image, and of each pixel's standard deviation, the largest as white."""
    total, squares = 0.0, 0.0
    rows_N = torch.arange(data.num_train, device=data.y_train_N.device)
    for rows_B in torch.split(rows_N, CHUNK):
        x_BCHW = data.train_images(rows_B).cpu().double().numpy()
        total, squares = total + x_BCHW.sum(0), squares + np.square(x_BCHW).sum(0)
    mean = np.asarray(total) / data.num_train
    std = np.sqrt((np.asarray(squares) / data.num_train - np.square(mean)).clip(0)) * data.normalization.std
    like = data.x_val_NCHW
    mean_1CHW = torch.from_numpy(mean[None]).to(like.dtype).to(like.device)
    return _pictures(data, mean_1CHW)[0], _shown((std / (std.max() or 1.0))[None])[0]


def write_sheet(path: Path, data: TrainingData, seed: int, batch_size: int) -> None:
    """Rows in pairs, images and what becomes of them, an epoch a pair; below, the mean and the standard deviation.

    Raises:
        ConfigError: the file cannot be written, or its ending is of no kind of picture.
    """
    from PIL import Image
    from torchvision.utils import make_grid

    rows = [row for number in EPOCHS for row in pictures_of_a_step(data, seed, number, batch_size)]
    width = len(rows[0])
    last = np.full_like(rows[0], 255)
    for place, picture in enumerate(mean_and_std(data)[:width]):
        last[place] = picture
    pictures = torch.from_numpy(np.concatenate([*rows, last])).permute(0, 3, 1, 2)
    times = max(1, -(-LEAST_SIDE // min(pictures.shape[-2:])))
    pictures = pictures.repeat_interleave(times, 2).repeat_interleave(times, 3)
    grid = make_grid(pictures, nrow=width, padding=GAP, pad_value=255)
    image = Image.fromarray(grid.permute(1, 2, 0).numpy())
    if path.suffix.lower() not in Image.registered_extensions():
        raise ConfigError(f"--augment {path} is no picture by its ending.\nAllowed: FILE.png, FILE.jpg.")
    try:
        with replacing(path) as out:
            image.save(out, format=Image.registered_extensions()[path.suffix.lower()])
    except OSError as error:
        raise ConfigError(f"--augment {path} cannot be written: {error.strerror or error}.") from None
