"""Keys that a command need not say where a budget in epochs decides them: pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpsearch.config import StudyConfig
from hpsearch.config.cheap_trials import DECIDES, LEFT, forget_defaults

Plain = Mapping[str, Any]

BESIDE = ("epochs_budget", "pruner", "min_epochs")  # of coarse: on what it depends whether there are rungs
LEFT_KEYS = [path.split(".") for path in LEFT]


def with_decided(base: Plain, config: Plain) -> Plain:
    """The base of a command as it is beside the budget or the rungs of `config`, if that has others.

    Either all keys that these decide are as in `config` then, or none of them is there, and a command has to say each.
    """
    decides = [path.split(".") for path in DECIDES]
    if all(config.get(stage, {}).get(key) == base.get(stage, {}).get(key) for stage, key in decides):
        return base
    stages = {stage: dict(base.get(stage, {})) for stage in ("coarse", "fine")}
    forget_defaults(stages, {*DECIDES})
    said = {stage: {key: keys[key] for key in ("epochs", "sampler") if key in keys} for stage, keys in stages.items()}
    said["coarse"] |= {key: config["coarse"][key] for key in BESIDE if key in config["coarse"]}
    said["fine"]["epochs"] = config["fine"]["epochs"]
    decided = StudyConfig.model_validate(said).plain()
    alike = all(decided[stage].get(key) == config[stage].get(key) for stage, key in LEFT_KEYS)
    for stage, key in LEFT_KEYS:
        stages[stage].pop(key, None)
        if alike and key in decided[stage]:
            stages[stage][key] = decided[stage][key]
    return {**base, **stages}
