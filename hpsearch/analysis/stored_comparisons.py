"""Comparisons of samplers that are in the storage: found by the attributes of their studies, and read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpsearch.analysis import chance
from hpsearch.analysis.called_limits import defines_its_ranges
from hpsearch.analysis.chance import KeptImages
from hpsearch.analysis.importance import importances
from hpsearch.analysis.records import ComparedSearch, StageRecord, stage_record
from hpsearch.analysis.sampler_comparison import Comparison, Search
from hpsearch.analysis.study_trials import direction_of, ranges_of
from hpsearch.config import Range, StudyConfig
from hpsearch.config.conditions import conditions_of
from hpsearch.config.metric import Metric
from hpsearch.config.study import validate
from hpsearch.errors import RefusedError, Typed
from hpsearch.storage import Database, StudyRow, TrialRow, list_studies, read_trials


def list_comparisons(db: Database) -> list[str]:
    """Names of the comparisons in the storage, in the order in which they were begun."""
    compared = [stage_record(study).compared for study in list_studies(db)]
    return list(dict.fromkeys(search.name for search in compared if search is not None))


def read_comparison(
    db: Database, name: str = "compare", samplers: Sequence[str] | None = None, num_repeats: int | None = None
) -> Comparison:
    """What a comparison has found so far: of the repeats that all its samplers have finished.

    Args:
        db: an open database.
        name: of the comparison.
        samplers: in this order; all that are there, if not given.
        num_repeats: only the first ones.

    Raises:
        RefusedError: there is none of that name, or no repeat is finished.
    """
    found: dict[str, dict[int, StudyRow]] = {sampler: {} for sampler in samplers or ()}
    compared: list[ComparedSearch] = []
    for study in list_studies(db):
        search = stage_record(study).compared
        if search is not None and search.name == name and (samplers is None or search.sampler in samplers):
            found.setdefault(search.sampler, {})[search.repeat] = study
            compared.append(search)
    studies = [study for repeats in found.values() for study in repeats.values()]
    if not studies:
        compare = Typed(("hpsearch", "compare"), anew=True)
        raise RefusedError(f"there is no comparison {name!r} in {db.url}.\nMake one with: ", compare)
    trials = {study.name: read_trials(db, study) for study in studies}
    common = sorted(set.intersection(*(set(repeats) for repeats in found.values())))
    whole = [
        repeat
        for repeat in common[:num_repeats]
        if not any(t.state in ("WAITING", "RUNNING") for r in found.values() for t in trials[r[repeat].name])
    ]
    if not whole:
        raise RefusedError(
            f"no repeat of the comparison {name!r} is finished by all samplers.\n"
            "Finish it first, with the command that started it."
        )
    searches = {
        sampler: [_search(sampler, repeat, trials[repeats[repeat].name]) for repeat in whole]
        for sampler, repeats in found.items()
    }
    first = stage_record(studies[0])
    ranges = ranges_of([trial for rows in trials.values() for trial in rows]) if defines_its_ranges(first) else None
    return _comparison(first, first.metric(direction_of(studies[0])), searches, compared, num_repeats, ranges)


def _comparison(
    first: StageRecord,
    metric: Metric,
    searches: dict[str, list[Search]],
    compared: Sequence[ComparedSearch],
    num_repeats: int | None,
    called: Mapping[str, Range] | None,
) -> Comparison:
    assert first.config is not None, "a search that is compared is a stage of ours"
    config: StudyConfig = validate(StudyConfig, first.config)
    guessing = _guess(metric, first.images, searches)
    conditional = conditions_of(config.for_stage("coarse")).clauses
    ranges = config.space if called is None else called
    always = {name: range_ for name, range_ in ranges.items() if name not in conditional}
    if called is not None:  # nobody knows under which conditions it asks for a value
        begun = [params for runs in searches.values() for search in runs for params in search.params if params]
        always = {name: range_ for name, range_ in always.items() if all(name in params for params in begun)}
    pooled = [
        (params, guessing if value is None else value)
        for runs in searches.values()
        for search in runs
        for params, value in zip(search.params, search.values, strict=True)
        if params.keys() >= always.keys()  # a trial may fail before it has any
    ]
    return Comparison(
        name=compared[0].name,
        searches=searches,
        ranges=ranges,
        num_trials=config.coarse.trials,
        num_asked=max(search.trials_asked for search in compared),
        num_epochs=config.coarse.epochs if first.has_epochs else None,
        guessing=guessing,
        num_planned=num_repeats or max(search.repeats for search in compared),
        importances=importances(always, [params for params, _ in pooled], [metric.goodness(v) for _, v in pooled]),
        metric=metric,
    )


def _guess(metric: Metric, images: KeptImages, searches: Mapping[str, Sequence[Search]]) -> float:
    """Of a measure of the user's, the worst value that any trial gave stands for it."""
    found = chance.guessing(metric, images)
    values = [value for runs in searches.values() for search in runs for value in search.values if value is not None]
    return found if found is not None else min(values, key=metric.goodness, default=0.0)


def _search(sampler: str, repeat: int, trials: Sequence[TrialRow]) -> Search:
    return Search(
        sampler,
        repeat,
        tuple(trial.params for trial in trials),
        tuple(trial.value if trial.state == "COMPLETE" else None for trial in trials),
    )
