"""What `hpsearch wrap --metric` says of the value of a program: its name, and the pattern of the lines that hold it."""

from __future__ import annotations

import re

from hpsearch.errors import ConfigError


def value_of(metric: str) -> tuple[str, str | None]:
    """What the value is called, and the pattern of its lines, if it is one: with a group in parentheses, and at most
    another one, of the epoch."""
    if "(" not in metric:
        if re.search(r"[\[\]*+?^$|=]", metric):
            raise ConfigError(
                f"--metric {metric} has no group that holds the value.\n"
                r"Allowed: a regular expression with one, as 'val_acc=([0-9.]+)'; or a name in lines of JSON."
            )
        return metric, None
    if "(?P<epoch>" in metric:  # the word in front of the other group
        before = re.sub(r"\(\?P<epoch>[^()]*\)", " ", metric).partition("(")[0]
        words = re.findall(r"[A-Za-z_][\w-]*", re.sub(r"\\.", " ", before))
        return words[-1].strip("-_") or "value" if words else "value", metric
    named = re.match(r"[A-Za-z_][\w-]*", metric.lstrip("\\b^"))
    return (named[0].strip("-_") or "value") if named else "value", metric
