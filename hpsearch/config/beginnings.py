"""What a library's net starts from, where that is searched: weights of a training before, or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpsearch.config.ranges import Choice, parse_range

NO_WEIGHTS = "none"
"""Of model.weights, in a choice: the net starts from random numbers."""

NAMES = {
    "weights": ("model.weights", "weights"),
    "pretrained": ("model.pretrained", "pretrained"),
}
"""Keys of [model] that name a beginning, by what they are called in [space]."""


def begun(study: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of a study file, its [model] with the first weights that [space] names, where it has none itself.

    All trials see the same images, so a search that compares weights with none prepares them for the weights.

    Raises:
        ConfigError: what stands there is no range.
    """
    model, space = study.get("model"), study.get("space")
    if not (isinstance(model, Mapping) and isinstance(space, Mapping)):
        return dict(study)
    first: dict[str, Any] = {}
    for key, names in NAMES.items():
        for name in names:
            range_ = parse_range(name, space[name]) if name in space and key not in model else None
            given = range_.values if isinstance(range_, Choice) else ()
            if weights := [value for value in given if value not in (NO_WEIGHTS, False)]:
                first[key] = weights[0]
    return {**study, "model": {**model, **first}} if first else dict(study)
