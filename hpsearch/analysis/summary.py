"""What there is to say about a study: counts, the best trial, boundary verdicts, the next step. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpsearch.analysis.called_again import TriedAgain, tried_again
from hpsearch.analysis.chance import KeptImages, counted
from hpsearch.analysis.commands import usual_space, whole
from hpsearch.analysis.diagnosis import diagnose_study
from hpsearch.analysis.missed_rungs import missed_rungs_of
from hpsearch.analysis.records import Fitted
from hpsearch.analysis.repeats import Repeated, chosen_text
from hpsearch.analysis.stopped_trials import StoppedTrials, stopped_trials
from hpsearch.analysis.study_trials import StudyTrials
from hpsearch.analysis.together import Together
from hpsearch.analysis.trial_records import trial_record
from hpsearch.analysis.uses_of_test_images import TestImageUses
from hpsearch.analysis.verdicts import verdicts
from hpsearch.config import StudyConfig
from hpsearch.config.metric import ACCURACY, Metric
from hpsearch.config.usercode import names_in
from hpsearch.results import EpochResult
from hpsearch.space import Verdict
from hpsearch.storage import TrialRow


@dataclass(frozen=True)
class StageSummary:
    """How a study stands."""

    study: str
    stage: str | None
    source: str | None
    value_name: str
    num_trials: int
    counts: Mapping[str, int]
    num_exploded: int
    epochs: int | None
    best: TrialRow | None
    verdicts: tuple[Verdict, ...]
    together: Together | None = None
    """What counts together, by its own trials or those of a stage before, where a Gaussian process looked."""
    diagnoses: Mapping[str, int] | None = None
    """How many trials are healthy, exploded, ...; None where the curves were not read."""
    seconds: float | None = None
    failures: Mapping[str, int] = field(default_factory=dict)
    """How many trials failed, by the error that ended them; the most frequent first."""
    code: tuple[str, ...] = ()
    """The user's code that the config names."""
    exploded: tuple[Mapping[str, Any], ...] = ()
    """The values of those trials."""
    returned: tuple[float, ...] = ()
    """nan and inf, of those trials that had reported nothing."""
    num_stopped_early: int = 0
    """Trials that train.patience ended."""
    learning: Mapping[str, Any] | None = None
    """What an adaptive sampler knew when it proposed, see `search.learning`."""
    rounding: str | None = None
    """Of products and convolutions, where they had fewer digits than float32."""
    num_pruned: int = 0
    """Trials that a pruner stopped; explosions are counted apart."""
    num_paused: int = 0
    """Trials that wait at a rung, in nobody's hands: `counts` has them as RUNNING."""
    config: Mapping[str, Any] | None = None
    """The study file as it was resolved, in its plain form."""
    fitted: Fitted | None = None
    """What was asked for, where the stage has less to fit a time."""
    left_sampler: bool = False
    """Whether its sampler was left to hpsearch: the config has the one that was chosen."""
    images: KeptImages = field(default_factory=KeptImages)
    metric: Metric = ACCURACY
    """What the value of a trial is."""
    takes: frozenset[str] | None = None
    """What an objective is given by name; None where that is not known."""
    repeated: tuple[Repeated, ...] = ()
    """The best trials, as they did with other seeds, the best mean first."""
    ahead_once: TrialRow | None = None
    """A trial of one call whose value is better than the mean by which the best one was chosen."""
    stopped: StoppedTrials | None = None
    """Those at rungs, where no trial came to its last epoch."""
    tried: tuple[TriedAgain, ...] = ()
    """Trials of earlier stages that were called in this one."""
    spent: tuple[int, int | None] | None = None
    """Epochs that its trials have trained, and the budget of them if there is one; of a stage that counts by them."""
    missed_rungs: str | None = None
    """Why its rungs end no trial, where the code reports at none of them."""
    num_begun: int = 0
    """Trials that ended or have trained an epoch, but for those for which a budget in epochs left none."""
    num_tests: int = 0
    """Uses of the test set that are kept with it."""
    uses: TestImageUses | None = None
    """Of the test images, by all searches; None where that was not looked at."""

    @property
    def returned_text(self) -> str:
        """`nan or inf`."""
        return " or ".join(sorted({str(value) for value in self.returned}, reverse=True))

    @property
    def mean(self) -> float | None:
        """Of the best trial with other seeds, by which it was chosen; None where it was called once."""
        return self.repeated[0].mean if self.repeated else None

    @property
    def best_text(self) -> str:
        """The value of the best trial, `0.9413`; of one that was called again, `0.9281, the mean of 2 calls`."""
        return chosen_text(self.best.value if self.best is not None else None, self.repeated)

    @property
    def best_epochs(self) -> int | None:
        """Those of the best trial, which may have ended before its time; None where trials have no epochs."""
        if self.epochs is None or self.best is None:
            return None
        return max(self.best.intermediate, default=self.epochs)

    @property
    def num_complete(self) -> int:
        """Trials that were trained to the end."""
        return self.counts.get("COMPLETE", 0)

    @property
    def num_finished(self) -> int:
        """Trials that will not run again."""
        return sum(self.counts.get(state, 0) for state in ("COMPLETE", "PRUNED", "FAIL"))

    @property
    def num_running(self) -> int:
        """Trials that a worker holds, or another program."""
        return self.counts.get("RUNNING", 0) - self.num_paused

    @property
    def asked_config(self) -> dict[str, Any] | None:
        """The whole study file, with the trials and epochs that were asked for where a time cut them."""
        config = whole(self.config)
        if config is not None and self.stage in config and self.fitted is not None:
            config[self.stage] |= {"trials": self.fitted.trials, "epochs": self.fitted.epochs}
        return self.with_asked_sampler(config) if config is not None else None

    def with_asked_sampler(self, config: dict[str, Any]) -> dict[str, Any]:
        """A whole config of it with the sampler that was asked for, where that was left to hpsearch."""
        if not self.left_sampler or self.stage not in config:
            return config
        return {**config, self.stage: {**config[self.stage], "sampler": "auto"}}

    @property
    def fine_epochs(self) -> int | None:
        """Of the fine stage after it, where that is told no number of its own; None where it has none."""
        if self.config is None or self.epochs is None:
            return None
        return int({**StudyConfig().fine.model_dump(), **self.config.get("fine", {})}["epochs"])

    @property
    def first_config(self) -> dict[str, Any] | None:
        """That which another search begins from: rates that a check found are those of the net that it checked."""
        config = self.asked_config
        if config is not None and self.stage == "coarse" and self.source is not None:
            config["space"].pop("lr", None)
            config["space"] = {"lr": usual_space(config)["lr"], **config["space"]}
        return config

    def as_dict(self) -> dict[str, Any]:
        """The summary as JSON."""
        return {
            "study": self.study,
            "stage": self.stage,
            "from": self.source,
            "trials": self.num_trials,
            "epochs": self.epochs,
            "epochs_trained": self.spent[0] if self.spent is not None else None,
            "epochs_budget": self.spent[1] if self.spent is not None else None,
            "metric": self.metric.name,
            "states": dict(self.counts),
            "paused": self.num_paused,
            "pruned": self.num_pruned,
            "exploded": self.num_exploded,
            "stopped_early": self.num_stopped_early,
            "failures": dict(self.failures),
            **({"missed_rungs": self.missed_rungs} if self.missed_rungs is not None else {}),
            "best": trial_as_dict(self.best) if self.best else None,
            "repeated": [each.as_dict() for each in self.repeated],
            **({"ahead_once": trial_as_dict(self.ahead_once)} if self.ahead_once is not None else {}),
            "boundary": [verdict.as_dict() for verdict in self.verdicts],
            "together": self.together.as_dict() if self.together is not None else None,
            "diagnoses": dict(self.diagnoses) if self.diagnoses is not None else None,
            "learning": dict(self.learning) if self.learning is not None else None,
            "rounding": self.rounding,
            "seconds": round(self.seconds, 3) if self.seconds is not None else None,
            **({"test_images_uses": self.uses.num} if self.uses is not None else {}),
        }


def stage_summary(
    evidence: StudyTrials, seconds: float | None = None, epochs: Mapping[int, Sequence[EpochResult]] | None = None
) -> StageSummary:
    """Put together what a study's trials say; `epochs`, by trial number, for a count of diagnoses."""
    counts: dict[str, int] = {}
    for trial in evidence.trials:
        counts[trial.state] = counts.get(trial.state, 0) + 1
    record = evidence.record
    return StageSummary(
        study=evidence.study.name,
        stage=record.kind,
        source=record.source,
        value_name=record.value_name,
        num_trials=len(evidence.trials),
        counts=counts,
        num_exploded=evidence.num_exploded,
        exploded=tuple(trial.params for trial in evidence.trials if trial_record(trial).exploded),
        returned=tuple(value for trial in evidence.trials if (value := trial_record(trial).returned) is not None),
        num_stopped_early=sum(trial_record(trial).stopped_early for trial in evidence.trials),
        epochs=record.num_epochs,
        best=evidence.best,
        verdicts=tuple(verdicts(evidence)),
        together=record.together,
        diagnoses=_count_diagnoses(evidence, epochs) if epochs is not None else None,
        seconds=seconds,
        failures=_count_failures(evidence),
        code=tuple(sorted(names_in(record.config or {}))),
        learning=record.learning,
        rounding=record.rounding,
        num_pruned=evidence.num_pruned,
        num_paused=evidence.num_paused,
        config=record.config,
        left_sampler=record.chosen_sampler is not None,
        fitted=record.fitted,
        metric=evidence.metric,
        images=counted(record.images, evidence.trials),
        num_tests=len(record.tests),
        spent=_spent(evidence),
        missed_rungs=missed_rungs_of(evidence),
        num_begun=sum(_has_begun(trial) for trial in evidence.trials),
        takes=record.takes,
        repeated=tuple(evidence.repeated),
        ahead_once=evidence.ahead_once,
        tried=tuple(tried_again(evidence.trials)),
        stopped=stopped_trials(evidence),
    )


def _spent(evidence: StudyTrials) -> tuple[int, int | None] | None:
    """Epochs, of a stage with rungs or a budget of them; one in which a trial exploded is one."""
    record = evidence.record
    budget = record.config_value(record.kind or "", "epochs_budget")
    if budget is None and record.config_value(record.kind or "", "halving") in (None, "none"):
        return None
    return sum(len(trial.intermediate) for trial in evidence.trials), budget if isinstance(budget, int) else None


def _has_begun(trial: TrialRow) -> bool:
    return bool(trial.intermediate) or (trial.state not in ("WAITING", "RUNNING") and not trial_record(trial).halved)


def _count_failures(evidence: StudyTrials) -> dict[str, int]:
    reasons = (trial_record(t).reason or "no reason kept" for t in evidence.trials if t.state == "FAIL")
    return dict(Counter(reasons).most_common())


def _count_diagnoses(evidence: StudyTrials, epochs: Mapping[int, Sequence[EpochResult]]) -> dict[str, int]:
    """The most frequent verdict first."""
    found = diagnose_study(evidence.study, evidence.trials, epochs).values()
    return dict(Counter(diagnosis.verdict for diagnosis in found).most_common())


def trial_as_dict(trial: TrialRow) -> dict[str, Any]:
    """One trial as JSON: what it was, how it ended, when."""
    return {
        "number": trial.number,
        "state": trial.state,
        "value": trial.value,
        "params": {name: list(value) if isinstance(value, tuple) else value for name, value in trial.params.items()},
        "intermediate": {str(epoch): value for epoch, value in sorted(trial.intermediate.items())},
        "attributes": dict(trial.attrs),
        "started": trial.started.isoformat() if trial.started else None,
        "completed": trial.completed.isoformat() if trial.completed else None,
    }
