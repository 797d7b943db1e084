"""How everything drawn looks: one palette in two themes, one font, axes a person can read.

Figures are drawn with the colours of `LIGHT`. Each role has a colour of its own there, so a page can turn a drawn
figure dark by swapping each colour for the one of the same role in `DARK` (`dark_colours`).
"""

from __future__ import annotations

import html
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import plotly.graph_objects as go

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
FONT_SIZE = 13  # pixels
HEIGHT = 400  # pixels
MAX_TICKS = 8  # on an axis of counts
MAX_DECADES = 7  # labels of a log axis that fit on a telephone
TICK_DIGITS: tuple[tuple[float, tuple[float, ...]], ...] = (  # labels within a decade, by the decades on show
    (2.5, (1,)),
    (1.5, (1, 3)),
    (0.8, (1, 2, 5)),
    (0.4, (1, 2, 3, 5, 7)),
    (-1, (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)),
)


@dataclass(frozen=True)
class Palette:
    """Colours by role. Hues are told apart by colour-blind people too (Okabe and Ito 2008); no rainbow."""

    page: str
    paper: str
    ink: str
    muted: str
    grid: str
    line: str
    accent: str
    accent_soft: str
    best: str
    bad: str
    bad_soft: str
    healthy: str
    low: str
    high: str
    dead: str
    overfitting: str
    underfitting: str
    sequence_0: str
    sequence_1: str
    sequence_2: str
    sequence_3: str
    sequence_4: str
    sequence_5: str

    @property
    def sequence(self) -> list[str]:
        """Few to many: one hue, away from the paper."""
        return [getattr(self, f"sequence_{i}") for i in range(6)]

    @property
    def colorscale(self) -> list[list[Any]]:
        """The sequence as plotly takes it."""
        return [[i / 5, colour] for i, colour in enumerate(self.sequence)]


LIGHT = Palette(
    page="#f6f7f9",
    paper="#ffffff",
    ink="#1b2430",
    muted="#5d6878",
    grid="#e9ecf1",
    line="#c5ccd6",
    accent="#1f6fb2",
    accent_soft="#cfe1f1",
    best="#e08600",
    bad="#c93a1e",
    bad_soft="#fbe6e1",
    healthy="#118a68",
    low="#8793a5",
    high="#9a7b0a",
    dead="#5b4a42",
    overfitting="#a65a92",
    underfitting="#4ba3d6",
    sequence_0="#ccd8e3",
    sequence_1="#a9c6dd",
    sequence_2="#7fb0d3",
    sequence_3="#478cbf",
    sequence_4="#1d659f",
    sequence_5="#0a3d6b",
)

DARK = Palette(
    page="#11151b",
    paper="#191f27",
    ink="#e6eaf0",
    muted="#9aa6b6",
    grid="#28303b",
    line="#46515f",
    accent="#6db3ec",
    accent_soft="#24435f",
    best="#ffb347",
    bad="#ff7a5c",
    bad_soft="#43241d",
    healthy="#3fc79d",
    low="#7f8b9b",
    high="#d9bb4a",
    dead="#b59c8f",
    overfitting="#d08fbf",
    underfitting="#8ecdf5",
    sequence_0="#2b3643",
    sequence_1="#2f4d69",
    sequence_2="#376c98",
    sequence_3="#4c90c6",
    sequence_4="#82bbe8",
    sequence_5="#d3ebff",
)

VERDICT_COLOURS = {
    "healthy": LIGHT.healthy,
    "overfitting": LIGHT.overfitting,
    "underfitting": LIGHT.underfitting,
    "lr too low": LIGHT.low,
    "lr too high": LIGHT.high,
    "dead": LIGHT.dead,
    "exploded": LIGHT.bad,
}


def dark_colours() -> dict[str, str]:
    """For each colour of the light theme, the one of the same role in the dark theme."""
    dark = asdict(DARK)
    return {light: dark[role] for role, light in asdict(LIGHT).items()}


def css_variables(palette: Palette) -> str:
    """The palette as CSS custom properties: `--ink: #1b2430; ...`."""
    return " ".join(f"--{field.name.replace('_', '-')}: {getattr(palette, field.name)};" for field in fields(palette))


def apply(fig: go.Figure, height: int = HEIGHT) -> go.Figure:
    """Give a figure the common look, in place; what it has set itself stays. Returns the figure."""
    axis = {
        "gridcolor": LIGHT.grid,
        "linecolor": LIGHT.line,
        "zeroline": False,
        "showline": True,
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": LIGHT.line,
        "tickfont": {"color": LIGHT.muted, "size": FONT_SIZE - 1},
        "title": {"font": {"color": LIGHT.muted, "size": FONT_SIZE}, "standoff": 10},
        "automargin": True,
    }
    look = {
        "height": height,
        "paper_bgcolor": LIGHT.paper,
        "plot_bgcolor": LIGHT.paper,
        "font": {"family": FONT, "size": FONT_SIZE, "color": LIGHT.ink},
        "colorway": [LIGHT.accent, LIGHT.best, LIGHT.healthy, LIGHT.overfitting, LIGHT.underfitting, LIGHT.low],
        "margin": {"l": 56, "r": 20, "t": 12, "b": 16},
        "hoverlabel": {
            "bgcolor": LIGHT.paper,
            "bordercolor": LIGHT.line,
            "font": {"family": FONT, "size": FONT_SIZE, "color": LIGHT.ink},
            "align": "left",
        },
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.0,
            "yanchor": "bottom",
            "font": {"color": LIGHT.muted, "size": FONT_SIZE - 1},
            "itemsizing": "constant",
        },
        "hovermode": "closest",
        "dragmode": "zoom",
    }
    own = fig.layout.to_plotly_json()
    own.pop("template", None)  # Plotly's own, which comes back by itself: to check it takes longer than all the rest
    axes = {key: axis for key in ("xaxis", "yaxis", *own) if key.startswith(("xaxis", "yaxis"))}
    # Set at once: updates part by part take ten times as long, more than all else of a page.
    fig.layout = _under({**look, **axes}, own)
    return fig


def _under(defaults: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """`defaults` with everything that `own` says laid over them."""
    merged = dict(defaults)
    for key, value in own.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _under(merged[key], value) if both else value
    return merged


def whole_axis(first: float, last: float, **other: Any) -> dict[str, Any]:
    """An axis of counts. Left to itself, Plotly puts a tick at 1.5, too, where there are few, and calls it 2."""
    ticks = {"tick0": 0, "dtick": 1} if last - first < MAX_TICKS else {"nticks": MAX_TICKS}
    return {"tickformat": "d", "range": [first, last], **ticks, **other}


def log_axis(low: float, high: float, **other: Any) -> dict[str, Any]:
    """A logarithmic axis from low to high, with labels as one types them: 1e-4, 0.01, 100."""
    ticks = log_ticks(low, high)
    return {
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickmode": "array",
        "tickvals": ticks,
        "ticktext": [number_text(tick) for tick in ticks],
        **other,
    }


def log_ticks(low: float, high: float) -> list[float]:
    """Round values between low and high, evenly spread in their logarithm: powers of ten, with 2 and 5 where few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = math.log10(high / low)
    digits = next(digits for least, digits in TICK_DIGITS if decades > least)
    every = max(1, math.ceil(decades / MAX_DECADES))
    ticks = [
        float(f"{digit}e{exponent}") for exponent in range(first, last + 1) if exponent % every == 0 for digit in digits
    ]
    return [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]


def number_text(value: float) -> str:
    """A round number as short as it is clear: 1e-4, 0.01, 100."""
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e4:
        return f"{value:.6g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def as_text(value: object) -> str:
    """Whatever a person or a database wrote, as text that plotly shows and does not read as markup."""
    return html.escape(str(value), quote=False)


def padded(low: float, high: float, log: bool, share: float = 0.03) -> tuple[float, float]:
    """A little more than the range, so that marks on its ends are whole."""
    if log:
        factor = (high / low) ** share
        return low / factor, high * factor
    return low - share * (high - low), high + share * (high - low)


def log_place(value: float) -> float:
    """Where plotly wants annotations of a log axis: at the decimal logarithm."""
    return math.log10(value)


def reversed_colorscale(palette: Palette) -> list[list[Any]]:
    """For values of which less is better: the strongest colour stays with the best."""
    return [[i / 5, colour] for i, colour in enumerate(reversed(palette.sequence))]


def colorbar(title: str) -> dict[str, Any]:
    """A slim bar on the right."""
    return {
        "title": {"text": as_text(title), "side": "top", "font": {"size": FONT_SIZE - 1, "color": LIGHT.muted}},
        "thickness": 10,
        "outlinewidth": 0,
        "len": 1.0,
        "ticklen": 3,
        "tickcolor": LIGHT.line,
        "tickfont": {"color": LIGHT.muted, "size": FONT_SIZE - 1},
        "xpad": 6,
        "nticks": 6,
    }
