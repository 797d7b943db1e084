"""What a library measured, found by the name under which it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpsearch.errors import ConfigError


def monitored(name: str, measured: Mapping[str, Any], hint: str) -> float:
    """The value of that name as a number.

    Args:
        name: as the user gave it, `monitor=...`.
        measured: by name, numbers or tensors of one element.
        hint: where such names come from, in this library's words.

    Raises:
        ConfigError: it is not there; the message has those that are.
    """
    if name not in measured:
        there = ", ".join(sorted(measured)) or "none"
        raise ConfigError(f"monitor = {name!r} is not measured; {hint}.\nMeasured: {there}.")
    return float(measured[name])
