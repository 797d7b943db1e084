"""What the user's code was when a stage was made, and whether it is another now."""

from __future__ import annotations

from typing import Any

from hpsearch.analysis.records import StageRecord, stage_record
from hpsearch.config import StudyConfig
from hpsearch.config.objective_files import objective_hashes
from hpsearch.config.schema import ObjectiveConfig
from hpsearch.config.study import validate
from hpsearch.config.usercode import names_in, source_hashes
from hpsearch.errors import ConfigError
from hpsearch.storage import StudyRow


def code_hashes(config: StudyConfig) -> dict[str, str]:
    """Of the files of the user's code that a config names: of modules that are loaded, and of an objective's."""
    own = objective_hashes(config.objective) if config.objective is not None else {}
    return {**own, **source_hashes(names_in(config.plain()))}


def changed_code(study: StudyRow) -> dict[str, tuple[str, str]]:
    """Files of the user's code that are not what they were when the stage was made, by module or word: (then, now).

    Of an objective all that are there; else only those of modules that are loaded.
    """
    record = stage_record(study)
    then = {n: v for n, v in record.versions.items() if v.startswith("sha256:")}
    now = {**_of_objective(record), **source_hashes(then)}
    return {name: (then[name], now[name]) for name in then if name in now and now[name] != then[name]}


def _of_objective(record: StageRecord) -> dict[str, str]:
    stored: Any = record.config_value("objective")
    if stored is None:
        return {}
    try:
        return objective_hashes(validate(ObjectiveConfig, stored))
    except ConfigError:  # of another version
        return {}
