"""What each class is taken for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from hpsearch.report import style

MOST_CLASSES = 20  # shown; of more, those with the most mistakes
MOST_NUMBERED = 12  # classes with numbers in the cells
LONGEST_NAME = 14  # characters on an axis
ROW, LEAST, AROUND = 34, 320, 96  # pixels: of a row, of all rows at least, of what is beside them


@dataclass(frozen=True, eq=False)
class ConfusionInfo:
    """`counts` of images: rows true, columns predicted, of the classes `names`, which are all or the worst."""

    counts: np.ndarray[Any, np.dtype[np.int64]]
    totals: np.ndarray[Any, np.dtype[np.int64]]
    """Images of each of these classes, those that are taken for another than these included."""
    names: tuple[str, ...]
    num_classes: int
    """In all."""


def _confusion_info(confusion: np.ndarray[Any, np.dtype[np.int64]], names: Sequence[str]) -> ConfusionInfo:
    mistakes = confusion - np.diag(confusion.diagonal())
    worst = np.argsort(-(mistakes.sum(0) + mistakes.sum(1)), kind="stable")[:MOST_CLASSES]
    shown = np.sort(worst)
    chosen = tuple(names[i] for i in shown)
    return ConfusionInfo(confusion[np.ix_(shown, shown)], confusion.sum(1)[shown], chosen, len(names))


def plot_confusion(info: ConfusionInfo) -> go.Figure:
    """A field whose colours are the mistakes alone, as shares of the images of a true class; the diagonal has none."""
    num = len(info.names)
    share = info.counts / np.maximum(info.totals, 1)[:, None]
    wrong = ~np.eye(num, dtype=bool) & (info.counts > 0)
    z = [[share[i, j] if wrong[i, j] else None for j in range(num)] for i in range(num)]
    names = [style.as_text(name) for name in info.names]
    hover = [
        [
            f"{info.counts[i, j]} of {info.totals[i]} images of {names[i]}"
            + (" recognized" if i == j else f" taken for {names[j]}")
            for j in range(num)
        ]
        for i in range(num)
    ]
    fig = go.Figure(
        go.Heatmap(
            z=z,
            zmin=0,
            zmax=float(max(share[wrong], default=1.0)),
            colorscale=style.LIGHT.colorscale,
            showscale=False,
            xgap=1,
            ygap=1,
            hoverongaps=True,
            text=hover,
            hovertemplate="%{text}<extra></extra>",
        )
    )
    if num <= MOST_NUMBERED:
        strong = share > 0.55 * float(max(share[wrong], default=1.0))
        for colour, where in ((style.LIGHT.paper, wrong & strong), (style.LIGHT.ink, ~(wrong & strong))):
            cells = [(i, j) for i, j in np.argwhere(where & (info.counts > 0)).tolist()]
            fig.add_scatter(
                x=[j for _, j in cells],
                y=[i for i, _ in cells],
                text=[str(info.counts[cell]) for cell in cells],
                mode="text",
                textfont={"color": colour, "size": style.FONT_SIZE - 1},
                hoverinfo="skip",
                showlegend=False,
            )
    ticks = {
        "tickmode": "array",
        "tickvals": list(range(num)),
        "ticktext": [style.as_text(_short(name)) for name in info.names],
        "showgrid": False,
        "showline": False,
        "ticks": "",
        "fixedrange": True,
    }
    fig.update_layout(
        plot_bgcolor=style.LIGHT.grid,
        xaxis={**ticks, "title": {"text": "taken for"}, "range": [-0.5, num - 0.5]},
        yaxis={**ticks, "title": {"text": "true class"}, "range": [num - 0.5, -0.5]},
    )
    return style.apply(fig, height=AROUND + max(LEAST, ROW * num))


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
