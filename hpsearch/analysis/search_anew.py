"""What a new search from the start repeats of the stages of one that has ended. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpsearch.analysis.commands import whole
from hpsearch.analysis.summary import StageSummary


def config_anew(stages: Sequence[StageSummary]) -> dict[str, Any] | None:
    """The config of one search that makes these stages anew; None where it is not known.

    What was said to a later stage alone counts, as its trials or an augmentation: the last word on each key. Of each
    range the first one counts, as later ones were narrowed from it.
    """
    first, last = stages[0].first_config, stages[-1].asked_config
    if first is None or last is None or len(stages) == 1:
        return first
    space = dict(first["space"])
    for stage in stages[1:]:
        for name, range_ in (whole(stage.config) or last)["space"].items():
            space.setdefault(name, range_)
    if first["model"]["name"] != last["model"]["name"]:  # ranges that the other net does not use are not in fine
        space = {name: range_ for name, range_ in space.items() if name in last["space"]}
    return {**last, "coarse": first["coarse"], "space": space}
