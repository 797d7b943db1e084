"""The files that an objective's code is in: the module of a function, or a program's own among its words."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hpsearch.config.module_files import module_file
from hpsearch.config.schema.objective import ObjectiveConfig

MAX_SIZE = 2**22  # bytes; what is larger is data, no code


def objective_hashes(objective: ObjectiveConfig) -> dict[str, str]:
    """By module or word: the start of a hash of its file, so that a change can be noted."""
    hashes = {}
    for name, path in objective_files(objective).items():
        try:
            if path.stat().st_size <= MAX_SIZE:
                hashes[name] = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
        except OSError:  # it may be read by nobody, and run all the same
            continue
    return hashes


def objective_files(objective: ObjectiveConfig) -> dict[str, Path]:
    """By module or word: those that are there."""
    if objective.function is None:
        return {word: Path(word) for word in objective.command if _is_file(word)}
    module = objective.function.partition(":")[0]
    path = module_file(module)
    return {module: path} if path is not None else {}


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except (OSError, ValueError):  # too long a name, or one with a null
        return False
