"""The cards of a stage in the report: which figures it has, in which rows, and the words beside each."""

from __future__ import annotations

from typing import Any

from hpsearch.errors import HpsearchError
from hpsearch.logs import get_logger
from hpsearch.report.album import Album, Shown
from hpsearch.report.center import center_data
from hpsearch.report.figures.curves import _curves_info, plot_curves
from hpsearch.report.figures.explosions import _explosions_info, plot_explosions
from hpsearch.report.figures.gap import _gap_info, plot_gap
from hpsearch.report.figures.importance import _importance_info, importance_text, plot_importance
from hpsearch.report.figures.inside import _filters_info, _sparsity_info, plot_filters, plot_sparsity
from hpsearch.report.figures.landscape import LandscapeInfo, _landscape_info, plot_landscape
from hpsearch.report.figures.parallel import _parallel_info, plot_parallel
from hpsearch.report.figures.repeats import _repeats_info, plot_repeats, repeats_note
from hpsearch.report.figures.rungs import _rungs_info, plot_rungs, rungs_note
from hpsearch.report.figures.updates import _updates_info, plot_updates
from hpsearch.report.stage import StageData
from hpsearch.worker.best_weights import load_portrait

log = get_logger(__name__)


def stage_context(album: Album, index: int, stage: StageData, opened: str) -> dict[str, Any]:
    """What the page's template takes of a stage; `index` is its place, `opened` the stage that is shown unfolded."""
    center = center_data(stage)
    num = len(center["trials"])
    return {
        "id": f"s-stage-{index}",
        "name": stage.name,
        "open": stage.name == opened,
        "rows": [row for row in _rows(album, stage) if row],
        "center": center,
        "center_note": _center_note(stage),
        "num_shown": num,
        "has_lr": center["hasLr"],
        "watched": bool(stage.epochs),
        "score": stage.summary.value_name if stage.summary.metric.is_apart else "",
    }


def _center_note(stage: StageData) -> str:
    if stage.summary.metric.is_own:
        if any(trial.intermediate for trial in stage.trials):
            return f"What every trial reported, {stage.record.step_name} by {stage.record.step_name}, on one scale."
        return "Every trial, with its value; nothing was reported on the way."
    if not stage.epochs:
        return f"The {stage.summary.value_name} of every trial, step by step, on one scale."
    return "Every trial, epoch by epoch, on one scale: validation in the colour of its verdict, training in grey."


def _rows(album: Album, stage: StageData) -> list[list[Shown]]:
    """The cards of a stage; those in one row stand side by side where there is room."""
    name = stage.name
    first, again, second, third = [], [], [], []
    if (landscape := _landscape_info(stage)) is not None:
        title, note = landscape_words(landscape)
        first.append(album.add(f"{name}-landscape", plot_landscape(landscape), title, note))
    if (repeats := _repeats_info(stage)) is not None:
        note = repeats_note(repeats)
        again.append(album.add(f"{name}-repeats", plot_repeats(repeats), "The best trials again", note))
    if (rungs := _rungs_info(stage)) is not None:
        again.append(album.add(f"{name}-rungs", plot_rungs(rungs), "What was stopped when", rungs_note(rungs)))
    if (importance := _importance_info(stage)).shares:
        note = importance_text(importance)
        second.append(album.add(f"{name}-importance", plot_importance(importance), "What matters", note))
    else:
        second.append(Shown(None, "What matters", importance.note))
    if (explosions := _explosions_info(stage)) is not None:
        note = f"Share of the trials in each part of the range of {explosions.param}; empty parts had no trials."
        second.append(album.add(f"{name}-explosions", plot_explosions(explosions), "Where trials exploded", note))
    if (parallel := _parallel_info(stage)) is not None:
        note = "Each line is a finished trial; parameters from the most to the least important one, the value last."
        third.append(album.add(f"{name}-parallel", plot_parallel(parallel), "Trials across all parameters", note))
    fourth = [
        album.add(
            f"{name}-{info.axis.split()[0]}",
            plot_curves(info),
            f"The best of {name}: {info.axis}",
            f"Trial {info.number}.",
        )
        for info in _curves_info(stage)
    ]
    fifth = []
    if (gap := _gap_info(stage)) is not None:
        note = "Each trial at its best epoch. The further below the diagonal, the more it overfits."
        fifth.append(album.add(f"{name}-gap", plot_gap(gap), "Training against validation", note))
    if (updates := _updates_info(stage)) is not None:
        note = "Length of the last step over that of the weights; steps far from 1e-3 are too short or too long."
        fifth.append(album.add(f"{name}-updates", plot_updates(updates), "How long the steps are", note))
    return [first, again, second, third, fourth, fifth, _inside(album, stage)]


def landscape_words(info: LandscapeInfo) -> tuple[str, str]:
    """Title and note."""
    title = f"{info.x.param} × {info.y.param}" if info.y else f"{info.value_name} over {info.x.param}"
    flagged = [axis.param for axis in (info.x, info.y) if axis and axis.flagged]
    kinds = {point.kind for point in info.points}
    said = ["Crosses exploded"] if "exploded" in kinds else []
    said += ["the star is the best"] if info.best is not None else []
    notes = [f"{'; '.join(said)}.".capitalize()] if said else []
    if info.together is not None:
        two = "both, where the good ones lie along a line"
        of = two if len(info.together.params) == 2 else "the two of them that share most"
        notes.append(f"{info.together}: this is the plane of {of}.")
    if "halved" in kinds:
        notes.append(f"Hollow ones were {info.halved_name}, and have the colour of their best value until then.")
    if flagged:
        notes.append(f"The red line is the end of {' and '.join(flagged)} on which the best sits: the range was wrong.")
    return title, " ".join(notes)


def _inside(album: Album, stage: StageData) -> list[Shown]:
    try:
        portrait = load_portrait(stage.evidence.study)
    except HpsearchError as error:  # a lost file costs two figures, not the report
        log.warning("%s", error)
        return []
    if portrait is None:
        return []
    whose = f"Trial {portrait.number}, the best of {stage.name}" + (
        f", after epoch {portrait.epoch}" if portrait.epoch is not None else ""
    )
    cards = []
    if (filters := _filters_info(portrait)) is not None:
        channels, height, width = filters.shape
        few = f"the {filters.num_shown} largest of " if filters.num_shown < filters.num_units else ""
        note = (
            f"{whose}: {few}{filters.num_units} units, {height} × {width}"
            f"{' in colour' if channels == 3 else ''}. Smooth shapes have learned; noise has not, or not yet."
        )
        cards.append(album.add(f"{stage.name}-filters", plot_filters(filters), "First-layer filters", note))
    if (sparsity := _sparsity_info(portrait)) is not None:
        dead = sum(sparsity.num_dead.values())
        note = f"{whose}. " + (
            f"{dead} units are 0 for every image: dead." if dead else "No unit is 0 for every image."
        )
        cards.append(album.add(f"{stage.name}-sparsity", plot_sparsity(sparsity), "Silent units", note))
    return cards
