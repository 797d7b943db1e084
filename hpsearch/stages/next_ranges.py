"""What a fine stage after a study would search, shown beside where its best lies: planning says it, as for the stage.

Before a Gaussian process that knows all its trials and explains them, ranges stay, while those of `space.narrow` alone
would be narrower.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from hpsearch.analysis.stage_names import fine_name
from hpsearch.analysis.study_trials import StudyTrials
from hpsearch.analysis.summary import StageSummary, stage_summary
from hpsearch.analysis.verdicts import verdicts
from hpsearch.config import load_settings
from hpsearch.errors import ConfigError, RefusedError
from hpsearch.results import EpochResult
from hpsearch.space import Verdict
from hpsearch.stages.continued import handed_on
from hpsearch.stages.earlier_trials import SEARCHES
from hpsearch.stages.fine_planning import plan_fine
from hpsearch.stages.plan import StagePlan


def planned_verdicts(evidence: StudyTrials) -> list[Verdict]:
    """As `verdicts`; what to search next, and why, is what the fine stage that is advised would do."""
    return _with_ranges(verdicts(evidence), _planned(evidence))


def planned_summary(
    evidence: StudyTrials, seconds: float | None = None, epochs: Mapping[int, Sequence[EpochResult]] | None = None
) -> StageSummary:
    """As `stage_summary`, with `planned_verdicts`, and with what its own trials show to count together.

    The latter where the plan has looked: nothing is looked for here alone, as that takes seconds.
    """
    summary, plan = stage_summary(evidence, seconds, epochs), _planned(evidence)
    together = plan.together if plan is not None else None
    proposed = _with_ranges(summary.verdicts, plan)
    return replace(summary, verdicts=tuple(proposed), together=together or summary.together)


def _with_ranges(found: Iterable[Verdict], plan: StagePlan | None) -> list[Verdict]:
    changes = {change.param: change for change in plan.changes} if plan is not None else {}
    return [
        verdict
        if (change := changes.get(verdict.param)) is None
        else replace(verdict, proposed=change.new, reason=change.reason)
        for verdict in found
    ]


def _planned(evidence: StudyTrials) -> StagePlan | None:
    """None where it is known beforehand that ranges become narrower, or where nothing can be planned."""
    record = evidence.record
    if record.kind not in SEARCHES or record.config_value("objective") is None or evidence.best is None:
        return None
    try:
        settings = load_settings(stored=handed_on(record))
        fine, epochs = settings.study.fine, record.num_epochs
        if epochs is not None and epochs > fine.epochs:  # as the command says that is printed
            fine = fine.model_copy(update={"epochs": epochs})
        study = settings.study.model_copy(update={"fine": fine})
        return plan_fine(evidence, replace(settings, study=study), fine_name(evidence.study.name), strict=False)
    except (ConfigError, RefusedError):  # of another version
        return None
