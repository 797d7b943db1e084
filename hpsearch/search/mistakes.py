"""What a trained net gets wrong on its validation images, and what augmentation makes of training images.

Shape suffixes: N = images, B = batch, C = classes (of images: channels), H = height, W = width.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpsearch.analysis.export import FORMULA, safe_cell
from hpsearch.config.augmentations import active
from hpsearch.datasets.augmentation_sheet import pictures_of_a_step
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.images import Array
from hpsearch.datasets.splits import sample
from hpsearch.datasets.stored import StoredImages
from hpsearch.models import num_multiplications
from hpsearch.search.final_measurement import confusion_matrix
from hpsearch.search.trained_net import TrainedNet
from hpsearch.training.class_scores import CHUNK

MOST_WRONG = 24  # images
# Of all forward passes on a CPU: LeNet sees 10,000 images in colour in a hundredth of it, a ResNet-18 of 32 pixels 900.
MOST_MULTIPLICATIONS = 5e11
DIGITS = 6  # of a probability


@dataclass(frozen=True, eq=False)
class WrongImage:
    """A validation image that is taken for another class."""

    name: str | int
    """Its file, relative to the source, or its row in the source's array."""
    true: str
    predicted: str
    probability: float
    """Of the predicted class."""
    true_probability: float


@dataclass(frozen=True, eq=False)
class Mistakes:
    """`confusion` counts images: rows true, columns predicted."""

    confusion: np.ndarray[Any, np.dtype[np.int64]]
    class_names: tuple[str, ...]
    wrong: tuple[WrongImage, ...]
    """Those whose true class is thought least probable first."""
    pictures: tuple[Array, ...]
    """Of the first of them: H,W,3 in uint8."""
    num_val: int
    """Validation images that there are; of a large net on a CPU, fewer are looked at."""

    @property
    def num_seen(self) -> int:
        """Validation images that were looked at."""
        return int(self.confusion.sum())

    @property
    def num_right(self) -> int:
        """Those that were classified as what they are."""
        return int(self.confusion.diagonal().sum())


def find_mistakes(net: TrainedNet, data: TrainingData) -> Mistakes:
    """Classify the validation images.

    Args:
        net: of a trial.
        data: the images that it was trained on, on the device on which to look at them.

    Raises:
        RefusedError, ConfigError: see `TrainedNet.module`.
    """
    module = net.module(data.x_val_NCHW.device)
    rows_N = _rows(data, num_multiplications(module, data.shape))
    y_N = data.y_val_N[rows_N]
    p_NC = _probabilities(module, data.x_val_NCHW, rows_N).cpu()
    predicted_N, y_N = p_NC.argmax(1), y_N.cpu()
    p_true_N = p_NC.gather(1, y_N[:, None])[:, 0]
    wrong_N = torch.nonzero(predicted_N != y_N)[:, 0]
    worst_N = rows_N.cpu()[wrong_N := wrong_N[p_true_N[wrong_N].argsort(stable=True)]]
    pictures = net.preprocessing.pictures(data.x_val_NCHW[worst_N[:MOST_WRONG].to(rows_N.device)])
    classes, names = data.class_names, data.val_names or range(data.num_val)
    wrong = tuple(
        WrongImage(
            names[row], classes[y_N[n]], classes[predicted_N[n]], float(p_NC[n, predicted_N[n]]), float(p_true_N[n])
        )
        for row, n in zip(worst_N.tolist(), wrong_N.tolist(), strict=True)
    )
    confusion = confusion_matrix(y_N, predicted_N, data.num_classes)
    return Mistakes(confusion, classes, wrong, tuple(pictures), data.num_val)


def mistakes_csv(wrong: Iterable[WrongImage]) -> bytes:
    """A row for each, with names of files as their own bytes; nothing in it is a formula to a spreadsheet."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(("image", "true", "predicted", "probability", "true_probability"))
    for each in wrong:
        name = f"./{each.name}" if str(each.name).startswith(FORMULA) else each.name
        probabilities = (f"{p:.{DIGITS}g}" for p in (each.probability, each.true_probability))
        writer.writerow((name, safe_cell(each.true), safe_cell(each.predicted), *probabilities))
    return out.getvalue().encode("utf-8", errors="surrogateescape")


def _rows(data: TrainingData, multiplications: int) -> Tensor:
    """Of the validation images that are looked at: all, or a stratified sample, the same each time."""
    most = len(data.y_val_N)
    if data.x_val_NCHW.device.type == "cpu":
        most = max(data.num_classes, min(most, int(MOST_MULTIPLICATIONS / multiplications)))
    return torch.from_numpy(sample(data.y_val_N.cpu().numpy(), most, 0)).to(data.x_val_NCHW.device)


@torch.inference_mode()
def _probabilities(module: torch.nn.Module, x_NCHW: Tensor | StoredImages, rows_N: Tensor) -> Tensor:
    return torch.cat([module(x_NCHW[rows_B]).softmax(1) for rows_B in torch.split(rows_N, CHUNK)])


def augmented(net: TrainedNet, data: TrainingData) -> Sequence[tuple[Array, Array]]:
    """Pairs of pictures, H,W,3 in uint8: training images as they are, and as the trial sees them in its first epoch.

    Without augmentation there are none.
    """
    if not active(data.augment):
        return []
    return list(zip(*pictures_of_a_step(data, net.stored.seed, 1, net.stored.config.train.batch_size), strict=True))
