"""A new search from the start: what it repeats of the stages of one that has ended, and the advice for it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hpsearch.analysis.advice_form import Advice
from hpsearch.analysis.commands import changed_config, run_command, whole
from hpsearch.analysis.remedies import Remedy
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


def advised_anew(text: str, remedy: Remedy | None, config: Mapping[str, Any] | None, taken: Collection[str]) -> Advice:
    """A new search with something changed, where we know what."""
    if remedy is None:
        return Advice(text)
    said = f"{text}: {remedy.text}" if remedy.text else text
    if config is None or not remedy.changes:
        return Advice(said)
    search = changed_config(config, remedy.changes)
    return Advice(said, tuple(run_command(search, remedy.name, taken)), search=search)
