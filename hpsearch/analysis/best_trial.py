"""The best trial of a study, for what cannot do without one."""

from __future__ import annotations

from hpsearch.analysis.commands import fine_command
from hpsearch.analysis.stopped_trials import stopped_trials
from hpsearch.analysis.study_trials import StudyTrials
from hpsearch.config.usercode import names_in
from hpsearch.errors import RefusedError, Typed
from hpsearch.storage import TrialRow


def best_or_refuse(evidence: StudyTrials) -> TrialRow:
    """The best trial.

    Raises:
        RefusedError: no trial has finished with a value.
    """
    if (best := evidence.best) is None:
        if (stopped := stopped_trials(evidence)) is not None:
            code = sorted(names_in(evidence.record.config or {}))
            raise RefusedError(
                f"no trial of {evidence.study.name!r} came to its last epoch: {stopped.text}.\n"
                "Narrow to where they did well: ",
                Typed(fine_command(evidence.study.name, code)),
                "; or look at one: ",
                Typed(("hpsearch", "trial", evidence.study.name, str(stopped.number))),
            )
        name, num_finished, total = evidence.study.name, evidence.num_finished, len(evidence.trials)
        waiting = f", {evidence.num_paused} waiting at rungs" if evidence.num_paused else ""
        said = (
            f"the study {name!r} has no finished trial"
            f" ({num_finished} of {total} ended, {evidence.num_exploded} exploded{waiting}).\n"
        )
        if waiting:
            status = Typed(("hpsearch", "status", name))
            raise RefusedError(f"{said}Finish it first, as ", status, " says; or name another one.")
        raise RefusedError(f"{said}Allowed: one that has, by its name; ", Typed(("hpsearch", "status")), " lists them.")
    return best
