"""Line charts and sparklines in plain Unicode; readable without colour, each line has its own dashes and label."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.text import Text

BRAILLE = 0x2800  # its 8 dots are a cell of 2 x 4 pixels
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # [row][column] of the cell
BLOCKS = "▁▂▃▄▅▆▇█"
LOG_SPREAD = 20.0  # largest over smallest value above which an axis is logarithmic
LABEL = 9  # columns of the numbers on the left
STYLES: dict[str, tuple[str, int, int]] = {
    # colour, pixels drawn and pixels left out along the line
    "train": ("blue", 1, 0),
    "val": ("yellow", 4, 2),
    "cost": ("magenta", 1, 3),
    "highest": ("yellow", 1, 3),
    "lowest": ("yellow", 1, 3),
}
PLAIN = ("cyan", 1, 0)

Line = Sequence[tuple[float, float]]
"""Points (epoch, value); values that are not finite are left out."""


def sparkline(values: Sequence[float], width: int, low: float = 0.0, high: float = 1.0) -> str:
    """At most `width` blocks for values between `low` and `high`; of many values, the last of each part."""
    finite = [value for value in values if math.isfinite(value)]
    shown = min(width, len(finite))
    picked = [finite[(index + 1) * len(finite) // shown - 1] for index in range(shown)]
    span = (high - low) or 1.0
    return "".join(BLOCKS[max(0, min(7, int((value - low) / span * 8)))] for value in picked)


def chart(
    title: str,
    lines: Mapping[str, Line],
    width: int,
    height: int = 9,
    *,
    unit: str = "epoch",
    end: int | None = None,
) -> Text:
    """Lines over epochs with axes, `width` columns wide and `height` + 3 rows high, logarithmic where values spread.

    Args:
        title: what is drawn.
        lines: by name; train, val and cost have a look of their own.
        width: columns, at least 40.
        height: rows of the plot without axis and title.
        unit: what the horizontal axis counts.
        end: of the horizontal axis; without it, where the lines end.
    """
    kept = {name: [(x, y) for x, y in line if math.isfinite(y)] for name, line in lines.items()}
    kept = {name: line for name, line in kept.items() if line}
    if not kept:
        return Text(f"{title}: no finite values")
    values = [y for line in kept.values() for _, y in line]
    positive = [y for y in values if y > 0]
    log = min(values) >= 0 and bool(positive) and max(positive) > LOG_SPREAD * min(positive)
    axis = _Axis.over(positive if log else values, log)
    margin = max(len(name) for name in kept) + 1
    canvas = _Canvas(max(20, width - LABEL - 1 - margin), height)
    epochs = [x for line in kept.values() for x, _ in line]
    first, last = min(epochs), max(epochs) if end is None else end
    for name, line in kept.items():
        points = [(_place(x, first, last), axis.place(y)) for x, y in line]
        canvas.draw(points, *STYLES.get(name, PLAIN))
    text = Text.assemble((f"{title}{', log axis' if log else ''}", "bold"), "\n")
    ends = _end_rows({name: (1 - axis.place(line[-1][1])) * (height - 0.01) for name, line in kept.items()}, height)
    ticks = {canvas.row(axis.place(value)): value for value in axis.ticks}
    for row in range(height):
        number = _number(ticks[row]) if row in ticks else ""
        text.append(f"{number:>{LABEL - 2}} {'┤' if number else '│'}", "dim" if not number else "")
        for char, style in canvas.cells(row):
            text.append(char, style)
        if row in ends:
            text.append(f" {ends[row]}", STYLES.get(ends[row], PLAIN)[0])
        text.append("\n")
    text.append(f"{'':>{LABEL - 1}}└{'─' * canvas.columns}\n", "dim")
    return text.append_text(_steps_axis(unit, int(first), int(last), canvas.columns))


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]

    @classmethod
    def over(cls, values: Sequence[float], log: bool) -> _Axis:
        """Ends and ticks at round numbers around the values."""
        low, high = min(values), max(values)
        if log:
            exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            ticks = tuple(m * 10.0**e for e in exponents for m in ((1,) if len(exponents) > 3 else (1, 3)))
            return cls(low, high, True, tuple(tick for tick in ticks if low <= tick <= high) or (low, high))
        step = _round_step((high - low) or abs(high) or 1.0)
        low, high = math.floor(low / step) * step, math.ceil(high / step) * step
        high = high if high > low else low + step
        return cls(low, high, False, tuple(low + step * index for index in range(round((high - low) / step) + 1)))

    def place(self, value: float) -> float:
        """0 at the lower end, 1 at the upper."""
        if self.log:
            value = max(value, self.low)
            return _place(math.log(value), math.log(self.low), math.log(self.high))
        return _place(value, self.low, self.high)


def _place(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.5


def _round_step(span: float) -> float:
    """1, 2 or 5 times a power of ten: about four steps."""
    power = 10.0 ** math.floor(math.log10(span / 4))
    return next(step * power for step in (1, 2, 5, 10) if span / (step * power) <= 4)


def _number(value: float) -> str:
    return f"{value:.0e}" if value and (abs(value) >= 1e4 or abs(value) < 1e-3) else f"{round(value, 6):g}"


def _steps_axis(unit: str, first: int, last: int, columns: int) -> Text:
    """Numbers of epochs below the plot, each centred under its place."""
    step = max(1, int(_round_step(max(1, last - first))))
    marks = sorted({first, last, *range(-(-first // step) * step, last, step)})
    cells = [" "] * (LABEL + columns + 12)
    free = 0
    for mark in [*marks[:-1], last] if first < last else [first]:
        label = f"{unit} {mark}" if mark == first else str(mark)
        centre = LABEL + round(_place(mark, first, last) * (columns - 1))
        start = max(0, centre - (len(label) - 1 if mark == first else len(label) // 2))
        crowds_last = mark != last and start + len(label) + 1 > LABEL + columns - 1 - len(str(last)) // 2
        if start >= free and not crowds_last:
            cells[start : start + len(label)] = label
            free = start + len(label) + 1
    return Text("".join(cells).rstrip())


def _end_rows(wanted: Mapping[str, float], height: int) -> dict[int, str]:
    """A row of its own for each line's label, in the order in which the lines end; `wanted` counts from the top."""
    names = sorted(wanted, key=lambda name: wanted[name])
    rows = [int(wanted[name]) for name in names]
    for index in range(1, len(rows)):
        rows[index] = max(rows[index], rows[index - 1] + 1)
    for index, row in reversed(list(enumerate(rows))):
        rows[index] = min(row, height - len(rows) + index)
    return dict(zip(rows, names, strict=True))


class _Canvas:
    """Braille cells; where lines cross, a cell has the colour of the one drawn last."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self._dots = [[0] * columns for _ in range(rows)]
        self._styles = [[""] * columns for _ in range(rows)]

    def row(self, height: float) -> int:
        """The row of cells in which a value at this height (0 to 1) lies; 0 is the top."""
        return self._pixel(0.0, height)[1] // 4

    def cells(self, row: int) -> list[tuple[str, str]]:
        """Characters and their styles."""
        return [
            (chr(BRAILLE + dots) if dots else " ", style)
            for dots, style in zip(self._dots[row], self._styles[row], strict=True)
        ]

    def draw(self, points: Sequence[tuple[float, float]], style: str, on: int, off: int) -> None:
        """Connect points (0 to 1 in both directions), `on` pixels drawn and `off` left out in turn; their ends are."""
        pixels = [self._pixel(x, y) for x, y in points]
        count = 0
        for (x0, y0), (x1, y1) in pairwise(pixels):
            steps = max(abs(x1 - x0), abs(y1 - y0), 1)
            for step in range(steps):
                if count % (on + off) < on:
                    self._dot(round(x0 + (x1 - x0) * step / steps), round(y0 + (y1 - y0) * step / steps), style)
                count += 1
        for x, y in (pixels[0], pixels[-1]):
            self._dot(x, y, style)

    def _pixel(self, x: float, y: float) -> tuple[int, int]:
        return round(x * (2 * self.columns - 1)), round((1 - y) * (4 * self.rows - 1))

    def _dot(self, x: int, y: int, style: str) -> None:
        self._dots[y // 4][x // 2] |= DOTS[y % 4][x % 2]
        self._styles[y // 4][x // 2] = style
