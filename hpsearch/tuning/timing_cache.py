"""Timings of this machine, kept for the next search: one small file in the user's cache folder.

It saves two seconds, so nothing here may end a search: what cannot be read is measured again, what cannot be written
is forgotten.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from hpsearch.logs import get_logger
from hpsearch.runtime import num_cores
from hpsearch.tuning.timing import Timing
from hpsearch.version import __version__

MEANING = "steps but the last of an epoch"  # of a timing; one that meant something else is measured again
MOST_ENTRIES = 500  # of about 1 KiB; the oldest go
log = get_logger(__name__)


@dataclass(frozen=True)
class Measured:
    """What was timed for one device and structure; the default comes first."""

    timings: tuple[Timing, ...]
    seconds: float
    """That were granted for all of them: a larger search looks at more ways."""
    bfloat16: float | None = None
    """How many times as fast a step is in bfloat16; None if nobody asked, or it could not be measured."""


def cache_file() -> Path:
    """`hpsearch/tuning.json` in XDG_CACHE_HOME, or in ~/.cache.

    Raises:
        RuntimeError: this user has no home.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(given) if Path(given).is_absolute() else Path.home() / ".cache"
    return folder / "hpsearch" / "tuning.json"


def device_name(device: torch.device) -> str:
    """The GPU by its name, the CPU by its model and the cores that this process has of it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    with suppress(OSError, StopIteration, IndexError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line for line in lines if line.startswith("model name")).split(":", 1)[1].strip()
    return f"{device.type}: {model}, {num_cores()} cores"


def read(about: Mapping[str, Any]) -> Measured | None:
    """What was measured for exactly this, if anything was."""
    entry = _read_all().get(_name(about))
    if entry is None:
        return None
    try:
        timings = tuple(Timing(**each) for each in entry["timings"])
        numbers = [number for each in timings for number in (each.width, each.step)] + [entry["seconds"]]
        if not timings or not all(math.isfinite(number) and number > 0 for number in numbers):
            raise ValueError(f"timings {numbers}")
        return Measured(timings, entry["seconds"], entry["bfloat16"])
    except (KeyError, TypeError, ValueError) as error:
        log.warning("the cache of timings has an entry that cannot be used, so it is measured again: %s", error)
        return None


def write(about: Mapping[str, Any], measured: Measured) -> None:
    """Keep it; where another process writes at the same moment, one of the two is lost."""
    entry = {"about": dict(about), **asdict(measured)}
    entries = _read_all()
    entries.pop(_name(about), None)
    entries[_name(about)] = entry
    kept = dict(list(entries.items())[-MOST_ENTRIES:])
    try:
        file = cache_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        _write_atomically(file, json.dumps(kept, indent=1))
    except (OSError, RuntimeError) as error:
        log.info("timings are not kept: %s", error)


def _write_atomically(file: Path, text: str) -> None:
    descriptor, name = tempfile.mkstemp(prefix=file.name, dir=file.parent)
    try:
        with os.fdopen(descriptor, "w") as temporary:
            temporary.write(text)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _read_all() -> dict[str, Any]:
    try:
        found = json.loads(cache_file().read_text())
        if not isinstance(found, dict):
            raise TypeError("it holds no table")
        return found
    except FileNotFoundError:
        return {}
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        log.warning("the cache of timings is ignored: %s", error)
        return {}


def _name(about: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]


def _version(package: str) -> str | None:
    """Of a package that may not be installed; it is not imported for this."""
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


def describe(device: torch.device, structure: str, shape: Sequence[int], **more: Any) -> dict[str, Any]:
    """All that timings depend on: what is different in one of these is measured anew."""
    return {
        "device": device_name(device),
        "torch": str(torch.__version__),
        "numba": _version("numba"),
        "hpsearch": __version__,
        "meaning": MEANING,
        "structure": structure,
        "shape": list(shape),
        **more,
    }
