"""For studies over a function or program of the user's: a call of it with the best values."""

from __future__ import annotations

from hpsearch.analysis.study_trials import StudyTrials
from hpsearch.config.ranges import thaw
from hpsearch.programs.command import filled_in
from hpsearch.programs.messages import Task
from hpsearch.search.training_script.parts import part
from hpsearch.search.weights_folder import in_quotes
from hpsearch.stages.confirming import seed_of_call
from hpsearch.stages.opening import stored_plan
from hpsearch.storage import TrialRow

CHECKPOINT = "checkpoint"  # a folder beside the script


def objective_script(evidence: StudyTrials, best: TrialRow) -> str:
    """The script's text; the function is named, not imported."""
    plan = stored_plan(evidence.study)
    objective = plan.config.objective
    assert objective is not None
    task = Task(
        number=best.number,
        params={**objective.params, **best.params},
        epochs=plan.settings.epochs,
        seed=seed_of_call(objective.seed, best.number, best.attrs),
        checkpoint=CHECKPOINT,
    )
    value = "" if best.value is None else f", {objective.metric} {best.value!r} there"
    module, _, function = (objective.function or "").partition(":")
    written = part(
        "objective",
        title=f"Trial {best.number} of {in_quotes(evidence.study.name)} again{value}.",
        module=module,
        function=function,
        command=filled_in(objective, task),
        params={name: value if objective.defines else thaw(value) for name, value in task.params.items()},  # lists
        defines=objective.defines,
        task=task,
    )
    return f"{written.text}\n"
