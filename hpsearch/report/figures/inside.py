"""Inside the best trial: its first-layer filters, and how many of its units are silent."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from hpsearch.report import style
from hpsearch.worker.best_weights import Portrait

MAX_FILTERS = 64  # those with the largest norm
PIXELS = 320  # of the longer side of a mosaic, at least: filters of 5 x 5 are enlarged


@dataclass(frozen=True)
class FiltersInfo:
    """`mosaic` [H, W, RGBA] uint8: `num_shown` of `num_units` filters side by side; `shape` of a filter: C, H, W."""

    mosaic: np.ndarray[Any, Any]
    num_shown: int
    num_units: int
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class SparsityInfo:
    """Per layer, the share of images for which each unit is 0, in descending order."""

    layers: dict[str, tuple[float, ...]]

    @property
    def num_dead(self) -> dict[str, int]:
        """Units that are 0 for every image, by layer."""
        return {name: sum(share >= 1.0 for share in shares) for name, shares in self.layers.items()}


def _filters_info(portrait: Portrait) -> FiltersInfo | None:
    """None where the first layer does not see pixels, or as something else than 1 or 3 colours."""
    filters = portrait.filters
    if filters is None or filters.ndim != 4 or filters.shape[1] not in (1, 3) or min(filters.shape) < 1:
        return None
    num_units, channels, height, width = filters.shape
    if height * width < 4:
        return None
    norms = np.sqrt((filters.astype(np.float64) ** 2).sum((1, 2, 3)))
    chosen = np.argsort(-norms, kind="stable")[:MAX_FILTERS]
    # Each filter on its own scale, 0 in the middle: what counts is the pattern.
    largest = np.maximum(np.abs(filters[chosen]).max((1, 2, 3), keepdims=True), 1e-12)
    tiles_NCHW = np.round(127.5 + 127.5 * filters[chosen] / largest).astype(np.uint8)
    tiles_NHWC = np.broadcast_to(tiles_NCHW, (len(chosen), 3, height, width)).transpose(0, 2, 3, 1)
    mosaic = mosaic_of(tiles_NHWC)
    return FiltersInfo(mosaic, len(chosen), num_units, (channels, height, width))


def mosaic_of(tiles_NHWC: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """RGB tiles in rows, wider than high, with nothing between them: the page may be light or dark."""
    num, height, width, _ = tiles_NHWC.shape
    columns = min(num, math.ceil(math.sqrt(num * 1.6)))
    rows = math.ceil(num / columns)
    zoom = max(1, math.ceil(PIXELS / (columns * width)))
    height, width, line = height * zoom, width * zoom, max(1, zoom // 2)
    mosaic = np.zeros((rows * (height + line) - line, columns * (width + line) - line, 4), np.uint8)
    for i, tile in enumerate(tiles_NHWC):
        top, left = (i // columns) * (height + line), (i % columns) * (width + line)
        mosaic[top : top + height, left : left + width, :3] = tile.repeat(zoom, 0).repeat(zoom, 1)
        mosaic[top : top + height, left : left + width, 3] = 255
    return mosaic


def plot_filters(info: FiltersInfo) -> go.Figure:
    """The mosaic as a picture."""
    return plot_picture(info.mosaic)


def plot_picture(pixels_HWC: np.ndarray[Any, Any]) -> go.Figure:
    """An RGBA picture, uint8, as a figure."""
    height, width, _ = pixels_HWC.shape
    fig = go.Figure(go.Image(source=_png(pixels_HWC), hoverinfo="skip", zsmooth="fast"))
    bare = {"visible": False, "fixedrange": True}
    fig.update_layout(
        xaxis={**bare, "constrain": "domain"},
        yaxis={**bare, "scaleanchor": "x", "constrain": "domain", "constraintoward": "top"},
        margin={"l": 0, "r": 0},
    )
    return style.apply(fig, height=min(440, 40 + max(160, round(440 * height / width))))


def _png(pixels_HWC: np.ndarray[Any, Any]) -> str:
    """An RGBA picture as a data URI."""
    height, width, _ = pixels_HWC.shape
    rows = b"".join(b"\0" + row.tobytes() for row in np.ascontiguousarray(pixels_HWC))

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)  # 8 bits, RGBA
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _sparsity_info(portrait: Portrait) -> SparsityInfo | None:
    """None where no layer was watched."""
    layers = {
        name: tuple(sorted((float(share) for share in np.ravel(shares)), reverse=True))
        for name, shares in portrait.sparsity.items()
        if np.size(shares)
    }
    return SparsityInfo(layers) if layers else None


def plot_sparsity(info: SparsityInfo) -> go.Figure:
    """A falling line per layer, its units from the most silent on; layers of any width on one axis."""
    fig = go.Figure()
    colours = [style.LIGHT.sequence_5, style.LIGHT.sequence_3, style.LIGHT.best, style.LIGHT.healthy, style.LIGHT.low]
    for i, (name, shares) in enumerate(info.layers.items()):
        num = len(shares)
        fig.add_scatter(
            x=[(rank + 0.5) / num for rank in range(num)],
            y=list(shares),
            name=style.as_text(f"{name} ({num} units)"),
            mode="lines+markers" if num <= 100 else "lines",
            line={"width": 2, "color": colours[i % len(colours)]},
            marker={"size": 4},
            hovertemplate="unit of rank %{customdata}: 0 for %{y:.0%} of images<extra></extra>",
            customdata=list(range(1, num + 1)),
        )
    fig.update_layout(
        xaxis={"title": {"text": "units, most silent first"}, "range": [0, 1], "tickformat": ".0%", "nticks": 6},
        yaxis={"title": {"text": "share of images at 0"}, "range": [-0.02, 1.02], "tickformat": ".0%"},
    )
    return style.apply(fig, height=400)
