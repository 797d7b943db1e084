"""The stages that led to a study, read from the storage, and the advice that they give together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hpsearch.analysis.advice import SEARCHED, search_so_far, what_next
from hpsearch.analysis.advice_form import Advice
from hpsearch.analysis.decision import best_stage
from hpsearch.analysis.diagnosis import diagnose_study
from hpsearch.analysis.earlier_searches import coarse_of, instead
from hpsearch.analysis.records import stage_record
from hpsearch.analysis.study_trials import StudyTrials, read_study
from hpsearch.analysis.summary import stage_summary
from hpsearch.analysis.uses_of_test_images import count_uses, family_of
from hpsearch.errors import ConfigError
from hpsearch.storage import Database, StudyNotFoundError, StudyRow, list_studies, read_epochs
from hpsearch.storage.activity import read_activity

MAX_CHAIN = 10  # stages that are looked at, the last ones


def read_lineage(db: Database, evidence: StudyTrials) -> list[StudyTrials]:
    """A study and those that its ranges came from, the first one first, as far as they can be read."""
    chain = [evidence]
    while len(chain) < MAX_CHAIN:
        source = chain[0].record.source
        if source is None or source in {each.study.name for each in chain}:
            break
        try:
            chain.insert(0, read_study(db, source))
        except (StudyNotFoundError, ConfigError):  # it was deleted, or has several objectives
            break
    return chain


def read_descendants(db: Database, evidence: StudyTrials) -> list[StudyTrials]:
    """The studies whose ranges came from a study, or from those of such a study, the oldest first.

    As far as they can be read, and the last `MAX_CHAIN` of them.
    """
    names = {evidence.study.name}
    found = []
    for row in sorted(list_studies(db), key=lambda row: row.study_id):
        if row.study_id > evidence.study.study_id and stage_record(row).source in names:
            names.add(row.name)
            found.append(row.name)
    descendants = []
    for name in found[-MAX_CHAIN:]:
        try:
            descendants.append(read_study(db, name))
        except (StudyNotFoundError, ConfigError):
            continue
    return descendants


def is_at_work(db: Database, study: StudyRow) -> bool:
    """Whether a worker holds a trial of this study and has not fallen silent."""
    return any(row.state == "RUNNING" and not row.silent and not row.is_paused for row in read_activity(db, study))


def advise(
    db: Database, evidence: StudyTrials, *, again: Sequence[str] | None = None, gain: float | None = None
) -> Advice:
    """What to do after a study as it stands; see `what_next`."""
    chain = read_lineage(db, evidence)
    studies = list_studies(db)
    summaries = [stage_summary(each) for each in chain]
    summaries[-1] = replace(summaries[-1], uses=count_uses([evidence.study], studies))
    found = best_stage(search_so_far(summaries))
    diagnosis = None
    if found is not None and found.best is not None:
        holder = chain[summaries.index(found)]
        epochs = read_epochs(db, holder.study, [found.best.number])
        diagnosis = diagnose_study(holder.study, holder.trials, epochs).get(found.best.number)
    advice = what_next(
        summaries,
        diagnosis,
        taken=[study.name for study in studies],
        again=again,
        gain=gain,
        at_work=is_at_work(db, evidence.study),
    )
    return unless_done(db, advice, studies)


def unless_done(db: Database, advice: Advice, studies: Sequence[StudyRow]) -> Advice:
    """The advice; where one of all `studies` did the search that it proposes already, with what that found."""
    coarse = coarse_of(advice.search, studies) if advice.search is not None else None
    if coarse is None:
        return advice
    stages = [row for row in family_of(coarse, studies) if stage_record(row).kind in SEARCHED]
    last = max(stages, key=lambda row: row.study_id)
    try:
        chain = read_lineage(db, read_study(db, last.name))
    except (StudyNotFoundError, ConfigError):
        return advice
    return instead(advice, [stage_summary(each) for each in chain], at_work=is_at_work(db, last))
