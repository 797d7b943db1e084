"""Whether the trials of a stage show that some of its numbers count together, whatever comes after it."""

from __future__ import annotations

from hpsearch.analysis.study_trials import StudyTrials
from hpsearch.analysis.together import Together, found_together
from hpsearch.stages.process_columns import ProcessColumns
from hpsearch.stages.sampler_choice import partial_params
from hpsearch.stages.unexplained import compared_columns, compared_trials


def seen_together(evidence: StudyTrials) -> Together | None:
    """What counts together by the trials of a study: for pages, as 200 trials of 8 numbers take a core 6 s.

    None where trials have other hyperparameters than others, or values of fewer epochs: those say nothing here.
    """
    seen = evidence.observations
    ended_early = (each.halved or (each.outcome == "pruned" and each.value is not None) for each in seen)
    if partial_params(seen) or any(ended_early):
        return None
    # SciPy takes a tenth of a second to import, which most pages do not need.
    from hpsearch.stages.process_lines import can_be_linked, count_together, linked_process, scaled

    columns, compared = ProcessColumns(evidence.ranges), compared_trials(evidence.ranges, seen)
    columns_NC, values_N = compared_columns(columns, compared, evidence.direction)
    if not can_be_linked(columns, values_N):
        return None
    linked = linked_process(columns_NC, scaled(values_N), len(columns.numbers))
    return found_together(count_together(linked, columns), evidence.study.name) if linked is not None else None
