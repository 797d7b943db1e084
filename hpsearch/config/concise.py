"""A config as a study file that holds what concerns it: no key that nothing uses, no stage that is as by default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpsearch.config.ranges import thaw
from hpsearch.config.study import StudyConfig
from hpsearch.config.usage import STAGES, is_used, unused_ranges

SECTIONS = ("data", "model", "train")


def as_trained(config: StudyConfig, kind: str, params: Mapping[str, Any]) -> StudyConfig:
    """The config with [data], [model] and [train] as a trial of the stage `kind` had them: epochs, settings, `params`.

    The stage needs its own `set` no longer; in the other one's, what it would have changed is put back, so that a
    search that goes on with the result is the one that would have gone on with `config`. (Not what was not set at all:
    a study file cannot say that of a key.)

    Raises:
        ConfigError: a parameter is no hyperparameter, or its value not allowed.
    """
    other = next(stage for stage in STAGES if stage != kind)
    own, others = config.stage(kind), config.stage(other)
    before = {name: thaw(config.value(name)) for name in own.set if config.value(name) is not None}
    return (
        config.for_stage(kind)
        .with_params(params)
        .model_copy(
            update={
                kind: own.model_copy(update={"set": {}}),
                other: others.model_copy(update={"set": {**before, **others.set}}),
            }
        )
    )


def concise(config: StudyConfig, kind: str | None = None) -> dict[str, Any]:
    """What a study file has to say for this config, as plain data; what the stage `kind` has is said in full.

    Of [data], [model] and [train] all keys that are used, as defaults may change; all ranges that are searched; of the
    other stages what is not as by default.
    """
    plain, default = config.plain(), StudyConfig().plain()
    said: dict[str, Any] = {}
    if config.objective is not None:
        said["objective"] = {key: value for key, value in plain["objective"].items() if value not in (None, [], {})}
    else:
        for section in SECTIONS:
            said[section] = {key: value for key, value in plain[section].items() if is_used(config, section, key)}
    unused = unused_ranges(config)
    said["space"] = {name: range_ for name, range_ in plain["space"].items() if name not in unused}
    for stage in STAGES:
        settings = {
            key: value
            for key, value in plain[stage].items()
            if value != {} and (stage == kind or value != default[stage].get(key))
        }
        if settings:
            said[stage] = settings
    return said
