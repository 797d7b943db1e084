"""The report of a search: which studies, which figures, which words; one page of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import plotly.graph_objects as go

from hpsearch.analysis import attributes
from hpsearch.analysis.lineage import advise
from hpsearch.analysis.records import stage_record
from hpsearch.analysis.repeats import best_called_again, calls_text
from hpsearch.analysis.uses_of_test_images import family_of
from hpsearch.config import RunConfig
from hpsearch.config.metric import LABELS
from hpsearch.errors import ConfigError, HpsearchError, Typed
from hpsearch.logs import get_logger
from hpsearch.report import history
from hpsearch.report.album import Album, Shown
from hpsearch.report.best_net import load_best
from hpsearch.report.center import center_data
from hpsearch.report.ensembles import ensembles
from hpsearch.report.figures.curves import _curves_info, plot_curves
from hpsearch.report.figures.explosions import _explosions_info, plot_explosions
from hpsearch.report.figures.gap import _gap_info, plot_gap
from hpsearch.report.figures.importance import _importance_info, importance_text, plot_importance
from hpsearch.report.figures.inside import _filters_info, _sparsity_info, plot_filters, plot_sparsity
from hpsearch.report.figures.landscape import LandscapeInfo, _landscape_info, plot_landscape
from hpsearch.report.figures.parallel import _parallel_info, plot_parallel
from hpsearch.report.figures.ranges import _ranges_info, choices_rows, plot_ranges
from hpsearch.report.figures.repeats import _repeats_info, plot_repeats, repeats_note
from hpsearch.report.figures.rungs import _rungs_info, plot_rungs, rungs_note
from hpsearch.report.figures.updates import _updates_info, plot_updates
from hpsearch.report.inside import inside_section
from hpsearch.report.mistakes import mistakes_section
from hpsearch.report.page import render_page
from hpsearch.report.stage import StageData, read_stage
from hpsearch.report.words import Summary, lineage_of, summarize
from hpsearch.space import format_value
from hpsearch.storage import Database, list_studies
from hpsearch.version import __version__
from hpsearch.wording import count_text, value_text
from hpsearch.worker.best_weights import load_portrait

SEARCHED = ("coarse", "fine")  # kinds of stages that a report is about; trainings, where there are none

MAX_NAMED = 6  # stages of other searches

log = get_logger(__name__)


@dataclass(frozen=True)
class Report:
    """The page, and its figures by the id that they have there."""

    html: str
    figures: dict[str, go.Figure]


def make_report(db: Database, names: Sequence[str] = (), run: RunConfig | None = None) -> Report:
    """Draw the studies `names`, or all stages of the newest search by hpsearch, in the order in which they were made.

    Searches that do not descend from one coarse stage are not drawn together unasked: they may be of other nets, or of
    other images, so that no best, no sum and no title would be true of all. `run` says where images and weights are.

    Raises:
        ConfigError: there is nothing to draw, or a study has several objectives.
        StudyNotFoundError: none is called so.
    """
    stages = [read_stage(db, name) for name in dict.fromkeys(names or _own_stages(db))]
    drawn = [stage for stage in stages if stage.record.kind != "check"]
    album = Album()
    summary = summarize(drawn, advise(db, drawn[-1].evidence))
    ranges = [
        album.add(f"ranges-{info.param}", plot_ranges(info), info.param, "Logarithmic scale." if info.log else "")
        for info in _ranges_info(drawn)
    ]
    opened = summary.study or drawn[-1].name  # what the headline is about comes first
    shown = [_stage_context(album, index, stage, opened) for index, stage in enumerate(drawn)]
    best_stage = next((stage for stage in drawn if stage.name == opened), None)
    best_net = load_best(best_stage, run or RunConfig()) if best_stage is not None else None
    mistakes = inside = None
    if best_stage is not None and best_net is not None:
        mistakes = mistakes_section(album, best_stage, best_net)
        inside = inside_section(album, best_stage, best_net)
    comparisons = history.comparisons(db, album) if not names else []
    checks = history.checks([*stages, *([] if names else _check_studies(db, stages))])
    averaged = ensembles(drawn)
    tests = history.tests(drawn, list_studies(db))
    html = render_page(
        "report.html",
        title=_title(drawn),
        figures=album.figures,
        data={"centers": {context["id"]: context.pop("center") for context in shown}},
        scripts=["center.js"],
        subtitle=_subtitle(drawn, [] if names else _left_out(db, drawn)),
        sections=_sections(bool(checks), mistakes is not None, bool(averaged), bool(comparisons), bool(tests)),
        summary=summary,
        best=_best(drawn, summary),
        ranges=ranges,
        choices=choices_rows(drawn),
        stage_table=history.stage_table(drawn),
        stages=shown,
        checks=checks,
        mistakes=mistakes,
        ensembles=averaged,
        inside=inside,
        comparisons=comparisons,
        tests=tests,
        provenance=[history.provenance(stage) for stage in stages],
        made=f"Made by hpsearch {__version__} on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.",
    )
    return Report(html, album.figures)


def _own_stages(db: Database) -> list[str]:
    studies = list_studies(db)
    for kinds in (SEARCHED, (attributes.TRAIN,)):
        if own := [study for study in studies if stage_record(study).kind in kinds]:
            family = {study.name for study in family_of(own[-1], studies)}
            return [study.name for study in own if study.name in family]
    if not studies:
        raise ConfigError(
            f"there are no studies in {db.url} yet.\nStart with: ", Typed(("hpsearch", "coarse"), anew=True)
        )
    names = ", ".join(repr(study.name) for study in studies[-5:])
    raise ConfigError(f"no stage of a search by hpsearch is in {db.url}.\nName the studies to draw: {names}.")


def _check_studies(db: Database, stages: Sequence[StageData]) -> list[StageData]:
    known = {stage.name for stage in stages}
    checks = [study for study in list_studies(db) if stage_record(study).kind == "check"]
    return [read_stage(db, study.name) for study in checks if study.name not in known]


def _title(stages: Sequence[StageData]) -> str:
    source = stages[-1].record.config_value("data", "source")
    return f"Search on {source}" if source else f"Search {stages[-1].name}"


def _left_out(db: Database, drawn: Sequence[StageData]) -> list[str]:
    """Stages of other searches."""
    known = {stage.name for stage in drawn}
    return [row.name for row in list_studies(db) if stage_record(row).kind in SEARCHED and row.name not in known]


def _subtitle(stages: Sequence[StageData], left_out: Sequence[str]) -> str:
    """The stages that led to the last one, those beside them, and what is not drawn."""
    lineage = lineage_of(stages[-1], stages)
    beside = [stage.name for stage in stages if stage not in lineage]
    parts = [" → ".join(stage.name for stage in lineage)]
    parts += [f"beside it {', '.join(beside)}"] if beside else []
    parts.append(count_text(sum(len(stage.trials) for stage in stages), "trial"))
    models = dict.fromkeys(m for stage in stages if (m := stage.record.config_value("model", "name")) is not None)
    parts += [f"model {', '.join(models)}"] if models else []
    if left_out:
        names = ", ".join(left_out[:MAX_NAMED])
        names += f" and {more} more" if (more := len(left_out) - MAX_NAMED) > 0 else ""
        parts.append(f"not drawn, as they are other searches: {names}")
    return " · ".join(parts)


def _sections(checks: bool, mistakes: bool, ensembles: bool, comparisons: bool, tests: bool) -> list[tuple[str, str]]:
    sections = [
        ("s-summary", "Summary", True),
        ("s-stages", "Stages", True),
        ("s-checks", "Checks", checks),
        ("s-trials", "Trials", True),
        ("s-mistakes", "Mistakes", mistakes),
        ("s-ensemble", "Ensemble", ensembles),
        ("s-inside", "Inside", mistakes),
        ("s-comparisons", "Comparisons", comparisons),
        ("s-test", "Test set", tests),
        ("s-provenance", "Provenance", True),
    ]
    return [(id_, name) for id_, name, there in sections if there]


def _best(stages: Sequence[StageData], summary: Summary) -> dict[str, Any] | None:
    stage = next((stage for stage in stages if stage.name == summary.study), None)
    if stage is None or stage.best is None:
        return None
    flagged = {verdict.param for verdict in stage.on_boundary}
    called = best_called_again(stage.summary.repeated)
    return {
        "value": value_text(stage.best.value if called is None else called.mean),
        "value_name": stage.summary.metric.label + (f", {calls_text(called)}" if called is not None else ""),
        "measures": [
            (LABELS.get(name, name), f"{value:.4f}") for name, value in stage.evidence.measures_of(stage.best).items()
        ],
        "params": [
            (name, format_value(value, stage.best.ranges.get(name)), name in flagged)
            for name, value in stage.best.params.items()
        ],
    }


def _stage_context(album: Album, index: int, stage: StageData, opened: str) -> dict[str, Any]:
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
        title, note = _landscape_words(landscape)
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


def _landscape_words(info: LandscapeInfo) -> tuple[str, str]:
    title = f"{info.x.param} × {info.y.param}" if info.y else f"{info.value_name} over {info.x.param}"
    flagged = [axis.param for axis in (info.x, info.y) if axis and axis.flagged]
    kinds = {point.kind for point in info.points}
    said = ["Crosses exploded"] if "exploded" in kinds else []
    said += ["the star is the best"] if info.best is not None else []
    notes = [f"{'; '.join(said)}.".capitalize()] if said else []
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
