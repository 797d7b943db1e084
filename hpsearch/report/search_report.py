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
from hpsearch.errors import ConfigError, Typed
from hpsearch.report import history
from hpsearch.report.album import Album
from hpsearch.report.best_net import load_best
from hpsearch.report.ensembles import ensembles
from hpsearch.report.figures.ranges import _ranges_info, choices_rows, plot_ranges
from hpsearch.report.inside import inside_section
from hpsearch.report.mistakes import mistakes_section
from hpsearch.report.page import render_page
from hpsearch.report.stage import StageData, read_stage
from hpsearch.report.stage_cards import stage_context
from hpsearch.report.words import Summary, lineage_of, summarize
from hpsearch.space import format_value
from hpsearch.storage import Database, list_studies
from hpsearch.version import __version__
from hpsearch.wording import count_text, value_text

SEARCHED = ("coarse", "fine")  # kinds of stages that a report is about; trainings, where there are none

MAX_NAMED = 6  # stages of other searches


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
    stages = [read_stage(db, name, thorough=True) for name in dict.fromkeys(names or _own_stages(db))]
    drawn = [stage for stage in stages if stage.record.kind != "check"]
    album = Album()
    summary = summarize(drawn, advise(db, drawn[-1].evidence))
    ranges = [
        album.add(f"ranges-{info.param}", plot_ranges(info), info.param, "Logarithmic scale." if info.log else "")
        for info in _ranges_info(drawn)
    ]
    opened = summary.study or drawn[-1].name  # what the headline is about comes first
    shown = [stage_context(album, index, stage, opened) for index, stage in enumerate(drawn)]
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
        together=list(dict.fromkeys(stage.together.text for stage in drawn if stage.together is not None)),
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
    called = best_called_again(stage.summary.repeated)
    return {
        "value": value_text(stage.best.value if called is None else called.mean),
        "value_name": stage.summary.metric.label + (f", {calls_text(called)}" if called is not None else ""),
        "measures": [
            (LABELS.get(name, name), f"{value:.4f}") for name, value in stage.evidence.measures_of(stage.best).items()
        ],
        "params": [
            (name, format_value(value, stage.best.ranges.get(name)), name in summary.flagged)
            for name, value in stage.best.params.items()
        ],
    }
