"""The stages that led to a study, read from the storage, and the advice that they give together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

from hpsearch.analysis.advice import SEARCHED, Advice, search_so_far, what_next
from hpsearch.analysis.decision import best_stage
from hpsearch.analysis.diagnosis import diagnose_study
from hpsearch.analysis.earlier_searches import coarse_of, instead
from hpsearch.analysis.records import stage_record
from hpsearch.analysis.study_trials import StudyTrials, read_study
from hpsearch.analysis.summary import stage_summary
from hpsearch.errors import ConfigError
from hpsearch.storage import Database, StudyNotFoundError, StudyRow, list_studies, read_epochs
from hpsearch.storage.activity import read_activity

TEST_IMAGES = "images"  # in a use of the test set: their fingerprint
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


def family_of(study: StudyRow, studies: Iterable[StudyRow]) -> list[StudyRow]:
    """Those of all `studies` that descend from the same first stage, that one first. Pure.

    They were chosen by looking at each other.
    """
    rows = {row.name: row for row in (study, *studies)}

    def root(row: StudyRow) -> str:
        seen = {row.name}
        while (source := stage_record(row).source) in rows and source not in seen:
            seen.add(source)
            if stage_record(rows[source]).kind == "check":  # it chose nothing but a range
                break
            row = rows[source]
        return row.name

    first = root(study)
    return [rows[first], *(row for other, row in rows.items() if other != first and root(row) == first)]


def num_tests(family: Iterable[StudyRow]) -> int:
    """How often such stages have used the test set."""
    return sum(len(stage_record(study).tests) for study in family)


def num_uses_of_images(study: StudyRow, studies: Iterable[StudyRow], test_images: str | None = None) -> int:
    """How often all `studies` together have used the test set of one of them. Pure.

    Whatever the searches are called, and whether they descend from each other, they were chosen by the same images. A
    use counts where its test images were these, or those of another use that counts; where an older version did not
    keep which they were, if the images that were trained on are the same.

    Args:
        study: whose test set it is.
        studies: all there are.
        test_images: their fingerprint, where they have been read.
    """
    rows = list(studies)
    related = {row.name for row in family_of(study, rows)}
    if (trained_on := stage_record(study).images.fingerprint) is not None:
        related |= {row.name for row in rows if stage_record(row).images.fingerprint == trained_on}
    uses = [(row.name in related, use) for row in rows for use in stage_record(row).tests]
    known = {use.get(TEST_IMAGES) for counts, use in uses if counts} | {test_images}
    known.discard(None)
    counted = [use for counts, use in uses if counts or use.get(TEST_IMAGES) in known]
    return len({json.dumps(use, sort_keys=True, default=str) for use in counted})  # an ensemble's is kept with several


def is_at_work(db: Database, study: StudyRow) -> bool:
    """Whether a worker holds a trial of this study and has not fallen silent."""
    return any(row.state == "RUNNING" and not row.silent for row in read_activity(db, study))


def advise(
    db: Database, evidence: StudyTrials, *, again: Sequence[str] | None = None, gain: float | None = None
) -> Advice:
    """What to do after a study as it stands; see `what_next`."""
    chain = read_lineage(db, evidence)
    studies = list_studies(db)
    summaries = [stage_summary(each) for each in chain]
    summaries[-1] = replace(summaries[-1], num_family_tests=num_uses_of_images(evidence.study, studies))
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
