"""A benchmark's offline page: figures of plotly.js, which stands in the file itself, and tables; and its JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")  # Okabe and Ito 2008
STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2em auto; padding: 0 1em; color: #222; }
table { display: block; overflow-x: auto; border-collapse: collapse; margin: 1em 0; }
table { font-variant-numeric: tabular-nums; }
th, td { padding: .25em .8em; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
pre { background: #f5f5f5; padding: .6em; overflow-x: auto; }
"""


@dataclass(frozen=True)
class Table:
    """Rows of text under a head; the first column names the rows."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def as_text(self) -> str:
        widths = [max(len(row[i]) for row in (self.head, *self.rows)) for i in range(len(self.head))]
        lines = (
            "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(cells))
            for cells in (list(zip(row, widths, strict=True)) for row in (self.head, *self.rows))
        )
        return "\n".join(line.rstrip() for line in lines)

    def as_html(self) -> str:
        def row(cells: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        return "<table>" + row(self.head, "th") + "".join(row(cells, "td") for cells in self.rows) + "</table>"


def render(title: str, found: dict[str, Any], parts: Sequence[Table | go.Figure | str]) -> str:
    """A page of tables, figures and paragraphs, with machine, versions and command at its end."""
    body, scripts = [], True
    for part in parts:
        if isinstance(part, go.Figure):
            body.append(part.to_html(full_html=False, include_plotlyjs=scripts, config={"displaylogo": False}))
            scripts = False
        else:
            body.append(part.as_html() if isinstance(part, Table) else f"<p>{escape(part)}</p>")
    facts = {name: found[name] for name in ("command", "machine", "work") if name in found}
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"<h1>{escape(title)}</h1>{''.join(body)}<h2>Made by</h2>"
        f"<pre>{escape(json.dumps(facts, indent=2))}</pre></body></html>"
    )


def figure(title: str, x: str, y: str, *, log_x: bool = False, log_y: bool = False) -> go.Figure:
    """An empty figure with named axes."""
    fig = go.Figure()
    fig.update_layout(template="plotly_white", title=title, colorway=COLOURS, height=420)
    fig.update_xaxes(title=x, type="log" if log_x else None)
    fig.update_yaxes(title=y, type="log" if log_y else None, rangemode=None if log_y else "tozero")
    return fig


def write(found: dict[str, Any], page: str, json_file: str | None, html_file: str | None) -> None:
    """The files that were asked for."""
    if json_file:
        Path(json_file).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if html_file:
        Path(html_file).write_text(page, encoding="utf-8")
