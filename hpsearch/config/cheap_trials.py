"""What is left to hpsearch where a coarse stage over nets is to spend little on most of its trials. Pure.

A budget in epochs is spent best by rungs that reach up to the epochs of fine, and then by a Gaussian process that is
told of all trials at these: on recorded trainings both together found more than TPE alone and than ASHA, see
docs/log.md. So whoever names a budget gets the rungs, and whoever has rungs the process, where trials take longer.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from hpsearch.config.schema import FineConfig, StageConfig

DECIDES = ("coarse.epochs_budget", "coarse.halving")
LEFT = ("coarse.epochs", "coarse.halving", "fine.sampler")
"""Keys that these decide, where a study file does not."""


def with_rungs(coarse: StageConfig, fine: FineConfig) -> StageConfig:
    """A coarse stage with a budget in epochs, as it is where nothing else is said."""
    if coarse.epochs_budget is None:
        return coarse
    said = coarse.model_fields_set
    epochs = coarse.epochs if "epochs" in said else fine.epochs
    may_have_rungs = coarse.pruner == "none" and coarse.min_epochs < epochs
    halving = coarse.halving if "halving" in said or not may_have_rungs else "promote"
    return coarse.model_copy(update={"epochs": epochs, "halving": halving})


def after_rungs(coarse: StageConfig, fine: FineConfig) -> FineConfig:
    """The fine stage after it: its sampler is chosen by what its trials take, if none is said."""
    if coarse.halving == "none" or "sampler" in fine.model_fields_set:
        return fine
    return fine.model_copy(update={"sampler": "auto"})


def forget_defaults(stored: Mapping[str, Any], said: Set[str]) -> None:
    """Take out of the tables of an earlier stage, which have every key, what was probably never said.

    Args:
        stored: its plain config, to be changed.
        said: paths of keys that a command says.
    """
    for path in LEFT if not said.isdisjoint(DECIDES) else ():
        stage, key = path.split(".")
        default = (StageConfig if stage == "coarse" else FineConfig).model_fields[key].default
        if path not in said and stored.get(stage, {}).get(key) == default:
            del stored[stage][key]
