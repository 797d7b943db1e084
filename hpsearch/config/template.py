"""The commented study file that `hpsearch init` writes, made from the schema so that it is never out of date."""

from __future__ import annotations

import ast
import inspect
import textwrap
from itertools import pairwise
from typing import Any

import tomli_w

from hpsearch.config.ranges import thaw
from hpsearch.config.schema import RunConfig, Section
from hpsearch.config.study import StudyConfig, thaw_all

HEAD = """\
# A study file for hpsearch. Every key is here with its default; keep what you change.
# Precedence: defaults < this file < environment (HPSEARCH_TRAIN__BATCH_SIZE=50) < flags (--set train.batch_size=50).
"""

SPACE = """\
[space]
# Any key of [train] and [model], and most of [data], can be a hyperparameter; lr and reg are short for train.lr and
# train.reg. Forms: { log = [a, b] }, { uniform = [a, b] }, { int = [a, b] }, { int_log = [a, b] }, { choice = [...] }.
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


def _section(name: str, section: Section) -> str:
    summary = (type(section).__doc__ or "").splitlines()[0]
    lines = [f"[{name}]  # {summary}"]
    tables = []
    meanings = _meanings(type(section))
    for key in type(section).model_fields:
        value = getattr(section, key)
        if isinstance(value, Section):
            tables.append(_section(f"{name}.{key}", value))
            continue
        setting = f"# {key} = ..." if value is None else f"{key} = {_inline(value)}"
        lines += [f"# {meanings[key]}", setting]
    return "\n".join(lines) + "\n" + "".join(f"\n{table}" for table in tables)


def _meanings(section: type[Section]) -> dict[str, str]:
    """The docstrings of a section's keys. Pydantic would collect them, too, but at every start of every command."""
    meanings: dict[str, str] = {}
    for owner in reversed(section.__mro__[: section.__mro__.index(Section)]):
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        assert isinstance(definition, ast.ClassDef)
        for statement, text in pairwise(definition.body):
            match statement, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(meaning))):
                    meanings[name] = " ".join(meaning.split())
    return meanings


def _inline(value: Any) -> str:
    """One value as TOML on one line."""
    if isinstance(value, dict):
        inner = ", ".join(f"{_key(key)} = {_inline(item)}" for key, item in thaw_all(value).items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_inline(item) for item in thaw(value))}]"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").strip()


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() else f'"{key}"'
