"""A study as text for other programs: CSV, JSON, and its best trial as a study file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import tomli_w

from hpsearch.analysis import attributes
from hpsearch.analysis.study_trials import StudyTrials
from hpsearch.analysis.summary import best_or_refuse, trial_as_dict
from hpsearch.config import StudyConfig
from hpsearch.config.study import thaw_all, validate
from hpsearch.config.usercode import names_in
from hpsearch.errors import ConfigError
from hpsearch.results import EpochResult

ENDINGS = (
    attributes.REASON,
    attributes.EPOCH,
    attributes.STEP,
    attributes.COST,
    attributes.FIRST_COST,
    attributes.BEST_EPOCH,
    attributes.LAST_VALUE,
)


def study_as_csv(evidence: StudyTrials) -> str:
    """A header and one row per trial; what a trial does not have is empty."""
    params = list(evidence.ranges)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["number", "state", "value", *params, *ENDINGS, "started", "completed"])
    for trial in evidence.trials:
        writer.writerow(
            [
                trial.number,
                trial.state,
                _cell(trial.value),
                *(_cell(trial.params.get(name)) for name in params),
                *(_cell(trial.attrs.get(name)) for name in ENDINGS),
                trial.started.isoformat() if trial.started else "",
                trial.completed.isoformat() if trial.completed else "",
            ]
        )
    return out.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, tuple | list):
        return json.dumps(thaw_all(value))
    text = str(value)
    # A cell that starts like a formula would be run by a spreadsheet.
    return f"'{text}" if isinstance(value, str) and text[:1] in ("=", "+", "-", "@") and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def study_as_dict(evidence: StudyTrials, epochs: Mapping[int, Sequence[EpochResult]]) -> dict[str, Any]:
    """Everything stored of a study, curves included."""
    return {
        "study": evidence.study.name,
        "direction": evidence.direction,
        "attributes": dict(evidence.study.attrs),
        "trials": [
            {**trial_as_dict(trial), "epochs": [_curve_point(point) for point in epochs.get(trial.number, ())]}
            for trial in evidence.trials
        ],
    }


def _curve_point(point: EpochResult) -> dict[str, Any]:
    values = asdict(point)
    del values["number"]
    return values


def best_study_file(evidence: StudyTrials) -> str:
    """The config of a study with the hyperparameters of its best trial, as TOML that -c reads.

    Epochs and whatever else its stage had of its own are in [train], [model] and [data], too: `hpsearch train` repeats
    the trial. The space stays as it was searched, so that the file describes the same search around its best values.

    Raises:
        RefusedError: no trial has finished.
        ConfigError: a parameter of the study is no hyperparameter of hpsearch.
    """
    best = best_or_refuse(evidence)
    stored = evidence.study.attrs.get(attributes.CONFIG)
    stage = evidence.study.attrs.get(attributes.STAGE)
    try:
        config = validate(StudyConfig, {"space": evidence.ranges} if stored is None else stored)
        if stage in ("coarse", "fine"):
            config = config.for_stage(stage)
        config = config.with_params(best.params)
    except ConfigError as error:
        raise ConfigError(f"the best trial of {evidence.study.name!r} is no study file: {error}") from None
    head = f"# Best trial of {json.dumps(evidence.study.name)}: trial {best.number}, value {best.value!r}"
    head += f", stage {stage}\n" if stage else "\n"
    if code := names_in(config.plain()):
        head += f"# It runs this code: {', '.join(sorted(code))}. Whoever searches with this file says that it may.\n"
    return head + tomli_w.dumps(_without_none(config.plain()))


def _without_none(value: Any) -> Any:
    """TOML has no null: a key that is not set is left out."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value
