"""The page of a comparison: who found the better trials, who won, and why."""

from __future__ import annotations

from hpsearch.analysis.sampler_comparison import Comparison, band
from hpsearch.analysis.sampler_comparison_text import band_text, budget_text, notes, summary_sentences, wins_text
from hpsearch.report.compare_figures import (
    ImportanceInfo,
    _curves_info,
    _finals_info,
    plot_curves,
    plot_finals,
    plot_importance,
)
from hpsearch.report.compare_plane import _planes_info, plot_plane
from hpsearch.report.page import render_page
from hpsearch.version import __version__

MAX_PLANES = 10  # repeats that can be looked at; more would make the page large and say the same


def compare_page(comparison: Comparison) -> str:
    """One offline HTML file as text."""
    repeats = comparison.repeats[:MAX_PLANES]
    figures = {"curves": plot_curves(_curves_info(comparison)), "finals": plot_finals(_finals_info(comparison))}
    titles: dict[int, dict[str, str]] = {}
    for repeat in repeats:
        for info in _planes_info(comparison, repeat):
            figures[f"plane-{info.search.sampler}-{repeat}"] = plot_plane(info)
            titles.setdefault(repeat, {})[info.search.sampler] = _plane_title(comparison, repeat, info.search.sampler)
    if comparison.importances:
        figures["importance"] = plot_importance(ImportanceInfo(dict(comparison.importances)))
    return render_page(
        "compare.html",
        title=f"{comparison.name}: {', '.join(comparison.samplers)}",
        figures=figures,
        heading=_heading(comparison.samplers),
        subtitle=f"{comparison.name}: {budget_text(comparison)}, equal seeds",
        summary=summary_sentences(comparison),
        notes=notes(comparison),
        table=_table(comparison),
        curves_note=(
            f"Mean over {len(comparison.repeats)} repeats; the band is its 95% confidence interval (Student's t). "
            f"A guess ({comparison.guessing:.3g}) counts as found from the start."
        ),
        planes_note=_planes_note(comparison),
        repeats=repeats,
        samplers=comparison.samplers,
        plane_titles=titles,
        has_importance=bool(comparison.importances),
        importance_note=(
            "Share of each parameter in what lifts a trial into the best tenth (PED-ANOVA), over the trials of all "
            "samplers and repeats. Explosions count as guesses."
        ),
        provenance=f"hpsearch {__version__} · studies {comparison.name}/SAMPLER/REPEAT in the storage",
    )


def _heading(samplers: tuple[str, ...]) -> str:
    *others, last = samplers
    if len(others) == 1:
        return f"{others[0].capitalize()} against {last}"
    return f"{', '.join(others).capitalize()} and {last} compared"


def _table(comparison: Comparison) -> dict[str, object]:
    numbers = [f"best {comparison.metric.column}", "wins", *(f"values of {param}" for param in comparison.ranges)]
    rows = [
        [
            sampler,
            band_text(band(comparison.finals[sampler])),
            wins_text(comparison, sampler),
            *(f"{count:.3g}" for count in comparison.distinct(sampler).values()),
        ]
        for sampler in comparison.samplers
    ]
    return {"columns": ["sampler", *numbers], "rows": rows, "numbers": numbers}


def _plane_title(comparison: Comparison, repeat: int, sampler: str) -> str:
    index = comparison.repeats.index(repeat)
    return f"{sampler}: best {comparison.finals[sampler][index]:.4f}"


def _planes_note(comparison: Comparison) -> str:
    ranked = comparison.ranked_params
    others = "Grey dots are trials of all searches; crosses exploded, and stand where a guess would."
    if len(comparison.repeats) > MAX_PLANES:
        others += f" Here are the first {MAX_PLANES} of {len(comparison.repeats)} repeats."
    if len(ranked) == 1:
        return f"The trials of one search over {ranked[0]}. A thin line stands on each value that was tried. {others}"
    where = (
        f"across {ranked[0]}, which matters most, and up {ranked[-1]}, which matters least"
        if comparison.importances
        else f"across {ranked[0]} and up {ranked[-1]}"
    )
    return (
        f"The trials of one search in the plane: {where}. Above it and beside it is what the trials gave along each "
        f"axis, a thin line on each value that was tried: a grid spends whole rows on one value. "
        f"The stronger the shade of a dot, the better the trial. {others}"
    )
