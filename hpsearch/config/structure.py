"""Which trials can train in one pack: those with the same structural hyperparameters."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hpsearch.config.hyperparameters import SEARCHABLE, canonical_name, is_vector, is_vector_key
from hpsearch.config.study import StudyConfig
from hpsearch.errors import EngineError
from hpsearch.results import TrialSpec


def structural(params: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the hyperparameters that change the program or its shapes, by canonical name."""
    return {canonical_name(name): value for name, value in params.items() if not is_vector(name)}


def structure_key(config: StudyConfig, params: Mapping[str, Any]) -> str:
    """Text that is equal for two trials of a study exactly when they can train in one pack.

    It names all structural values, whether they come from `params` or from `config`, so it is also stable when one
    trial states what another one leaves to the study file.

    Raises:
        ConfigError: a structural value is not allowed.
    """
    return structure_keys(config)(params)


def structure_keys(config: StudyConfig) -> Callable[[Mapping[str, Any]], str]:
    """`structure_key` for many trials of a study, most of which have the same structural values."""
    if config.objective is not None:  # each by itself
        return lambda _params: ""
    keys: dict[str, str] = {}

    def key(params: Mapping[str, Any]) -> str:
        values = structural(params)
        if (said := repr(values)) not in keys:
            keys[said] = _key(config, values)
        return keys[said]

    return key


def _key(config: StudyConfig, structural_params: Mapping[str, Any]) -> str:
    plain = config.with_params(structural_params).plain()
    values = {
        section: {key: value for key, value in plain[section].items() if not is_vector_key(section, key)}
        for section in SEARCHABLE
    }
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def group(config: StudyConfig, specs: Iterable[TrialSpec]) -> list[tuple[StudyConfig, list[TrialSpec]]]:
    """The trials by structure, each group with the config it trains under; in order of first appearance.

    Raises:
        ConfigError: a structural value is not allowed.
    """
    groups: dict[str, tuple[StudyConfig, list[TrialSpec]]] = {}
    key_of = structure_keys(config)
    for spec in specs:
        key = key_of(spec.params)
        if key not in groups:
            groups[key] = (config.with_params(structural(spec.params)), [])
        groups[key][1].append(spec)
    return list(groups.values())


def refuse_other_structures(config: StudyConfig, specs: Iterable[TrialSpec]) -> None:
    """Whether these trials are of the structure of a pack with this config.

    Raises:
        EngineError: one is not.
    """
    key_of = structure_keys(config)
    structure = key_of({})
    for spec in specs:
        if key_of(spec.params) != structure:
            raise EngineError(
                f"trial {spec.number} has another structure than its pack: {dict(spec.params)}.\n"
                "Allowed: trials that differ in vector hyperparameters only; see hpsearch.training.group."
            )
