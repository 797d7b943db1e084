"""Keys that a command need not say where a budget in epochs decides them: pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpsearch.config import StudyConfig
from hpsearch.config.cheap_trials import LEFT, forget_defaults

Plain = Mapping[str, Any]

BESIDE = ("epochs_budget", "pruner", "min_epochs")  # of coarse: on what it depends whether there are rungs
LEFT_KEYS = [path.split(".") for path in LEFT]


def with_decided(base: Plain, config: Plain) -> Plain:
    """The base of a command as it is beside the budget or the rungs of `config`, if that has others.

    Either all keys that these decide are as in `config` then, or none of them is there, and a command has to say each.
    """
    ours, theirs = config.get("coarse", {}), base.get("coarse", {})
    if all(ours.get(key) == theirs.get(key) for key in ("epochs_budget", "halving")):
        return base
    stages = {stage: dict(base.get(stage, {})) for stage in ("coarse", "fine")}
    decided: dict[str, Any] = {}
    if not {"epochs_budget", "halving"} & theirs.keys():  # a command that says a budget decides all then
        forget_defaults(stages, {"coarse.epochs_budget"})
        coarse, fine = ({key: each[key] for key in ("epochs", "sampler") if key in each} for each in stages.values())
        coarse |= {key: ours[key] for key in BESIDE if key in ours}
        fine["epochs"] = config["fine"]["epochs"]
        decided = StudyConfig.model_validate({"coarse": coarse, "fine": fine}).plain()
    alike = bool(decided) and all(decided[stage].get(key) == config[stage].get(key) for stage, key in LEFT_KEYS)
    for stage, key in LEFT_KEYS:
        stages[stage].pop(key, None)
        if alike and key in decided[stage]:
            stages[stage][key] = decided[stage][key]
    return {**base, **stages}
