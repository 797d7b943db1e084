"""The tables of a report: stages, checks, comparisons, uses of the test set, where everything comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpsearch.analysis.origins import origin_of
from hpsearch.analysis.study_trials import params_text
from hpsearch.analysis.uses_of_test_images import place_of_use, uses_of_images
from hpsearch.config import Range
from hpsearch.config.metric import Metric, measures_text
from hpsearch.errors import HpsearchError
from hpsearch.report.album import Album
from hpsearch.report.stage import StageData, trained_seconds
from hpsearch.search.checks.findings import CheckReport
from hpsearch.storage import Database, StudyRow
from hpsearch.wording import duration_text, value_text

MEASURES = "test measures"  # a column of words, which may take several lines


@dataclass(frozen=True)
class Table:
    """Column names, rows of text, and which columns are set flush right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[str, ...] = ()

    def without(self, column: str) -> Table:
        """The same without one of its columns."""
        place = self.columns.index(column)
        columns, *rows = ((*row[:place], *row[place + 1 :]) for row in (self.columns, *self.rows))
        return Table(columns, tuple(rows), tuple(name for name in self.numbers if name != column))


def stage_table(stages: Sequence[StageData]) -> Table:
    """One row per stage."""
    rows = []
    for stage in stages:
        summary = stage.summary
        of = "" if summary.metric.is_accuracy else f"{summary.value_name} "
        best = f"{of}{summary.best_text} (trial {summary.best.number})" if summary.best else "-"
        rows.append(
            (
                stage.name,
                summary.source or "-",
                f"{summary.num_finished} of {summary.num_trials}" if _open(stage) else str(summary.num_trials),
                f"{'up to ' if summary.epochs and summary.spent is not None else ''}{summary.epochs or '-'}",
                best,
                str(stage.record.config_value(stage.record.kind or "", "sampler") or "-"),
                str(summary.num_pruned),
                str(summary.num_exploded),
                str(summary.counts.get("FAIL", 0)),
                duration_text(seconds) if (seconds := trained_seconds(stage.trials)) else "-",
            )
        )
    time = "time" if all(stage.summary.metric.is_own for stage in stages) else "training"
    columns = ("stage", "from", "trials", "epochs", "best", "sampler", "pruned", "exploded", "failed", time)
    table = Table(columns, tuple(rows), ("trials", "epochs", "best", "pruned", "exploded", "failed", time))
    return table if any(stage.record.has_epochs for stage in stages) else table.without("epochs")


def _open(stage: StageData) -> bool:
    return stage.summary.num_finished < stage.summary.num_trials


def tests(stages: Sequence[StageData], studies: Sequence[StudyRow]) -> Table | None:
    """Each use of the test set by any of the stages, and which of its images' uses by all `studies` it is; None
    without any."""
    rows = []
    others = any(not stage.summary.metric.is_accuracy for stage in stages if stage.record.tests)
    for stage in stages:
        metric = stage.summary.metric
        of_images = uses_of_images(stage.evidence.study, studies)
        for use in stage.record.tests:
            low, high = use.get("interval") or (None, None)
            rows.append(
                (
                    stage.name,
                    str(use.get("trial", "-")),
                    *([f"{metric.short} {value_text(use.get('value'))} → {value_text(use.get('score'))}"] * others),
                    value_text(use.get("val_acc")),
                    value_text(use.get("mean")),
                    f"{low:.4f} to {high:.4f}" if low is not None and high is not None else "-",
                    str(use.get("num_test", "-")),
                    _measures(metric, use),
                    str(len(use.get("seeds") or ()) or "-"),
                    str(place_of_use(use, of_images) or "-"),
                    str(use.get("time", "-"))[:16].replace("T", " "),
                )
            )
    columns = (
        "stage", "trial", *(["chosen by: validation → test"] * others), "val_acc", "test_acc", "95% interval",
        "images", MEASURES, "seeds", "use of the images", "when (UTC)",
    )  # fmt: skip
    rows.sort(key=lambda row: (row[-1], row[-2].zfill(6)))  # searches take turns
    return Table(columns, tuple(rows), tuple(c for c in columns[1:] if c != MEASURES)) if rows else None


def _measures(metric: Metric, use: Mapping[str, Any]) -> str:
    """All of a use of the test set, and its metric with a threshold that was found on validation images."""
    said = measures_text(use.get("measures") or {})
    if (at := use.get("score_at_threshold")) is None:
        return said or "-"
    found = ", ".join(f"{each:.4g}" for each in use.get("thresholds") or () if each is not None)
    return f"{said} · {metric.short} {value_text(at)} with threshold {found}, found on validation images"


def checks(stages: Sequence[StageData]) -> list[dict[str, Any]]:
    """What was found before the search, by study."""
    found = []
    for stage in stages:
        if kept := stage.record.checks:
            report = CheckReport.from_dict(kept)
            rows = [(finding.name, finding.outcome, finding.text, finding.advice) for finding in report.findings]
            found.append({"study": stage.name, "rows": rows})
    return found


def comparisons(db: Database, album: Album) -> list[dict[str, Any]]:
    """Samplers compared in this storage: sentences and figures; one that is not finished is left out."""
    from hpsearch.analysis.sampler_comparison_text import summary_sentences
    from hpsearch.analysis.stored_comparisons import list_comparisons, read_comparison
    from hpsearch.report.compare_figures import _curves_info, _finals_info, plot_curves, plot_finals

    found = []
    for name in list_comparisons(db):
        try:
            comparison = read_comparison(db, name)
        except HpsearchError:
            continue
        figures = [
            album.add(
                f"{name}-best-so-far", plot_curves(_curves_info(comparison)), "Best so far", "Mean and 95% band."
            ),
            album.add(f"{name}-finals", plot_finals(_finals_info(comparison)), "In the end", "A dot per seed."),
        ]
        found.append({"name": name, "sentences": summary_sentences(comparison), "figures": figures})
    return found


def provenance(stage: StageData) -> dict[str, Any]:
    """Where a stage's ranges, images and numbers come from."""
    record = stage.record
    rows: list[tuple[str, str]] = []
    if record.source:
        rows.append(("ranges from", record.source))
    for row in record.ranges:
        range_ = stage.evidence.ranges.get(row.param)
        old = f"{_ends(row.old, range_)} → " if row.old else ""
        rows.append((f"range of {row.param}", f"{old}{_ends(row.new, range_)}: {row.reason}"))
    if record.together is not None:
        rows.append(("together", record.together.text))
    for trial in stage.trials:
        if (origin := origin_of(trial.attrs)) is not None:
            rows.append((f"trial {trial.number}", str(origin)))
    if record.chosen_sampler is not None:
        rows.append(("sampler", "{sampler}, as {reason}".format_map(record.chosen_sampler)))
    if record.trained_here:
        shape = " × ".join(map(str, record.images.shape or ()))
        images = f"{shape}, {record.images.num_classes} classes, fingerprint {record.images.fingerprint}"
        rows.append(("images", images))
    if record.versions:
        rows.append(("versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())))
    if record.fingerprint:
        rows.append(("fingerprint of the search", record.fingerprint))
    if stage.best is not None:
        rows.append((f"best trial of {stage.name}", f"{stage.best.number}: {params_text(stage.best, ' · ')}"))
    if record.kind is None:
        rows.append(("made by", "another program"))
    return {"name": stage.name, "rows": rows, "config": _toml(record.config)}


def _ends(ends: Sequence[Any], range_: Range | None) -> str:
    from hpsearch.space import format_value

    return f"[{', '.join(format_value(end, range_) for end in ends)}]"


def _toml(config: Mapping[str, Any] | None) -> str:
    if not config:
        return ""
    import tomli_w

    return tomli_w.dumps(_without_none(config)).strip()


def _without_none(value: Any) -> Any:
    """TOML has no null: such keys are left out."""
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_none(item) for item in value if item is not None]
    return value
