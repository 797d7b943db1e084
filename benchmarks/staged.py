"""What benchmarks of stages on surfaces share: trials told, a stage that is proposed, and ways beside each other."""

from __future__ import annotations

import argparse
import json
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import optuna

from benchmarks import machine
from hpsearch.config import Range, StageConfig
from hpsearch.space import Observation
from hpsearch.stages.earlier_trials import EarlierTrial, is_inside
from hpsearch.stages.proposals import Mirror
from hpsearch.storage import TrialRow

Surface = TypeVar("Surface")
Way = Callable[[Surface, int, int, int], float]
"""From a surface, a seed, and how many coarse and fine trials, to what the trial that would be chosen is worth."""


def waiting(num_trials: int) -> list[TrialRow]:
    """The trials of a stage that nobody has begun."""
    return [TrialRow(trial_id=number, number=number, state="WAITING") for number in range(num_trials)]


def told_of(seen: Sequence[Observation], epochs: int, space: Mapping[str, Range]) -> list[EarlierTrial]:
    """Those of a coarse stage that lie in the ranges of a fine one."""
    return [
        EarlierTrial("coarse", epochs, each.params, each.value)
        for each in seen
        if all(is_inside(space[name], value) for name, value in each.params.items())
    ]


def propose(
    space: Mapping[str, Range],
    settings: StageConfig,
    earlier: Sequence[EarlierTrial],
    train: Callable[[Mapping[str, Any]], Sequence[float] | None],
) -> None:
    """A fine stage whose trials are proposed one after the other.

    Args:
        space: what is searched.
        settings: of the stage.
        earlier: what its sampler is told of.
        train: gives the values of a trial epoch by epoch; None where it explodes.
    """
    mirror = Mirror("fine", space, settings, waiting(settings.trials), earlier=earlier)
    for number in range(settings.trials):
        curve = train(mirror.propose(number))
        for epoch, value in enumerate((0.0,) if curve is None else curve, start=1):
            mirror.report(number, epoch, value)
        mirror.finish(number, None if curve is None else max(curve), exploded=curve is None)


def compare(
    parser: argparse.ArgumentParser,
    arguments: list[str],
    surfaces: Mapping[str, Surface],
    ways: Mapping[str, Way[Surface]],
) -> None:
    """Print what each way finds on each surface.

    Args:
        parser: knows seeds, first seed, coarse and fine.
        arguments: of the command.
        surfaces: by name.
        ways: by name.
    """
    parser.add_argument("--ways", default=",".join(ways), help=f"some of {','.join(ways)}")
    parser.add_argument("--surfaces", default=",".join(surfaces), help=f"some of {', '.join(surfaces)}")
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(f"{machine.about('optuna')}\nmean, median and tenth percentile of what was found, {given.seeds} seeds")
    found: dict[str, dict[str, list[float]]] = {}
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    widths = [max(map(len, names)) + 1 for names in (surfaces, ways)]
    for name in given.surfaces.split(","):
        found[name] = {}
        for way in given.ways.split(","):
            values = [ways[way](surfaces[name], seed, given.coarse, given.fine) for seed in seeds]
            found[name][way] = values
            said = " ".join(f"{value:.4f}" for value in (np.mean(values), statistics.median(values), _low(values)))
            print(f"{name:{widths[0]}} {way:{widths[1]}} {said}", flush=True)
    if given.json:
        Path(given.json).write_text(json.dumps({"given": vars(given), "found": found}, indent=1))


def _low(values: Sequence[float]) -> float:
    return float(np.quantile(values, 0.1))
