"""A trained net from inside: its units over validation images, its gradients then and now, its first weights.

Shape suffixes: B = images, C = channels, H = height, W = width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from hpsearch.analysis.inside import InsideFinding, LayerShares, look_inside
from hpsearch.config.net_names import has_given_weights
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.images import Array
from hpsearch.datasets.splits import sample
from hpsearch.errors import HpsearchError
from hpsearch.logs import get_logger
from hpsearch.models import num_multiplications
from hpsearch.models.lsuv import NUM_IMAGES
from hpsearch.search.trained_net import TrainedNet
from hpsearch.training.activations import fresh_net
from hpsearch.training.gradient_norms import gradient_sizes
from hpsearch.training.unit_statistics import (
    LayerStatistics,
    filter_correlations,
    look_at_layers,
    share_alike,
)

log = get_logger(__name__)

MOST_IMAGES = 256
LEAST_IMAGES = 16
MOST_NUMBERS = 2**23  # in the images: 55 of 224 x 224 in colour, whose outputs in a ResNet-50 take about 200 MB a layer
MOST_MULTIPLICATIONS = 3e10  # of a pass through the net; there are seven of them, counting back as two


@dataclass(frozen=True, eq=False)
class Inside:
    """What there is to see."""

    num_images: int
    layers: Sequence[LayerStatistics]
    findings: Sequence[InsideFinding]
    start: Mapping[str, float] | None
    """Size of the gradient by layer before training; None of a net with the weights of another training."""
    end: Mapping[str, float]
    """The same with the weights that are kept."""
    filters: npt.NDArray[Any] | None
    """Correlations of the first layer's filters; None where it has none."""
    first_linear: tuple[str, npt.NDArray[Any]] | None
    """Name and weights [out, in] of the first fully connected layer."""
    picture: Array
    """Of the image whose feature maps are kept: H,W,3 in uint8."""
    name: str | int
    """Of that image."""


def look(net: TrainedNet, data: TrainingData) -> Inside:
    """Look into a net with validation images, the same each time.

    Dead are the units that were 0 for all of the training images that were looked at when the weights were kept, as
    all say who speak of dead units; validation images tell where that is not known.

    Args:
        net: of a trial.
        data: the images that it was trained on, on the device on which to look at them.

    Raises:
        RefusedError, ConfigError: see `TrainedNet.module`.
    """
    device = data.x_val_NCHW.device
    module = net.module(device)
    rows_B = _rows(data, num_multiplications(module, data.shape))
    x_BCHW, y_B = data.x_val_NCHW[rows_B], data.y_val_N[rows_B]
    layers = look_at_layers(module, x_BCHW, net.silent)
    first = _first_filters(module)
    filters = None if first is None else filter_correlations(first).float().cpu().numpy()
    linear = next(((name, each) for name, each in module.named_modules() if isinstance(each, nn.Linear)), None)
    weight = None if linear is None else (linear[0], linear[1].weight.detach().float().cpu().clone().numpy())
    with torch.random.fork_rng([device] if device.type == "cuda" else []):  # chance that a net has in its functions
        torch.manual_seed(0)
        end = gradient_sizes(module, x_BCHW, y_B, net.stored.config.train.loss)  # last, as buffers change
        start = _at_the_start(net, data, x_BCHW, y_B)
    shares = [
        LayerShares(each.name, each.num_units, each.num_dead, each.num_ignoring, each.share_alike, each.at_ends)
        for each in layers
    ]
    findings = look_inside(shares, None if filters is None else share_alike(filters), start, end)
    picture, row = net.preprocessing.pictures(x_BCHW[:1])[0], int(rows_B[0])
    name = data.val_names[row] if data.val_names else row
    return Inside(len(x_BCHW), layers, findings, start, end, filters, weight, picture, name)


def _rows(data: TrainingData, multiplications: int) -> Tensor:
    """Of validation images: a stratified sample, of as many as take a few seconds, by class."""
    most = min(MOST_IMAGES, MOST_NUMBERS // math.prod(data.shape), int(MOST_MULTIPLICATIONS / multiplications))
    y_N = data.y_val_N.cpu().numpy()
    rows = sample(y_N, max(LEAST_IMAGES, most), 0)
    rows = rows[y_N[rows].argsort(kind="stable")]
    return torch.from_numpy(rows).to(data.x_val_NCHW.device)


def _first_filters(module: nn.Module) -> Tensor | None:
    """Those of the first layer."""
    weights = (each.weight for each in module.modules() if isinstance(each, nn.Conv2d | nn.Linear))
    return next(weights, None)


def _at_the_start(net: TrainedNet, data: TrainingData, x_BCHW: Tensor, y_B: Tensor) -> Mapping[str, float] | None:
    config = net.stored.config.model
    if has_given_weights(dict(config)):  # a report downloads nothing
        return None
    try:
        seen = data.train_sample(NUM_IMAGES)[0] if config.init == "lsuv" else None
        fresh = fresh_net(config, data.shape, data.num_classes, net.stored.seed, seen).to(x_BCHW)
        return gradient_sizes(fresh, x_BCHW, y_B, net.stored.config.train.loss)
    except HpsearchError as error:
        log.warning("the gradients at the start: %s", error)
        return None
