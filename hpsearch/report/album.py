"""The figures of a page, under ids."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import plotly.graph_objects as go


@dataclass(frozen=True)
class Shown:
    """A card: a figure, or, without an id, the reason why there is none."""

    id: str | None
    title: str
    note: str


@dataclass
class Album:
    """The figures of a page under ids that are unique and fit for file names."""

    figures: dict[str, go.Figure] = field(default_factory=dict)

    def add(self, name: str, fig: go.Figure, title: str, note: str = "") -> Shown:
        """Put a figure in; whatever was not made for ids in its name becomes a hyphen."""
        base = re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-.")[:60] or "figure"
        key, count = base, 1
        while key in self.figures:
            count += 1
            key = f"{base}-{count}"
        self.figures[key] = fig
        return Shown(key, title, note)
