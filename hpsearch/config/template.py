"""The commented study file that `hpsearch init` writes, made from the schema so that it is never out of date."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tomli_w

from hpsearch.config.fields import Section
from hpsearch.config.ranges import thaw
from hpsearch.config.schema import RunConfig
from hpsearch.config.study import StudyConfig

HEAD = """\
# A study file for hpsearch. Every key is here with its default; keep what you change.
# Precedence: defaults < this file < environment (HPSEARCH_TRAIN__BATCH_SIZE=50) < flags (--set train.batch_size=50).
"""

SPACE = """\
[space]
# Any key of [train] and [model], and most of [data], can be a hyperparameter; lr and reg are short for train.lr and
# train.reg. Forms: { log = [a, b] }, { uniform = [a, b] }, { int = [a, b] }, { int_log = [a, b] }, { choice = [...] }.
# With when = { "train.optimizer" = "adam" } beside a form, only those trials have it.
# These are for linear and mlp; without this section, ranges are searched that fit the net and the optimizer.
"""


def commented_study_file() -> str:
    """TOML with every section and key; `hpsearch coarse -c` reads it back as the defaults."""
    config = StudyConfig()
    parts = [HEAD]
    for name in ("data", "model", "train"):
        parts.append(_section(name, getattr(config, name)))
    space = "".join(f"{key} = {_inline(value)}\n" for key, value in config.plain()["space"].items())
    parts.append(SPACE + space + '# "model.hidden" = { choice = [[50], [100]] }\n')
    for name in ("coarse", "fine"):
        parts.append(_section(name, getattr(config, name)))
    parts.append(_section("run", RunConfig()))
    return "\n".join(parts)


def as_toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Plain tables as TOML, one line a key; what is None is left out, as TOML has no null."""
    return "\n".join(
        f"[{name}]\n"
        + "".join(f"{_key(key)} = {_inline(value)}\n" for key, value in table.items() if value is not None)
        for name, table in tables.items()
    )


def _section(name: str, section: Section) -> str:
    summary = (type(section).__doc__ or "").splitlines()[0]
    lines = [f"[{name}]  # {summary}"]
    tables = []
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        if isinstance(value, Section):
            tables.append(_section(f"{name}.{key}", value))
            continue
        setting = f"# {key} = ..." if value is None else f"{key} = {_inline(value)}"
        lines += [f"# {' '.join((field.description or '').split())}", setting]
    return "\n".join(lines) + "\n" + "".join(f"\n{table}" for table in tables)


def _inline(value: Any) -> str:
    """One value as TOML on one line."""
    if isinstance(value, dict):
        inner = ", ".join(f"{_key(key)} = {_inline(item)}" for key, item in value.items() if item is not None)
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_inline(item) for item in thaw(value))}]"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").strip()


def _key(key: str) -> str:
    return tomli_w.dumps({key: 0}).removesuffix(" = 0\n")
