"""A search that is advised may have been done already: then it is the answer, not a second one like it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hpsearch.analysis.advice import search_so_far, what_next
from hpsearch.analysis.advice_form import Advice
from hpsearch.analysis.commands import is_same_search, whole
from hpsearch.analysis.decision import best_stage
from hpsearch.analysis.records import stage_record
from hpsearch.analysis.summary import StageSummary
from hpsearch.storage import StudyRow


def coarse_of(search: Mapping[str, Any], studies: Iterable[StudyRow]) -> StudyRow | None:
    """The latest coarse stage with these images, net, values and ranges, however many its trials."""
    found = None
    for study in studies:
        record = stage_record(study)
        config = whole(record.config) if record.kind == "coarse" else None
        if config is not None and is_same_search(config, search):
            found = study
    return found


def instead(advice: Advice, done: Sequence[StageSummary], *, at_work: bool = False) -> Advice:
    """The advice, where the search that it proposes is there.

    Args:
        advice: with a search.
        done: the stages of that search, first one first.
        at_work: whether workers are at the last of them.
    """
    last = done[-1]
    if last.num_finished < last.num_trials:
        left = what_next(done, at_work=at_work)
        return replace(advice, text=f"{advice.text}; that was begun: {left.text}", words=left.words, search=None)
    found = best_stage(search_so_far(done))
    if found is None or found.best is None:
        said = f"{last.study} did that, and no trial of it finished"
    else:
        said = f"{found.study} did that: {found.best_text}"
    return replace(advice, text=f"{advice.text}; {said}", words=("hpsearch", "status", last.study), search=None)
