"""A study as text for other programs: CSV, JSON, and its best trial as a study file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from hpsearch.analysis import attributes
from hpsearch.analysis.best_trial import best_or_refuse
from hpsearch.analysis.called_limits import replaced_ranges
from hpsearch.analysis.study_trials import StudyTrials
from hpsearch.analysis.summary import trial_as_dict
from hpsearch.config import StudyConfig
from hpsearch.config.concise import as_trained, concise
from hpsearch.config.study import thaw_all, validate
from hpsearch.config.template import as_toml
from hpsearch.config.usage import STAGES, unused_ranges
from hpsearch.config.usercode import names_in
from hpsearch.errors import ConfigError
from hpsearch.results import EpochResult

FORMULA = ("=", "+", "-", "@")  # how one begins
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
    params, endings = list(evidence.ranges), [*ENDINGS]
    if evidence.metric.is_own:
        endings = [*endings[:-1], attributes.LAST_SCORE]
    elif not evidence.metric.is_accuracy and evidence.record.kind is not None:
        endings += [attributes.LAST_SCORE, attributes.BEST_ACC]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["number", "state", "value", *params, *endings, "started", "completed", "metric"])
    for trial in evidence.trials:
        writer.writerow(
            [
                trial.number,
                trial.state,
                _cell(trial.value),
                *(_cell(trial.params.get(name)) for name in params),
                *(_cell(trial.attrs.get(name)) for name in endings),
                trial.started.isoformat() if trial.started else "",
                trial.completed.isoformat() if trial.completed else "",
                evidence.metric.name,
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
    return safe_cell(value) if isinstance(value, str) else str(value)


def safe_cell(text: str) -> str:
    """Text with a ' in front where a spreadsheet would take it for a formula and run it."""
    return f"'{text}" if text.startswith(FORMULA) and not _is_number(text) else text


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
        "metric": evidence.metric.name,
        "attributes": dict(evidence.study.attrs),
        "trials": [
            {**trial_as_dict(trial), "epochs": [point.as_point() for point in epochs.get(trial.number, ())]}
            for trial in evidence.trials
        ],
    }


def best_study_file(evidence: StudyTrials) -> str:
    """The best trial of a study as TOML that -c reads: to train this configuration again, or to search around it.

    [data], [model] and [train] are what the trial was trained with, its stage's epochs and own settings included. The
    space stays as it was searched, so the file describes the same search around these values.

    Raises:
        RefusedError: no trial has finished.
        ConfigError: a parameter of the study is no hyperparameter of hpsearch.
    """
    best = best_or_refuse(evidence)
    stored, stage = evidence.record.config, evidence.record.kind
    searched = stage if stage in STAGES else None
    try:
        config: StudyConfig = validate(StudyConfig, {"space": evidence.ranges} if stored is None else stored)
        if config.objective is not None and config.objective.defines:
            bounds = tuple(sorted(evidence.ranges.keys() - replaced_ranges(evidence.record)))
            own = config.objective.model_copy(update={"narrowed": bounds})
            config = config.model_copy(update={"objective": own, "space": {**config.space, **evidence.ranges}})
        config = as_trained(config, searched, best.params) if searched else config.with_params(best.params)
    except ConfigError as error:
        raise ConfigError(f"the best trial of {evidence.study.name!r} is no study file: {error}") from None
    head = [
        f"Best trial of {json.dumps(evidence.study.name)}: trial {best.number}, {evidence.metric.column} {best.value!r}"
    ]
    if stage:
        head[0] += f", stage {stage}"
    if evidence.record.is_training:
        head.append("[data], [model] and [train] are as it was trained; [space] was not used.")
    elif searched and config.objective is not None:
        head.append("objective.params are what it was called with; [space] is as it was searched.")
    elif searched:
        head.append("[data], [model] and [train] are as it was trained; [space] is as it was searched.")
    else:
        head.append("How it was trained is not kept in its study: what is not one of its parameters is as by default.")
    head += [f"Not in [space]: {unused}." for unused in unused_ranges(config).values()]
    if code := names_in(config.plain()):
        head.append(f"It runs this code: {', '.join(sorted(code))}. Whoever searches with this file says that it may.")
    return "".join(f"# {line}\n" for line in head) + as_toml(concise(config, searched))
