"""`python -m benchmarks forecasts`: what pruners save and lose, replayed on curves of trials that nobody stopped.

Each study is replayed in its own order, by packs in lockstep, through the pruner that a stage would have. Nothing is
trained.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import numpy as np

from benchmarks import machine
from benchmarks.search.recording import RECORDED, Recording
from benchmarks.search.tables import Table
from hpsearch.analysis.trial_records import trial_record
from hpsearch.config import StageConfig
from hpsearch.config.metric import Metric
from hpsearch.results import Direction
from hpsearch.stages.proposals import Mirror
from hpsearch.storage import TrialRow, find_study, open_database, read_trials

PROBABILITIES = (0.01, 0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Curves:
    """Of one study; an epoch in which a trial exploded, and those after it, are missing."""

    name: str
    direction: Direction
    values: list[list[float]]
    epochs: int

    def best(self, number: int) -> float:
        """The goodness that the whole training has; -inf for one that explodes."""
        curve = self.values[number]
        return max(map(self.goodness, curve)) if len(curve) == self.epochs else -math.inf

    def goodness(self, value: float) -> float:
        return Metric(direction=self.direction).goodness(value)


@dataclass(frozen=True)
class Replayed:
    """Best values are goodness."""

    epochs: int
    best: float
    stopped: int
    wrongly: int
    """Of the stopped ones, those that would have been better in the end than the best that was found."""


def replay(curves: Curves, settings: StageConfig, width: int) -> Replayed:
    """What a stage with a pruner spends and finds."""
    count = len(curves.values)
    rows = [TrialRow(number, number, "WAITING") for number in range(count)]
    settings = settings.model_copy(update={"trials": count, "epochs": curves.epochs})
    mirror = Mirror("replayed", {}, settings, rows, windowed=False, metric=Metric(direction=curves.direction))
    spent, best, stopped = 0, -math.inf, []
    for first in range(0, count, width):
        live = list(range(first, min(first + width, count)))
        for number in live:
            mirror.adopt(number, {})
        for epoch in range(1, curves.epochs + 1):
            spent += len(live)
            for number in [each for each in live if len(curves.values[each]) < epoch]:
                mirror.finish(number, None, exploded=True)
                live.remove(number)
            asked = [number for number in live if mirror.report(number, epoch, curves.values[number][epoch - 1])]
            for number in asked if epoch < curves.epochs else []:
                best = max(best, *map(curves.goodness, curves.values[number][:epoch]))
                mirror.finish(number, None)
                live.remove(number)
                stopped.append(number)
        for number in live:
            best = max(best, curves.best(number))
            mirror.finish(number, max(curves.values[number], key=curves.goodness))
    return Replayed(spent, best, len(stopped), sum(curves.best(number) > best for number in stopped))


def stored(url: str, name: str) -> Curves:
    """The curves of a study that was trained without a pruner."""
    db = open_database(url)
    study = find_study(db, name)
    trials = sorted(read_trials(db, study), key=lambda trial: trial.number)
    db.close()
    values = []
    for trial in trials:
        last = trial_record(trial).epoch if trial.state != "COMPLETE" else None
        ends = math.inf if last is None else last  # the epoch in which it exploded has no value
        values.append([value for epoch, value in sorted(trial.intermediate.items()) if epoch < ends])
    return Curves(name, study.directions[0], values, max(map(len, values)))


def recorded(seeds: int, trials: int) -> list[Curves]:
    """Random trials of the table of a convnet on CIFAR-10, as many for each seed."""
    found = Table(Recording.load(RECORDED / "convnet.npz")).curves
    rows = [np.random.default_rng(seed).permutation(len(found))[:trials] for seed in range(seeds)]
    values = [[[float(value) for value in found[row] if not math.isnan(value)] for row in some] for some in rows]
    return [Curves(f"convnet {seed}", "maximize", curves, found.shape[1]) for seed, curves in enumerate(values)]


def ways() -> dict[str, StageConfig]:
    none = StageConfig()
    found = {"none": none}
    for min_epochs in (4, 8):
        options = {"n_warmup_steps": min_epochs}
        found[f"median from {min_epochs}"] = none.model_copy(update={"pruner": "median", "pruner_options": options})
        for probability in PROBABILITIES:
            options = {"probability": probability, "min_epochs": min_epochs}
            chosen = none.model_copy(update={"pruner": "extrapolation", "pruner_options": options})
            found[f"extrapolation {probability} from {min_epochs}"] = chosen
    return found


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks forecasts", description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="*", help="of a storage, trained to the end; without any, a recorded table")
    parser.add_argument("--storage", help="URL of their database")
    parser.add_argument("--seeds", type=int, default=20, help="of the table")
    parser.add_argument("--trials", type=int, default=48, help="of the table, for each seed")
    parser.add_argument("--width", type=int, default=8, help="trials that train at once")
    given = parser.parse_args(arguments)
    if given.studies:
        studies = [stored(given.storage, name) for name in given.studies]
    else:
        studies = recorded(given.seeds, given.trials)
    print(f"{machine.about('optuna')}\n{len(studies)} studies, packs of {given.width}\n")
    print("| pruner | epochs | of all | mean best lost | most lost | stopped | of these, better than the best found |")
    print("|---|---|---|---|---|---|---|")
    whole = [replay(curves, StageConfig(), given.width) for curves in studies]
    for name, settings in ways().items():
        found = [replay(curves, settings, given.width) for curves in studies]
        spent, all_ = sum(each.epochs for each in found), sum(each.epochs for each in whole)
        lost = [full.best - each.best for full, each in zip(whole, found, strict=True)]
        stopped, wrongly = sum(each.stopped for each in found), sum(each.wrongly for each in found)
        share = f"{wrongly} ({wrongly / stopped:.1%})" if stopped else "-"
        print(
            f"| {name} | {spent / len(found):.0f} | {spent / all_:.0%} | {np.mean(lost):.4f} | {max(lost):.4f} "
            f"| {stopped / len(found):.1f} | {share} |",
            flush=True,
        )
