"""The file of a module, found without importing anything."""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from pathlib import Path


def module_file(module: str) -> Path | None:
    """The source of a module, in the working folder or where Python looks; None where there is none. Imports nothing,
    not even the packages that it is in.
    """
    places: list[str] | None = [str(Path.cwd()), *sys.path]
    spec = None
    for part in module.split("."):
        if places is None:
            return None
        if (spec := PathFinder.find_spec(part, places)) is None:
            return None
        places = list(spec.submodule_search_locations) if spec.submodule_search_locations is not None else None
    assert spec is not None
    return Path(spec.origin) if spec.origin is not None and spec.has_location else None
