"""A study as the report sees it: its trials, their curves, and what there is to say of each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hpsearch.analysis.diagnosis import Diagnosis, diagnose_study
from hpsearch.analysis.importance import chance_shares, importances
from hpsearch.analysis.lineage import MAX_CHAIN
from hpsearch.analysis.records import StageRecord
from hpsearch.analysis.study_trials import StudyTrials, read_study
from hpsearch.analysis.summary import StageSummary
from hpsearch.analysis.together import Together
from hpsearch.config import FloatRange, IntRange, Range
from hpsearch.errors import ConfigError
from hpsearch.results import EpochResult
from hpsearch.space import Verdict, holds
from hpsearch.stages.halving import Halving
from hpsearch.stages.next_ranges import planned_summary
from hpsearch.stages.seen_together import seen_together
from hpsearch.storage import Database, StudyNotFoundError, TrialRow, read_epochs

MIN_TRIALS = 12  # finished; of fewer, the best tenth is a single trial, which says nothing about importance


@dataclass(frozen=True)
class StageData:
    """One study with everything that is drawn of it. `epochs` are by trial number; foreign studies have none.

    `thorough`: also with what takes seconds to find, as a page that is drawn once may have it.
    """

    evidence: StudyTrials
    epochs: dict[int, list[EpochResult]]
    thorough: bool = False

    @property
    def name(self) -> str:
        """Of the study."""
        return self.evidence.study.name

    @property
    def record(self) -> StageRecord:
        """What hpsearch keeps with the study."""
        return self.evidence.record

    @property
    def trials(self) -> list[TrialRow]:
        """All trials, by number."""
        return self.evidence.trials

    @cached_property
    def best(self) -> TrialRow | None:
        """The finished trial with the best value."""
        return self.evidence.best

    @cached_property
    def summary(self) -> StageSummary:
        """Counts, best, boundary verdicts."""
        return planned_summary(self.evidence)

    @cached_property
    def together(self) -> Together | None:
        """Numbers that count together, by its own trials where that is seen, else by those of a stage before."""
        known = self.summary.together
        if not self.thorough or (known is not None and known.study == self.name):
            return known
        return seen_together(self.evidence) or known

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """Where the best lies, by parameter."""
        return {verdict.param: verdict for verdict in self.summary.verdicts}

    @property
    def on_boundary(self) -> list[Verdict]:
        """The parameters whose best value sits on an end of what was searched, and might be searched beyond it."""
        ends = [verdict for verdict in self.summary.verdicts if verdict.verdict in ("lower", "upper")]
        return [verdict for verdict in ends if not verdict.at_limit]

    @property
    def maximize(self) -> bool:
        """Whether more is better."""
        return self.evidence.direction == "maximize"

    @cached_property
    def outcomes(self) -> dict[int, str]:
        """How each trial that has ended counts, by number: complete, pruned or exploded."""
        ended = {trial.number for trial in self.trials if trial.state in ("COMPLETE", "PRUNED")}
        return {o.number: o.outcome for o in self.evidence.observations if o.number in ended}

    @cached_property
    def diagnoses(self) -> dict[int, Diagnosis]:
        """What each trial's curves say, by number; none where the trials were not watched epoch by epoch."""
        return diagnose_study(self.evidence.study, self.trials, self.epochs)

    @cached_property
    def importances(self) -> dict[str, float]:
        """Share of each parameter in what makes a trial good, largest first; empty where it cannot be told."""
        told = self._told
        return importances(*told) if told is not None else {}

    @cached_property
    def chance_shares(self) -> dict[str, float]:
        """What of `importances` each parameter would reach by chance, in one search of twenty."""
        told = self._told
        return chance_shares(*told) if told is not None else {}

    @property
    def _told(self) -> tuple[dict[str, Range], list[Mapping[str, Any]], list[float]] | None:
        """Ranges, hyperparameters and values, higher being better, of enough finished trials to tell what matters."""
        known = self._finished if self.told_at is None else self._values_at(self.told_at)
        ranges = {n: r for n, r in self.evidence.ranges.items() if all(n in params for params, _ in known)}
        # Optuna takes values from beyond a range where they are enqueued, and then refuses to evaluate them.
        known = [each for each in known if all(holds(range_, each[0][name]) for name, range_ in ranges.items())]
        if len(known) < MIN_TRIALS or len(ranges) < 2:
            return None
        sign = 1.0 if self.maximize else -1.0
        return ranges, [params for params, _ in known], [sign * value for _, value in known]

    @cached_property
    def told_at(self) -> int | None:
        """The first rung, where what matters is told by the values there; None where it is by those of finished trials.

        Of a stage with rungs, few trials come to their end, and those are chosen; to the first rung come nearly all.
        """
        halving = Halving.kept(self.record, self.evidence.direction)
        if halving is None or not halving.rungs:
            return None
        num_come, num_finished = len(self._values_at(halving.rungs[0])), len(self._finished)
        few = num_finished < max(MIN_TRIALS, num_come / 2)
        return halving.rungs[0] if few and num_come >= MIN_TRIALS else None

    @property
    def _finished(self) -> list[tuple[Mapping[str, Any], float]]:
        """Hyperparameters and values of the trials that went through all their epochs."""
        finished = [o for o in self.evidence.observations if o.outcome == "complete" and o.value is not None]
        return [(o.params, o.value) for o in finished if o.value is not None and math.isfinite(o.value)]

    def _values_at(self, rung: int) -> list[tuple[Mapping[str, Any], float]]:
        """The same of all trials that came to a rung and did not explode: the value of the best epoch until there."""
        pick = max if self.maximize else min
        found: list[tuple[Mapping[str, Any], float]] = []
        for trial in self.trials:
            values = [value for epoch, value in trial.intermediate.items() if epoch <= rung and math.isfinite(value)]
            come = max(trial.intermediate, default=0) >= rung and self.outcomes.get(trial.number) != "exploded"
            if values and come:
                found.append((trial.params, pick(values)))
        return found

    @property
    def main_params(self) -> list[str]:
        """Numeric parameters, the most important ones first; lr and reg lead where that cannot be told.

        Those that some trials do without come last.
        """
        lacking = {n for n in self.numeric_params if any(t.params and n not in t.params for t in self.trials)}
        names = sorted(self.numeric_params, key=lambda name: 3 if name in lacking else {"lr": 0, "reg": 1}.get(name, 2))
        return sorted(names, key=lambda name: -self.importances.get(name, 0.0))

    @property
    def numeric_params(self) -> list[str]:
        """Parameters with more than one number to choose from."""
        return [
            name
            for name, range_ in self.evidence.ranges.items()
            if isinstance(range_, FloatRange | IntRange) and range_.high > range_.low
        ]


def trained_seconds(trials: Iterable[TrialRow]) -> float:
    """Wall clock in which at least one of the trials that have ended was trained: pauses do not count."""
    seconds, until = 0.0, None
    for started, completed in sorted((t.started, t.completed) for t in trials if t.started and t.completed):
        begun = started if until is None else max(started, until)
        seconds += max(0.0, (completed - begun).total_seconds())
        until = completed if until is None else max(completed, until)
    return seconds


def read_chain(db: Database, name: str, known: Iterable[StageData] = ()) -> list[StageData]:
    """A study and those that its ranges came from, the first one first; those that are `known` are not read again."""
    at_hand = {stage.name: stage for stage in known}
    chain = [at_hand[name] if name in at_hand else read_stage(db, name)]
    while len(chain) < MAX_CHAIN:
        source = chain[0].record.source
        if source is None or source in {stage.name for stage in chain}:
            break
        try:
            chain.insert(0, at_hand[source] if source in at_hand else read_stage(db, source))
        except (StudyNotFoundError, ConfigError):  # it was deleted, or has several objectives
            break
    return chain


def read_stage(db: Database, name: str, *, thorough: bool = False) -> StageData:
    """Read a study and its epochs.

    Raises:
        StudyNotFoundError: there is none of that name.
        ConfigError: it has several objectives.
    """
    evidence = read_study(db, name)
    return StageData(evidence, read_epochs(db, evidence.study), thorough)
