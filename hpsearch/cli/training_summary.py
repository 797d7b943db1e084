"""The end of a training: what each run gave, what its curves say, where its weights are, what to do next."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from hpsearch.analysis.advice_form import Advice
from hpsearch.analysis.diagnosis import Diagnosis, diagnose_study
from hpsearch.analysis.lineage import advise
from hpsearch.analysis.records import KeptWeights
from hpsearch.analysis.repeats import interval_of_mean
from hpsearch.analysis.study_trials import StudyTrials, read_study
from hpsearch.analysis.summary import StageSummary, stage_summary
from hpsearch.analysis.trial_records import trial_record
from hpsearch.cli.output import LABEL, console, line, plain_line, show_table, stop_text
from hpsearch.cli.training_curves import HIGHEST, ROUND, training_charts
from hpsearch.cli.trial import print_diagnosis, text_width
from hpsearch.config.metric import Metric
from hpsearch.results import EpochResult, plain
from hpsearch.stages.training_plan import SEED
from hpsearch.storage import Database, TrialRow, read_epochs
from hpsearch.wording import count_text, duration_text, value_text

FACTS = 10  # lines below the curves
SHORT = 6  # rows of a plot that is still easy to read


@dataclass(frozen=True)
class Trained:
    """A training as it stands."""

    evidence: StudyTrials
    summary: StageSummary
    epochs: Mapping[int, Sequence[EpochResult]]
    """By number of the trial."""
    diagnoses: Mapping[int, Diagnosis]
    advice: Advice

    @property
    def values(self) -> list[float]:
        """Of each run that completed: that of its best epoch."""
        return [trial.value for trial in self.evidence.trials if trial.state == "COMPLETE" and trial.value is not None]

    @property
    def std(self) -> float | None:
        """Of the values over seeds (n - 1); None below two."""
        return stdev(self.values) if len(self.values) > 1 else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95% for the mean over seeds; None below two."""
        return interval_of_mean(self.values)

    @property
    def gains(self) -> list[float]:
        """Of each run that completed with train.ema: how much better the averaged weights are than those themselves,
        in the epoch that is the best of the averaged ones.
        """
        good, plain_values = self.evidence.metric.goodness, self._plain_values
        return [good(trial.value) - good(plain_values[trial.number]) for trial in self.evidence.trials
                if trial.state == "COMPLETE" and trial.number in plain_values]  # fmt: skip

    @property
    def _plain_values(self) -> dict[int, float]:
        found = {trial.number: trial_record(trial).plain_value for trial in self.evidence.trials}
        return {number: value for number, value in found.items() if value is not None}

    @property
    def weights(self) -> KeptWeights | None:
        """Of the best run."""
        return self.evidence.record.weights

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        values = self.values
        document = {
            **self.summary.as_dict(),
            "runs": [self._run_as_dict(trial) for trial in self.evidence.trials],
            "mean": fmean(values) if values else None,
            "std": self.std,
            "interval": list(self.interval) if self.interval is not None else None,
            "min": min(values, default=None),
            "max": max(values, default=None),
            "weights": str(self.weights.path) if self.weights is not None else None,
            **self.advice.as_dict(),
        }
        return dict(plain(document))

    def _run_as_dict(self, trial: TrialRow) -> dict[str, Any]:
        record, diagnosis = trial_record(trial), self.diagnoses.get(trial.number)
        curves = [epoch.as_point() for epoch in self.epochs.get(trial.number, ())]
        return {
            "seed": trial.params.get(SEED),
            "trial": trial.number,
            "state": trial.state,
            "value": trial.value,
            "plain_value": record.plain_value,
            "best_epoch": record.best_epoch,
            "last": record.last_value,
            "measures": self.evidence.measures_of(trial),
            "verdict": diagnosis and diagnosis.verdict,
            "advice": diagnosis and diagnosis.advice,
            "notes": list(diagnosis.notes) if diagnosis else [],
            "epochs": curves,
        }


def read_training(db: Database, name: str, seconds: float, storage: str | None, again: Sequence[str]) -> Trained:
    """A training in the storage.

    Args:
        db: an open database.
        name: of the study.
        seconds: that the command took.
        storage: to be named in commands; None where that is not needed.
        again: the command that goes on with it.
    """
    evidence = read_study(db, name)
    epochs = read_epochs(db, evidence.study)
    diagnoses = diagnose_study(evidence.study, evidence.trials, epochs)
    summary = stage_summary(evidence, seconds=seconds, epochs=epochs)
    return Trained(evidence, summary, epochs, diagnoses, advise(db, evidence, again=again).at(storage))


def print_training(trained: Trained, *, quiet: bool) -> None:
    """Curves, where people look, then the facts."""
    ended = {trial.number for trial in trained.evidence.trials if trial.state == "COMPLETE"}
    runs = {number: epochs for number, epochs in trained.epochs.items() if number in ended or not ended}
    if sys.stdout.isatty() and not quiet and runs:
        room = max(2 * (SHORT + ROUND), min(2 * (HIGHEST + ROUND), shutil.get_terminal_size().lines - FACTS))
        for drawn in training_charts(runs, text_width(), room, metric=trained.evidence.metric):
            console().print(drawn)
    summary, trials, column = trained.summary, trained.evidence.trials, trained.evidence.metric.column
    took = f" · {duration_text(summary.seconds)}" if summary.seconds is not None else ""
    if len(trials) == 1:
        line(summary.study, f"seed {trials[0].params[SEED]} x {count_text(summary.epochs, 'epoch')}{took}")
        line(column, ending_text(trials[0]), "" if trials[0].state == "COMPLETE" else "red")
    else:
        _print_seeds(trained)
        seeds = f"{summary.num_finished} of {count_text(summary.num_trials, 'seed')}"
        line(summary.study, f"{seeds} x {count_text(summary.epochs, 'epoch')}{took}")
        if trained.values:
            number, values = trained.evidence.metric.text, trained.values
            within = f" [{', '.join(map(number, trained.interval))}]" if trained.interval is not None else ""
            spread = f", std {number(trained.std)}" if trained.std is not None else ""
            text = f"{number(fmean(values))}{within}{spread}, from {number(min(values))} to {number(max(values))}"
            line(column, f"{text} over {count_text(len(trained.values), 'seed')}")
    if (averaging := averaging_text(trained.gains, trained.evidence.metric)) is not None:
        line("ema", averaging)
    shown = trained.evidence.best or next((trial for trial in trials if trial.number in trained.diagnoses), None)
    if shown is not None:
        print_diagnosis(trained.diagnoses.get(shown.number), shown, trained_here=True)
    if quiet:
        return
    if trained.weights is not None:
        seed, epoch = trials[trained.weights.number].params[SEED], trained.weights.epoch
        of = f"seed {seed}, " if len(trials) > 1 else ""
        path = trained.weights.path
        shown_path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        line("weights", f"{shown_path}   # {of}epoch {epoch}")
    advice = trained.advice
    for label, command, text in (
        ("next", advice.command, advice.text),
        ("or", advice.other_command, advice.other_text),
    ):
        if command is not None:
            said = f"{command}   # {text}"
            fits = LABEL + len(said) <= text_width()
            line(label, said if fits else command)
            if not fits:
                line("", f"# {text}")  # it may say where the command is wrong


def averaging_text(gains: Sequence[float], metric: Metric) -> str | None:
    """What averaged weights gain over those themselves: `0.0042 better than ... [-0.0010, 0.0094] over 5 seeds`."""
    if not gains:
        return None
    gain, interval = fmean(gains), interval_of_mean(gains)
    word = "better" if gain >= 0 else "worse"
    text = f"averaged weights are {metric.text(abs(gain))} {word} than those themselves in the same epoch"
    if interval is None:
        return text
    low, high = (f"{'-' if end < 0 else '+'}{metric.text(abs(end))}" for end in interval)
    return f"{text} [{low}, {high}] over {count_text(len(gains), 'seed')}"


def ending_text(trial: TrialRow) -> str:
    """`0.9757 at epoch 18, 0.9722 at the end`, or how else a run ended."""
    record = trial_record(trial)
    if trial.state == "COMPLETE":
        end = "at the end" if record.reason is None else f"in epoch {record.epoch}, {stop_text(record.reason)}"
        return f"{value_text(trial.value)} at epoch {record.best_epoch}, {value_text(record.last_value)} {end}"
    if record.exploded:
        return f"none: exploded in epoch {record.epoch}"
    if trial.state == "FAIL":
        return f"none: failed, {plain_line(str(record.reason))}"
    return "none yet"


def _print_seeds(trained: Trained) -> None:
    rows = []
    for trial in trained.evidence.trials:
        diagnosis = trained.diagnoses.get(trial.number)
        rows.append((trial.params[SEED], ending_text(trial), diagnosis.verdict if diagnosis else "-"))
    show_table(("seed", trained.evidence.metric.column, "verdict"), rows, right=frozenset({"seed"}))
