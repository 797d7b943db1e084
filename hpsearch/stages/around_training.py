"""From a training with given values to a search: ranges around these values."""

from __future__ import annotations

from hpsearch.analysis.records import stage_record
from hpsearch.config import FloatRange, Range
from hpsearch.storage import StudyRow

AROUND = {"lr": 10**1.5, "reg": 100.0}  # times less and more than the value: three and four powers of ten in all


def ranges_around(training: StudyRow) -> dict[str, tuple[Range, str]]:
    """Ranges of those of its values that are best searched on a log scale, as far as it used them, and the reason."""
    values = stage_record(training).config_value("train")
    return {
        param: (
            FloatRange(float(f"{values[param] / spread:.2g}"), float(f"{values[param] * spread:.2g}"), log=True),
            f"around {values[param]:.1e}, with which {training.name} was trained",
        )
        for param, spread in AROUND.items()
        if values[param] > 0
    }
