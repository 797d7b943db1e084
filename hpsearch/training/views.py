"""Several views of each image, over which a trained net's probabilities are averaged.

Shapes: B = images, C = classes (of x: channels), H, W = height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from hpsearch.errors import ConfigError

VIEWS = ("flip", "ten-crop")
KEPT = 7 / 8  # of a side in a window: 224 of 256 pixels (Krizhevsky et al. 2012)


def refuse_unknown_views(views: str | None) -> None:
    """Whether such views are there.

    Raises:
        ConfigError: they are not.
    """
    if views is not None and views not in VIEWS:
        raise ConfigError(f"--views {views} is not allowed.\nAllowed: {', '.join(VIEWS)}.")


def views_of(views: str, x_BCHW: Tensor) -> Iterator[Tensor]:
    """Batches of the same shape.

    Args:
        views: flip, the images and their mirror images; or ten-crop, four corners and the middle, 7/8 of each side,
            enlarged to the whole (bilinear), and their mirror images.
        x_BCHW: as nets take them.
    """
    windows = [x_BCHW] if views == "flip" else _windows(x_BCHW)
    for window in windows:
        yield window
        yield window.flip(-1)


def _windows(x_BCHW: Tensor) -> Iterator[Tensor]:
    height, width = x_BCHW.shape[-2:]
    rows, columns = (max(1, round(KEPT * side)) for side in (height, width))
    down, right = height - rows, width - columns
    for top, left in ((0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)):
        window = x_BCHW[..., top : top + rows, left : left + columns]
        yield F.interpolate(window, size=(height, width), mode="bilinear", align_corners=False)


def log_probabilities(net: Callable[[Tensor], Tensor], x_BCHW: Tensor, views: str) -> Tensor:
    """Logarithms of the mean probabilities over the views, of shape [B, C]: softmax gives those back."""
    probabilities = [net(view).softmax(1) for view in views_of(views, x_BCHW)]
    return torch.stack(probabilities).mean(0).log()
