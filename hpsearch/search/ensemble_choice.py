"""Which trainings an ensemble is made of: of the best trials of a study, or of one, with as many seeds as asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hpsearch.analysis.best_trial import best_or_refuse
from hpsearch.analysis.records import stage_record
from hpsearch.analysis.study_trials import StudyTrials
from hpsearch.config import RunConfig, differences
from hpsearch.errors import ConfigError, RefusedError
from hpsearch.search.ensemble_members import Wanted, is_kept
from hpsearch.search.ensemble_snapshots import refuse_without_cycles
from hpsearch.search.stored_trials import StoredTrial, how_it_stands, stored_trial
from hpsearch.storage import TrialRow
from hpsearch.wording import count_text

DEFAULT_TOP = 5
SPLIT = (
    "val",
    "seed",
    "limit",
    "group",
    "resize",
)  # keys of [data] that decide which images validate, and how files look


def wanted_members(
    evidence: StudyTrials,
    run: RunConfig,
    *,
    top: int | None = None,
    number: int | None = None,
    num_seeds: int = 1,
    bagged: bool = False,
    snapshots: bool = False,
    kept_only: bool = False,
) -> list[Wanted]:
    """The best trials of a study, the best one first, each with its own seed and those that follow it.

    Args:
        evidence: a stage of ours.
        run: where weights are kept.
        top: so many trials; None: 5, or as many as there are; with several seeds or snapshots, 1.
        number: this trial instead.
        num_seeds: of each trial.
        bagged: train all of them on images drawn with replacement.
        snapshots: of each training its states at the ends of the cycles of its rate.
        kept_only: only trials whose weights are kept.

    Raises:
        ConfigError: there are not so many, or no such trial, or one has no snapshots.
        RefusedError: none has finished, or has its weights kept; or as `stored_trial`.
    """
    best_or_refuse(evidence)
    if number is not None:
        chosen = [_finished_trial(evidence, number)]
    else:
        default = 1 if num_seeds > 1 or snapshots else DEFAULT_TOP
        chosen = _best_trials(evidence, run, top, default, snapshots=snapshots, kept_only=kept_only)
    if snapshots:
        for stored in chosen:
            refuse_without_cycles(stored, (stored_trial(evidence, trial.number) for trial in _ranked(evidence)))
    wanted = [Wanted(stored, stored.seed + k, bagged, snapshots) for stored in chosen for k in range(num_seeds)]
    return wanted if num_seeds == 1 or not evidence.record.is_training else _by_seed(evidence, wanted)


def _finished_trial(evidence: StudyTrials, number: int) -> StoredTrial:
    stored = stored_trial(evidence, number)
    if all(trial.number != number for trial in _ranked(evidence)):
        said = f"trial {number} of {evidence.study.name!r} {how_it_stands(stored.trial)}"
        raise RefusedError(
            f"{said}, so it is no result of the search.\nAllowed: trials that are COMPLETE and have a value."
        )
    return stored


def _best_trials(
    evidence: StudyTrials, run: RunConfig, top: int | None, default: int, *, snapshots: bool, kept_only: bool
) -> list[StoredTrial]:
    study, num, chosen = evidence.study.name, top or default, list[StoredTrial]()
    for trial in _ranked(evidence):
        stored = stored_trial(evidence, trial.number)
        if not kept_only or is_kept(Wanted(stored, stored.seed, snapshots=snapshots), run):
            chosen.append(stored)
        if len(chosen) == num:
            break
    if not chosen and snapshots:
        raise RefusedError(
            f"no snapshots of {study!r} are kept, so --kept leaves no net.\n"
            "Allowed: the same without --kept, which trains the best trial again and keeps them."
        )
    if not chosen:
        raise RefusedError(
            f"no weights of {study!r} are kept, so --kept leaves no net.\n"
            "Allowed: the same without --kept, which trains them again; or a search with --keep all."
        )
    if top is not None and top > len(chosen):
        kept = " whose weights are kept" if kept_only else ""
        raise ConfigError(
            f"--top {top}: {study!r} has {count_text(len(chosen), 'finished trial')}{kept}.\n"
            f"Allowed: 1 to {len(chosen)}{'; without --kept, others are trained again' if kept_only else ''}."
        )
    return chosen


def _by_seed(evidence: StudyTrials, wanted: Sequence[Wanted]) -> list[Wanted]:
    """Of a study whose trials differ by their seed alone: each seed once, by the trial that has it if it finished."""
    own = {(stored := stored_trial(evidence, trial.number)).seed: stored for trial in _ranked(evidence)}
    each_once = {each.seed: each for each in reversed(wanted)}
    return [replace(each, stored=own.get(seed, each.stored)) for seed, each in reversed(each_once.items())]


def _ranked(evidence: StudyTrials) -> list[TrialRow]:
    """All that finished, by value."""
    goodness = evidence.metric.goodness
    finished = [t for t in evidence.trials if t.state == "COMPLETE" and t.value is not None and math.isfinite(t.value)]
    return sorted(finished, key=lambda trial: (-goodness(trial.value), trial.number))


def refuse_other_images(wanted: Sequence[Wanted]) -> None:
    """Say no to trials that were not validated on the same images, or are not compared by the same measure.

    Raises:
        RefusedError: two of them, with what is different.
    """
    first = wanted[0].stored
    for other in (each.stored for each in wanted):
        lines = differences(_compared(first), _compared(other))
        if lines and _compared(first)["images"] != _compared(other)["images"]:
            sources = [{"data": {"source": each.config.data.source}} for each in (first, other)]
            lines = [*differences(sources[0], sources[1]), *lines]
        if lines:
            whose = f"{first.study.name!r} and {other.study.name!r}"
            if first.study.name == other.study.name:
                whose = f"trials {first.trial.number} and {other.trial.number} of {first.study.name!r}"
            raise RefusedError(
                f"{whose} cannot be one ensemble: {'; '.join(lines)}.\n"
                f"Allowed: the same images, {', '.join(f'data.{key}' for key in SPLIT)} and train.metric."
            )


def _compared(stored: StoredTrial) -> dict[str, Any]:
    config = stored.config
    return {
        "images": stage_record(stored.study).images.fingerprint,
        "data": {key: getattr(config.data, key) for key in SPLIT},
        "train": {"metric": config.train.metric},
    }
