"""Which stages have a mirror in which samplers and pruners see them, and what kind of it."""

from __future__ import annotations

from collections.abc import Sequence

from hpsearch.config import StageConfig
from hpsearch.config.metric import Metric
from hpsearch.stages.drawn import DRAWN
from hpsearch.stages.earlier_trials import EarlierTrial
from hpsearch.stages.plan import StagePlan
from hpsearch.stages.proposals import Mirror
from hpsearch.stages.suggestions import SuggestingMirror
from hpsearch.storage import StudyRow, TrialRow


def needs_mirror(settings: StageConfig) -> bool:
    """Whether anything looks at earlier trials while the stage runs."""
    return settings.sampler not in DRAWN or settings.pruner != "none"


def make_mirror(
    study: StudyRow, plan: StagePlan, trials: Sequence[TrialRow], metric: Metric, earlier: Sequence[EarlierTrial]
) -> Mirror | None:
    """Of a stage; of an objective that says its ranges as it runs, a `SuggestingMirror`. None where nothing looks.

    Args:
        study: the stage.
        plan: of the stage.
        trials: all of them.
        metric: what their values are.
        earlier: trials of the stages before, which samplers learn from as well.
    """
    if not needs_mirror(plan.settings):
        return None
    objective = plan.trial_config.objective
    if objective is not None and objective.defines:
        return SuggestingMirror(study.name, plan.settings, trials, metric=metric, earlier=earlier)
    return Mirror(
        study.name,
        plan.config.space,
        plan.settings,
        trials,
        metric=metric,
        conditions=plan.conditions,
        earlier=earlier,
    )
