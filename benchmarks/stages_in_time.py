"""A whole search within a time: `hpsearch coarse`, then `hpsearch fine --from coarse`, one after the other, as typed.

What coarse leaves of the time is fine's. Trials of both count from when they ended; they find something if they have
seen all epochs, as in every way to search.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.peers.ended import Ended
from benchmarks.peers.ways import Timed, ended_of, first_start, run_stage, trials_of
from benchmarks.peers.work import Work
from hpsearch.storage import TrialRow

FINE_TRIALS = 20  # where nothing is said
LEAST_SECONDS = 1.0  # in less no command has a trial that ends, and an interpreter that is starting takes no Ctrl-C


@dataclass(frozen=True)
class Budget:
    """What is trained: epochs over all trials of coarse, and trials of fine, which have `epochs` each."""

    epochs: int
    coarse_epochs: int
    fine_trials: int

    @classmethod
    def of(cls, epochs: int, coarse_epochs: int | None, fine_trials: int | None) -> Self:
        """What is None follows from the other: a third of all epochs is coarse's."""
        if fine_trials is None:
            fine_trials = FINE_TRIALS if coarse_epochs is None else max(1, 2 * coarse_epochs // epochs)
        if coarse_epochs is None:
            coarse_epochs = max(1, epochs * fine_trials // 2)
        return cls(epochs, coarse_epochs, fine_trials)


@dataclass(frozen=True)
class Stage:
    """A command, the stage that it makes, and whether its trials may see all epochs."""

    name: str
    words: list[str]
    is_whole: bool = True


def halved(budget: Budget) -> list[Stage]:
    """Rungs over a budget in epochs; then whatever sampler fits, which learns from all those trials."""
    words = ["--epochs-budget", str(budget.coarse_epochs), "--epochs", str(budget.epochs)]
    return [_coarse(*words), _fine(budget, "auto")]


def plain(budget: Budget) -> list[Stage]:
    """As many epochs without rungs: a quarter of them for each trial drawn at random, then TPE."""
    short = max(1, budget.epochs // 4)
    trials = max(1, budget.coarse_epochs // short)
    words = ["--trials", str(trials), "--epochs", str(short), "--sampler", "random", "--halving", "none"]
    return [_coarse(*words, is_whole=short == budget.epochs), _fine(budget, "tpe")]


STAGES: dict[str, Callable[[Budget], Sequence[Stage]]] = {"hpsearch-stages": halved, "hpsearch-stages-plain": plain}


def _coarse(*words: str, is_whole: bool = True) -> Stage:
    return Stage("coarse", ["coarse", "-c", "study.toml", *words], is_whole)


def _fine(budget: Budget, sampler: str) -> Stage:
    budget_words = ["--epochs", str(budget.epochs), "--trials", str(budget.fine_trials)]
    return Stage("fine", ["fine", "--from", "coarse", *budget_words, "--sampler", sampler])


def run_stages(work: Work, folder: Path, stages: Sequence[Stage], sets: Mapping[str, str]) -> Timed:
    """The stages in `folder`, within the seconds of the work; Ctrl-C ends the one in which they are over."""
    assert work.seconds is not None, "a whole search is measured within a time"
    folder.mkdir(parents=True)
    (folder / "study.toml").write_text(work.study_file())
    began, spent = time.time(), 0.0
    rows: list[TrialRow] = []
    ended: list[tuple[float, float]] = []
    for stage in stages:
        left = work.seconds - spent
        if left < LEAST_SECONDS:
            break
        spent += run_stage(work, folder, stage.words, sets, left)[1]
        own = trials_of(folder, stage.name, left)
        rows += own
        ended += [(when, value if stage.is_whole else 0.0) for when, value in ended_of(own)]
    return Timed(began, spent, Ended.of(first_start(rows, began + spent), ended))
