"""What a trial of the user's code has reported, in its folder: the database forgets it when another attempt begins."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from hpsearch.datasets.atomic import replacing
from hpsearch.results import EpochResult

CURVE = "reported.json"


def write_curve(path: Path, results: Sequence[EpochResult]) -> None:
    """Replace the file, whole or not at all."""
    with replacing(path) as file:
        file.write(json.dumps([[result.epoch, result.val_score] for result in results]).encode())


def read_curve(path: Path) -> dict[int, float]:
    """Values by epoch; none where there is no such file."""
    try:
        return {int(epoch): float(value) for epoch, value in json.loads(path.read_bytes())}
    except (OSError, ValueError, TypeError):
        return {}
