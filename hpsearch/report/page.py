"""One offline HTML file: styles, scripts, plotly.js and data inside, under a policy that lets nothing else run.

All text goes through jinja2's autoescape; data stand in a JSON block in which no markup can end it. Scripts and
styles are allowed by their SHA-256, so text that slipped through would still not run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import jinja2
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from hpsearch.report import style

PLOTLY_STYLE = "plotly.js-style-global"  # where plotly.js looks for its own rules
# Libraries inside plotly.js look for their styles under a hash as id, and make an element only if there is none.
LIBRARY_STYLE = re.compile(r'getElementById\("([0-9a-f]{64})"\)')


def render_page(
    template: str,
    *,
    title: str,
    figures: Mapping[str, go.Figure],
    data: Mapping[str, Any] | None = None,
    scripts: Sequence[str] = (),
    **context: Any,
) -> str:
    """A whole page as text.

    Args:
        template: file name in `templates/`; it extends base.html and shows figures with `parts.figure(id, ...)`.
        title: of the page.
        figures: by the id under which the template shows them; drawn when they come into view, in both themes.
        data: more for the page's own scripts, which find it in `hpsearchPage.data`; nan and inf become null.
        scripts: file names in `templates/` of these scripts, run after page.js.
        context: what else the template uses.
    """
    css = Markup(_css())
    plotly_js = Markup(_plotly_js())
    sources = [Markup(_source(name)) for name in ("page.js", *scripts)]
    plotly_styles = [PLOTLY_STYLE, *LIBRARY_STYLE.findall(plotly_js)]
    return (
        _environment()
        .get_template(template)
        .render(
            title=title,
            policy=_policy([plotly_js, *sources], [css, ""]),
            css=css,
            plotly_styles=plotly_styles,
            page_data=_page_data(figures, data or {}),
            plotly_js=plotly_js,
            scripts=sources,
            **context,
        )
    )


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("hpsearch.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _plotly_js() -> str:
    return _embeddable(str(get_plotlyjs()))


def _source(name: str) -> str:
    text = resources.files("hpsearch.report").joinpath("templates", name).read_text(encoding="utf-8")
    return _embeddable(text)


def _embeddable(script: str) -> str:
    """The same script with line ends as browsers hash them."""
    assert not re.search(r"</script|<!--", script, re.IGNORECASE), "a script must not hold what would end it"
    return script.replace("\r\n", "\n")


def _css() -> str:
    light, dark = style.css_variables(style.LIGHT), style.css_variables(style.DARK)
    themes = f":root {{ {light} }}\n@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    return themes + f"body {{ font-family: {style.FONT}; }}\n" + _source("page.css")


def _policy(scripts: Iterable[str], styles: Iterable[str]) -> str:
    allowed = {
        "default-src": ["'none'"],
        "script-src": [_hash(text) for text in scripts],
        "style-src": [_hash(text) for text in styles],
        "style-src-attr": ["'unsafe-hashes'", _hash("")],  # plotly.js empties style attributes; nothing else may be set
        "img-src": ["data:", "blob:"],  # plotly.js's own picture of a figure
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }
    return "; ".join(f"{name} {' '.join(sources)}" for name, sources in allowed.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _page_data(figures: Mapping[str, go.Figure], data: Mapping[str, Any]) -> Markup:
    drawn = ", ".join(f"{json.dumps(name)}: {figure.to_json()}" for name, figure in figures.items())
    rest = json.dumps(finite(data), separators=(",", ":"))
    dark = json.dumps(style.dark_colours())
    return Markup(script_json(f'{{"figures": {{{drawn}}}, "dark": {dark}, "data": {rest}}}'))


def script_json(text: str) -> str:
    """JSON that can stand in a script element: no `</script>`, no `<!--`, no line separators of JavaScript."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def finite(value: Any) -> Any:
    """Plain data with null for nan and inf, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
