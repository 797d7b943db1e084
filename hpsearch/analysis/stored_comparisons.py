"""Comparisons of samplers that are in the storage: found by the attributes of their studies, and read."""

from __future__ import annotations

from collections.abc import Sequence

from hpsearch.analysis import attributes
from hpsearch.analysis.importance import importances
from hpsearch.analysis.sampler_comparison import Comparison, Search
from hpsearch.config import StudyConfig
from hpsearch.config.study import validate
from hpsearch.errors import RefusedError
from hpsearch.storage import Database, StudyRow, TrialRow, list_studies, read_trials


def list_comparisons(db: Database) -> list[str]:
    """Names of the comparisons in the storage, in the order in which they were begun."""
    compared = [study.attrs.get(attributes.COMPARISON) for study in list_studies(db)]
    return list(dict.fromkeys(kept["name"] for kept in compared if kept))


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
    for study in list_studies(db):
        kept = study.attrs.get(attributes.COMPARISON, {})
        if kept.get("name") == name and (samplers is None or kept["sampler"] in samplers):
            found.setdefault(kept["sampler"], {})[kept["repeat"]] = study
    studies = [study for repeats in found.values() for study in repeats.values()]
    if not studies:
        raise RefusedError(f"there is no comparison {name!r} in {db.url}.\nMake one with: hpsearch compare.")
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
    return _comparison(name, searches, studies, num_repeats)


def _comparison(
    name: str, searches: dict[str, list[Search]], studies: Sequence[StudyRow], num_repeats: int | None
) -> Comparison:
    first = studies[0].attrs
    config: StudyConfig = validate(StudyConfig, first[attributes.CONFIG])
    guessing = 1 / first[attributes.DATASET]["classes"]
    pooled = [
        (params, guessing if value is None else value)
        for runs in searches.values()
        for search in runs
        for params, value in zip(search.params, search.values, strict=True)
        if params.keys() >= config.space.keys()  # a trial may fail before it has any
    ]
    return Comparison(
        name=name,
        searches=searches,
        ranges=config.space,
        num_trials=config.coarse.trials,
        num_asked=max(study.attrs[attributes.COMPARISON]["trials_asked"] for study in studies),
        num_epochs=config.coarse.epochs,
        guessing=guessing,
        num_planned=num_repeats or max(study.attrs[attributes.COMPARISON]["repeats"] for study in studies),
        importances=importances(config.space, [params for params, _ in pooled], [value for _, value in pooled]),
    )


def _search(sampler: str, repeat: int, trials: Sequence[TrialRow]) -> Search:
    return Search(
        sampler,
        repeat,
        tuple(trial.params for trial in trials),
        tuple(trial.value if trial.state == "COMPLETE" else None for trial in trials),
    )
